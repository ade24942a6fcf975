"""What acting in a world model remembers of each environment, for every agent."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from common.dynamics.base import Noise, State
from common.model.vectors import Statistics
from common.model.world_model import WorldModel
from common.types import Array, Params, Rows


class LatentMemory(NamedTuple):
    """Latent state ``[N]`` and previous action ``[N, A]`` of each environment."""

    state: State
    action: Array


def empty_memory(model: WorldModel, num_envs: int) -> LatentMemory:
    """Returns the memory before the first row."""
    return LatentMemory(model.initial(num_envs), jnp.zeros((num_envs, model.actions.size)))


def infer_state(
    model: WorldModel,
    params: Params,
    statistics: Statistics | None,
    noise: Noise,
    memory: LatentMemory,
    observation: Rows,
) -> State:
    """Returns the latent state ``[N]`` that the newest rows lead to.

    Args:
        model: The world model.
        params: Its parameters.
        statistics: Of vectors; None for the model's own.
        noise: ``model.draw_noise(key, (N,))``, or None for the mode.
        memory: What was remembered; forgotten where an episode begins.
        observation: Rows ``[N, ...]`` with ``is_first``.
    """
    rows = {**observation, "action": memory.action}
    return model.observe_step(params, noise, memory.state, rows, statistics)
