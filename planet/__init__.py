"""PlaNet: planning in the latent space of a world model."""

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


def train(
    logdir: str | pathlib.Path,
    *,
    presets: str | Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    envs: Envs | MakeEnvs | None = None,
    loggers: Sequence[Sink] = (),
    progress: Watch | None = None,
) -> Result:
    """Trains an agent as ``planet train`` does; see ``dreamer.train``."""
    from common.command import api
    from planet.program import load_program

    handed = {"envs": envs, "loggers": loggers, "progress": progress}
    return api.train(load_program, logdir, presets, options or {}, **handed)


def load(path: str, seed: int = 0) -> LoadedAgent:
    """Loads a trained agent from a run folder or an exported file; see ``dreamer.load``."""
    from common.run.loading import LoadedAgent
    from planet.program import load_program

    return LoadedAgent(load_program(), path, seed)
