"""Logs of others as a folder that ``run.data`` takes."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np

from common.envs.config import EnvConfig
from common.envs.registry import make
from common.errors import UserError
from common.export import specs_to_json
from common.replay.lerobot.read import SIZE
from common.replay.logs.source import open_log
from common.run.recorded import write_collection
from common.spaces import ActionSpec, ObservationSpec


def import_log(
    source: str,
    out: str | pathlib.Path,
    task: str | None,
    env: EnvConfig,
    repeat: int = 1,
    size: int = SIZE,
) -> str:
    """Writes the episodes of a log into a new folder, all or nothing.

    Args:
        source: As of ``common.replay.logs.source.open_log``.
        out: The folder.
        task: The task that was played, whose environment is built for its spaces alone; None where
            the log says what it holds.
        env: How it is built.
        repeat: Simulator steps of each logged action.
        size: Height and width of pictures of a LeRobot dataset, where there is no task.

    Returns:
        What was done, in one line.

    Raises:
        UserError: The folder is there already or cannot be written, the environment cannot be
            built, or the log cannot be read or does not fit the task.
    """
    folder = pathlib.Path(out).expanduser()
    if folder.exists():
        raise UserError(f"{folder} is there already; delete it, or choose another --out")
    log = open_log(source, *(_spaces(task, env) if task else (None, None)), size)
    record = {"task": task, "log": source, "format": log.kind, "action_repeat": repeat}
    record |= {"env": dataclasses.asdict(env)} if task else {}
    record |= specs_to_json(log.observations, log.actions)
    returns, lengths = write_collection(folder, log.episodes, record, log.amount)
    return (
        f"{len(returns):,} episodes of {log.kind}, {sum(lengths):,} transitions, returns "
        f"{min(returns):g} to {max(returns):g}, mean {np.mean(returns):.4g}: --data {folder}"
    )


def _spaces(task: str, env: EnvConfig) -> tuple[dict[str, ObservationSpec], ActionSpec]:
    envs = make(task, dataclasses.replace(env, amount=1, workers="none"), 0)
    envs.close()
    return envs.observation_specs, envs.action_spec
