"""The agents that are compared: one preset, three dynamics, as many parameters."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from benchmarks.speed.shapes import Shape
from common.agent import Agent
from common.envs import EnvConfig, make_one

TASK = "memory_recall"
DYNAMICS: dict[str, tuple[str, ...]] = {
    "rssm": ("memory",),
    "transformer": ("memory",),
    "s5": ("memory", "s5"),
}
"""Presets of each dynamics."""


def shape_of(dynamics: str, length: int | None = None, rows: int = 1024) -> Shape:
    """Returns the agent with one dynamics, at windows of some length.

    Args:
        dynamics: One of ``DYNAMICS``.
        length: Rows in a window; None leaves the preset as it is. The transformer's layers then
            reach back over all of a window.
        rows: Rows in a batch.
    """
    env = make_one(TASK, EnvConfig(), 0)
    options: dict[str, Any] = {"world_model.dynamics": dynamics}
    if length:
        options |= {"replay.length": length, "replay.batch": max(1, rows // length)}
    shape = Shape(
        f"worlds of memory with {dynamics}",
        DYNAMICS[dynamics],
        env.observation_specs,
        env.action_spec,
        options,
    )
    if length and dynamics == "transformer":
        layers = shape.config().world_model.transformer.layers
        options["world_model.transformer.context"] = 1 + -(-length // layers)
    return shape


def count_parameters(agent: Agent) -> int:
    """Returns how many an agent learns; a slow copy of the critic is not learned."""
    state = jax.eval_shape(agent.init, jax.random.key(0))
    learned = {name: tree for name, tree in state.params.items() if name != "slow_critic"}
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(learned))
