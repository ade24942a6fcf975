"""Rows of bodies of different sizes side by side, padded to the largest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp

from common.errors import UserError
from common.rows import ROW_KEYS
from common.types import Array, Rows


class Steps(NamedTuple):
    """Rows of one or several bodies, padded with anything to the sizes of the model.

    Attributes:
        observation: ``[B, T, D]``.
        action: Actions that led to the rows ``[B, T, A]``, within [-1, 1].
        reward: ``[B, T]``.
        is_first: Where episodes start ``[B, T]``.
        has_observation: Which observation entries the body has ``[B, D]``.
        has_action: Which action entries it has ``[B, A]``.
    """

    observation: Array
    action: Array
    reward: Array
    is_first: Array
    has_observation: Array
    has_action: Array


def pad(rows: Rows, observation_size: int, action_size: int) -> Steps:
    """Turns the rows ``[B, T, ...]`` of one body into steps of the model's sizes.

    Raises:
        UserError: The body is larger than the model.
    """
    lead = rows["is_first"].shape
    observation = jnp.concatenate([rows[key].reshape(*lead, -1) for key in vector_keys(rows)], -1)
    padded, masks = [], []
    for name, x, size in (
        ("observation", observation, observation_size),
        ("action", rows["action"], action_size),
    ):
        if x.shape[-1] > size:
            raise UserError(f"the {name} has {x.shape[-1]} entries; the model takes {size}")
        padded.append(jnp.pad(x, ((0, 0), (0, 0), (0, size - x.shape[-1]))))
        masks.append(jnp.broadcast_to(jnp.arange(size) < x.shape[-1], (lead[0], size)))
    return Steps(*padded, rows["reward"], rows["is_first"], *masks)


def vector_keys(rows: Mapping[str, Any]) -> list[str]:
    """Keys of the observations in the order in which they stand side by side."""
    return sorted(key for key in rows if key not in ROW_KEYS)


def predicted(steps: Steps) -> Array:
    """What is predicted ``[B, T, D + 1]``: observations and, behind them, rewards."""
    return jnp.concatenate([steps.observation, steps.reward[..., None]], -1)


def present_tokens(steps: Steps) -> Array:
    """Which tokens of a block the body has ``[B, L]``."""
    one = jnp.ones((steps.reward.shape[0], 1), bool)
    return jnp.concatenate([steps.has_observation, one, steps.has_action], 1)
