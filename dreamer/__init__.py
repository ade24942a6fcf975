"""Dreamer V1 and V2: an actor and a critic that learn in the imagination of a world model."""

from __future__ import annotations

import pathlib
import runpy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

runpy.run_path(str(pathlib.Path(__file__).resolve().parent.parent / "common" / "guard.py"))

if TYPE_CHECKING:
    from common.envs.base import Envs
    from common.logging import Sink
    from common.run.environments import MakeEnvs
    from common.run.loading import LoadedAgent
    from common.run.progress import Result, Watch

__all__ = ["load", "train"]


def train(
    logdir: str | pathlib.Path,
    *,
    presets: str | Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    envs: Envs | MakeEnvs | None = None,
    loggers: Sequence[Sink] = (),
    progress: Watch | None = None,
) -> Result:
    """Trains an agent; the same call on the same folder goes on with the run.

    ``dreamer.train("runs/walker", presets="dmc_vision", options={"task": "dmc_walker_walk"})`` is
    the command ``dreamer train --configs dmc_vision --task dmc_walker_walk --logdir runs/walker``
    without its report. It works in any thread.

    Args:
        logdir: The run folder.
        presets: Names of presets, composed from left to right; or one.
        options: Options by their dotted path, such as ``{"world_model.rssm.deter": 400}``.
        envs: Environments in place of those of the task, best a function
            ``(seed, amount) -> Envs``; see ``common.run.train.train``.
        loggers: Where metrics and videos go besides the run folder and the terminal.
        progress: Called after every line of the log and every evaluation with a
            ``common.run.progress.Progress``; returns "stop" to end the run.

    Returns:
        ``(finished, frames, updates, logdir)``.

    Raises:
        common.errors.UserError: One line on what is wrong, and what would be right.
    """
    from common.command import api
    from dreamer.program import load_program

    handed = {"envs": envs, "loggers": loggers, "progress": progress}
    return api.train(load_program, logdir, presets, options or {}, **handed)


def load(path: str, seed: int = 0) -> LoadedAgent:
    """Loads a trained agent from a run folder or an exported file.

    ``action, carry = agent.act(observation, carry)`` takes an environment's observation and
    returns its action; the carry is None at the start of an episode.

    Args:
        path: Run folder or exported file.
        seed: Seed of the draws.

    Returns:
        A ``common.run.loading.LoadedAgent``.

    Raises:
        common.errors.UserError: There is no trained Dreamer at that path.
    """
    from common.run.loading import LoadedAgent
    from dreamer.program import load_program

    return LoadedAgent(load_program(), path, seed)
