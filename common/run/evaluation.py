"""Scores a policy: one episode in each of several environments, of one task or of many."""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from common.envs.base import Envs
from common.envs.config import EnvConfig
from common.envs.registry import Task
from common.run.clocks import Silence
from common.run.driver import Driver, NumpyRows, Policy
from common.run.environments import MakeEnvs, for_evaluation


class Evaluation(NamedTuple):
    """Episodes of one evaluation.

    Attributes:
        returns: Undiscounted return of each episode ``[E]``.
        lengths: Agent steps of each episode ``[E]``.
        video: First episode as uint8 ``[T, height, width, 3]``; None where not filmed.
    """

    returns: np.ndarray
    lengths: np.ndarray
    video: np.ndarray | None

    def __str__(self) -> str:
        """Says mean and deviation."""
        mean, std = self.returns.mean(), self.returns.std()
        return f"return {mean:.1f} ± {std:.1f} over {len(self.returns)} episodes"


@dataclasses.dataclass(frozen=True)
class Results:
    """Evaluations of one task or of several.

    Attributes:
        tasks: The evaluation of each task.
    """

    tasks: dict[Task, Evaluation]

    @property
    def all(self) -> Evaluation:
        """The episodes of all tasks in one."""
        each = self.tasks.values()
        returns, lengths = (np.concatenate(x) for x in list(zip(*each, strict=True))[:2])
        return Evaluation(returns, lengths, None)

    @property
    def videos(self) -> dict[str, np.ndarray]:
        """What was filmed: "policy", or "policy_<task>" of each of several tasks."""
        name = "policy" if len(self.tasks) == 1 else "policy_{}"
        films = {name.format(task): one.video for task, one in self.tasks.items()}
        return {name: film for name, film in films.items() if film is not None}

    def __str__(self) -> str:
        """Says mean and deviation, and the mean of each of several tasks."""
        means = [f"{task} {one.returns.mean():.1f}" for task, one in self.tasks.items()]
        return f"{self.all}" + (f" ({', '.join(means)})" if len(means) > 1 else "")

    def metrics(self, name: str) -> dict[str, float]:
        """Returns ``{name}/return_mean`` and the like, ``{name}/return/<task>`` of several."""
        returns, lengths, _ = self.all
        scalars = {
            f"{name}/return_mean": float(returns.mean()),
            f"{name}/return_std": float(returns.std()),
            f"{name}/return_min": float(returns.min()),
            f"{name}/return_max": float(returns.max()),
            f"{name}/length_mean": float(lengths.mean()),
        }
        if len(self.tasks) > 1:
            means = {task: float(one.returns.mean()) for task, one in self.tasks.items()}
            scalars |= {f"{name}/return/{task}": mean for task, mean in means.items()}
        return scalars


MakePolicy = Callable[[Envs], Policy]
"""Returns a policy with empty memory for fresh environments."""


def play(
    task: Task,
    config: EnvConfig,
    episodes: int,
    seed: int,
    make_policy: MakePolicy,
    *,
    film: bool = False,
    stop: Callable[[], bool] = lambda: False,
    watch: Callable[[NumpyRows], None] = lambda rows: None,
) -> Results | None:
    """Plays episodes of a task, or as many of each of several tasks.

    There is one environment for each episode, so that no short episode is favoured.

    Args:
        task: As of ``common.envs.make``.
        config: How the environments are built.
        episodes: Episodes of each task.
        seed: Seed of the environments.
        make_policy: Called anew for each task.
        film: As of ``evaluate``.
        stop: As of ``evaluate``.
        watch: As of ``evaluate``.

    Returns:
        The evaluations; None where they were given up.
    """
    makers = for_evaluation(task, config)
    return play_in(makers, episodes, seed, make_policy, film=film, stop=stop, watch=watch)


def play_in(
    makers: Mapping[Task, MakeEnvs],
    episodes: int,
    seed: int,
    make_policy: MakePolicy,
    *,
    film: bool = False,
    stop: Callable[[], bool] = lambda: False,
    watch: Callable[[NumpyRows], None] = lambda rows: None,
) -> Results | None:
    """``play`` in environments of any origin.

    Args:
        makers: Builds the environments of each task, which are closed after its episodes.
        episodes: Episodes of each task.
        seed: Seed of the environments.
        make_policy: Called anew for each task.
        film: As of ``evaluate``.
        stop: As of ``evaluate``.
        watch: As of ``evaluate``.

    Returns:
        The evaluations; None where they were given up.
    """
    results = {}
    for name, make in makers.items():
        envs = make(seed, episodes)
        try:
            result = evaluate(make_policy(envs), envs, film=film, stop=stop, watch=watch)
        finally:
            envs.close()
        if result is None:
            return None
        results[name] = result
    return Results(results)


def evaluate(
    policy: Policy,
    envs: Envs,
    *,
    film: bool = False,
    stop: Callable[[], bool] = lambda: False,
    watch: Callable[[NumpyRows], None] = lambda rows: None,
) -> Evaluation | None:
    """Plays one episode in each environment; says how far it is when that takes long.

    Args:
        policy: Starts with empty memory.
        envs: Fresh from their construction.
        film: Whether to film the first environment.
        stop: Asked before every step; when true the episodes are given up.
        watch: Given the rows ``[N, ...]`` of every step, of the resets too; an environment
            that is done goes on while others play.

    Returns:
        The episodes; None where they were given up.
    """
    driver, silence, steps, begin = Driver(envs), Silence(), 0, time.monotonic()
    returns = np.full(envs.num_envs, np.nan)
    lengths = np.zeros(envs.num_envs, np.int64)
    frames: list[np.ndarray] = []
    driver.act(None)
    watch(driver.receive())
    while (playing := np.isnan(returns)).any():
        if stop():
            return None
        if film and playing[0]:
            picture = envs.render()
            film = picture is not None
            frames += [picture] if film else []
        driver.act(policy)
        watch(driver.receive())
        steps += 1
        for episode in driver.episodes:
            if playing[episode.env]:
                returns[episode.env] = episode.episode_return
                lengths[episode.env] = episode.length
        if silence.too_long():
            over = int((~np.isnan(returns)).sum())
            print(
                f"playing: step {steps:,}, {over} of {envs.num_envs} episodes are over"
                f"{_time_left(steps, envs.max_steps, time.monotonic() - begin)}",
                flush=True,
            )
    return Evaluation(returns, lengths, np.stack(frames) if frames else None)


def _time_left(steps: int, max_steps: int, seconds: float) -> str:
    if not max_steps:
        return ""
    left = datetime.timedelta(seconds=round(seconds / steps * max(max_steps - steps, 0)))
    return f", at most {left} left"
