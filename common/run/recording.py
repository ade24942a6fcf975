"""Episodes that somebody plays, as a folder that ``run.data`` takes."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator

import numpy as np

from common.envs.base import Envs
from common.envs.config import EnvConfig
from common.envs.registry import make
from common.errors import UserError
from common.export import specs_to_json
from common.replay.episodes import Episode
from common.rows import without_log
from common.run.clocks import Silence
from common.run.driver import Driver, NumpyRows
from common.run.evaluation import MakePolicy, time_left
from common.run.recorded import write_collection


class Enough(Exception):
    """Whoever plays wants to play no further; the episodes that are over are kept."""


class Recorder:
    """Keeps the rows of environments that are played side by side."""

    def __init__(self) -> None:
        self._rows: list[NumpyRows] = []

    def __call__(self, rows: NumpyRows) -> None:
        """Takes the rows ``[N, ...]`` of one step."""
        self._rows.append(without_log(rows))

    def episodes(self) -> list[Episode]:
        """Returns the first episode of every environment, with actions as it took them."""
        arrays = {key: np.stack([rows[key] for rows in self._rows]) for key in self._rows[0]}
        arrays["action"] = np.clip(arrays["action"], -1, 1).astype(np.float32)
        ends = arrays["is_last"].argmax(0) + 1
        return [{k: v[:end, env] for k, v in arrays.items()} for env, end in enumerate(ends)]


def record(
    out: str | pathlib.Path,
    task: str,
    env: EnvConfig,
    episodes: int,
    seed: int,
    make_policy: MakePolicy,
    who: str,
    tell: Callable[[str], None] = print,
) -> str:
    """Plays episodes one after the other and writes them into a new folder, all or nothing.

    Args:
        out: The folder.
        task: What is played, or several tasks, of which every episode is a random one.
        env: How the environment is built.
        episodes: How many. They are fewer where the policy raises ``Enough``.
        seed: Seed of the environment.
        make_policy: Called once.
        who: Who plays, for the record.
        tell: Takes a line that says how far a long episode is.

    Returns:
        What was done, in one line.

    Raises:
        UserError: The folder is there already or cannot be written, the environment cannot be
            built or does not suit the policy, an episode does not end, or none was finished.
    """
    folder = pathlib.Path(out).expanduser()
    if folder.exists():
        raise UserError(f"{folder} is there already; delete it, or choose another --out")
    env = dataclasses.replace(env, amount=1, workers="none")
    with contextlib.closing(make(task, env, seed)) as envs:
        record = {"task": task, "policy": who, "seed": seed, "env": dataclasses.asdict(env)}
        record |= {"action_repeat": envs.action_repeat}
        record |= specs_to_json(envs.observation_specs, envs.action_spec)
        played = _played(envs, make_policy, episodes, tell)
        returns, lengths = write_collection(folder, played, record, episodes)
    return (
        f"{len(returns):,} episodes of {task}, {sum(lengths):,} agent steps, returns "
        f"{min(returns):g} to {max(returns):g}, mean {np.mean(returns):.4g}: --data {folder}"
    )


def _played(
    envs: Envs, make_policy: MakePolicy, episodes: int, tell: Callable[[str], None]
) -> Iterator[Episode]:
    driver, policy, silence = Driver(envs), make_policy(envs), Silence()
    begin, done = time.monotonic(), 0
    for number in range(1, episodes + 1):
        recorder, over, steps = Recorder(), False, 0
        driver.act(None)  # The row of a reset, to which no action leads.
        recorder(driver.receive())
        while not over:
            try:
                driver.act(policy)
            except Enough:
                if number == 1:
                    raise UserError("no episode was played to its end; nothing is kept") from None
                return
            recorder(driver.receive())
            over, steps, done = bool(driver.episodes), steps + 1, done + 1
            if driver.overdue.size and not over:
                raise UserError(
                    f"an episode goes on after {steps:,} agent steps; set --env.time_limit, in "
                    "simulator steps"
                )
            if silence.too_long():
                left = time_left(done, episodes * envs.max_steps, time.monotonic() - begin)
                tell(f"episode {number:,} of {episodes:,}, step {steps:,}{left}")
        yield recorder.episodes()[0]
