"""Several tasks learned by one TD-MPC2: embeddings, and what tasks differ in.

A latent state then carries its task, one-hot, behind its L entries: [z, task]. What reads the
state reads [z, e] with the task's embedding e, so that nobody else need know of tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from common.errors import UserError
from common.spaces import ObservationSpec
from common.types import Array, Key

LARGEST = 0.02
"""Entries of first embeddings lie between minus this and this."""


class Tasks(NamedTuple):
    """What is known of several tasks.

    Attributes:
        key: The observation that names the task of a row: a one-hot vector ``[tasks]``.
        actions: Entries of the action that each task uses, its first ones.
    """

    key: str
    actions: tuple[int, ...]

    def mask(self, task: Array, size: int) -> Array:
        """Returns 1 for entries of the action that tasks ``[..., tasks]`` use: ``[..., size]``."""
        return task @ np.float32(np.arange(size) < np.array(self.actions)[:, None])


def find_tasks(observations: Mapping[str, ObservationSpec]) -> Tasks | None:
    """Returns the tasks that an observation tells apart; None where none does."""
    for key, spec in observations.items():
        if spec.tasks:
            return Tasks(key, tuple(task.actions for task in spec.tasks))
    return None


def check_tasks(tasks: Tasks, observations: Mapping[str, ObservationSpec]) -> str:
    """Returns the key of the task in the flat observation.

    Raises:
        UserError: It is not there, or of other tasks; or there are images.
    """
    key, amount = tasks.key, len(tasks.actions)
    if key not in observations:
        raise UserError(f"tasks are told by the observation {key!r}, which is not there")
    if observations[key].shape != (amount,):
        size = observations[key].shape[0]
        raise UserError(
            f"the observation {key!r} names {size} tasks; actions are given of {amount}"
        )
    if any(spec.kind == "image" for spec in observations.values()):
        raise UserError("TD-MPC2 learns several tasks from vectors only; these have images")
    return key


def draw_embeddings(key: Key, tasks: int, size: int) -> Array:
    """Draws first embeddings, ``[tasks, size]``."""
    return jax.random.uniform(key, (tasks, size), minval=-LARGEST, maxval=LARGEST)


def limited(table: Array) -> Array:
    """Shortens embeddings ``[..., size]`` longer than 1; the gradient passes as if it had not.

    ``e / (|e| + 1e-7)`` as PyTorch does, which writes them back wherever they are used.
    """
    norm = jnp.linalg.norm(table, axis=-1, keepdims=True)
    short = jnp.where(norm > 1, table / (norm + 1e-7), table)
    return jax.lax.stop_gradient(short) + (table - jax.lax.stop_gradient(table))


def write_back(table: Array, task: Array) -> Array:
    """Returns embeddings of which those of the tasks ``[..., tasks]`` are limited."""
    used = task.reshape(-1, len(table)).max(0)[:, None] > 0
    return jnp.where(used, limited(table), table)
