"""PlaNet: planning in the latent space of a world model, and planners for any other model.

    from planet import cem
    plan = cem.plan(rollout, params, key, start, actions=spec)

Importing this package loads JAX only when one of the names below is asked for, but ``load``.
"""

from __future__ import annotations

import importlib
import pathlib
import runpy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from common.envs.base import Envs
    from common.logging import Sink
    from common.run.environments import MakeEnvs
    from common.run.loading import LoadedAgent
    from common.run.progress import Result, Watch
    from planet import cem, mppi, shooting
    from planet.beliefs import Belief
    from planet.model import Memory, PlannedModel
    from planet.proposals import random_walk
    from planet.search import Future, Plan, Proposal, Rollout
    from planet.value import Guide, careful, follow, with_value

runpy.run_path(str(pathlib.Path(__file__).resolve().parent.parent / "common" / "guard.py"))

__all__ = [
    "Belief",
    "Future",
    "Guide",
    "Memory",
    "Plan",
    "PlannedModel",
    "Proposal",
    "Rollout",
    "careful",
    "cem",
    "follow",
    "load",
    "mppi",
    "random_walk",
    "shooting",
    "train",
    "with_value",
]

_PLACES = {
    "Belief": "planet.beliefs",
    "Future": "planet.search",
    "Guide": "planet.value",
    "Memory": "planet.model",
    "Plan": "planet.search",
    "PlannedModel": "planet.model",
    "Proposal": "planet.search",
    "Rollout": "planet.search",
    "careful": "planet.value",
    "follow": "planet.value",
    "random_walk": "planet.proposals",
    "with_value": "planet.value",
}
_PLANNERS = ("cem", "mppi", "shooting")


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


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first asked for (PEP 562)."""
    if name in _PLANNERS:
        return importlib.import_module(f"planet.{name}")
    if name not in _PLACES:
        raise AttributeError(f"module 'planet' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    """Lists the public names too."""
    return sorted({*globals(), *__all__})
