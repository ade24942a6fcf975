"""Beliefs over action sequences: what planners draw their candidates from.

A belief is a distribution over action sequences, independent over time and entries: a
normal for every continuous entry, a categorical for every one-hot block. Its mean says
all about a block (probabilities), and the mean of chosen sequences, one-hot vectors
included, is the next mean. So one formula refits both kinds.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from common.spaces import ActionSpec
from common.types import Array, Key

VARIANCE_FLOOR = 1e-6
"""Added to the variance of refitted normals in PlaNet."""


class Belief(NamedTuple):
    """A distribution over action sequences for each environment.

    Attributes:
        mean: Means of continuous entries, probabilities of one-hot blocks ``[N, H, A]``.
        std: Standard deviations ``[N, H, A]``; unused in one-hot blocks.
    """

    mean: Array
    std: Array


def initial_belief(actions: ActionSpec, num_envs: int, horizon: int, std: float = 1.0) -> Belief:
    """Normals around zero of a given deviation, and uniform probabilities of one-hot blocks."""
    mean = jnp.concatenate(
        [
            jnp.full(part.size, 1 / part.size if part.kind == "categorical" else 0.0)
            for part in actions.parts
        ]
    )
    mean = jnp.broadcast_to(mean, (num_envs, horizon, actions.size))
    return Belief(mean, jnp.full_like(mean, std))


def shift(belief: Belief, actions: ActionSpec, std: float = 1.0) -> Belief:
    """Where the next search begins: the plan one step on, as uncertain as at first.

    A refitted belief is nearly sure of itself and would find nothing else. So deviations are
    those of the initial belief, and probabilities halfway between the plan's and uniform. The
    last step is new.
    """
    new = initial_belief(actions, *belief.mean.shape[:2], std)
    chex.assert_trees_all_equal_shapes(belief, new)
    moved = jnp.concatenate([belief.mean[:, 1:], new.mean[:, -1:]], 1)
    return Belief(jnp.where(in_one_hots(actions), (moved + new.mean) / 2, moved), new.std)


def in_one_hots(actions: ActionSpec) -> Array:
    """Whether each entry of the flat action belongs to a one-hot block, bool ``[A]``."""
    kinds = [jnp.full(part.size, part.kind == "categorical") for part in actions.parts]
    return jnp.concatenate(kinds)


def draw_noise(key: Key, actions: ActionSpec, shape: tuple[int, ...]) -> Array:
    """Draws what ``sample`` needs ``[*shape, A]``: normal, and Gumbel in one-hot blocks."""
    blocks = []
    keys = jax.random.split(key, len(actions.parts))
    for own, part in zip(keys, actions.parts, strict=True):
        draw = jax.random.gumbel if part.kind == "categorical" else jax.random.normal
        blocks.append(draw(own, (*shape, part.size)))
    return jnp.concatenate(blocks, -1)


def sample(noise: Array, belief: Belief, actions: ActionSpec) -> Array:
    """Turns noise into sequences ``[N, J, H, A]``; continuous entries are clipped to [-1, 1].

    Args:
        noise: From ``draw_noise``, of shape ``[N, J, H, A]``.
        belief: Of each environment.
        actions: The flat action vector.
    """
    num_envs, horizon = belief.mean.shape[:2]
    chex.assert_shape(list(belief), (num_envs, horizon, actions.size))
    chex.assert_shape(noise, (num_envs, None, horizon, actions.size))
    blocks, offset = [], 0
    for part in actions.parts:
        window = slice(offset, offset + part.size)
        offset += part.size
        mean, std = belief.mean[:, None, :, window], belief.std[:, None, :, window]
        if part.kind == "categorical":
            chosen = (jnp.log(mean) + noise[..., window]).argmax(-1)
            blocks.append(jax.nn.one_hot(chosen, part.size))
        else:
            blocks.append(jnp.clip(mean + std * noise[..., window], -1, 1))
    return jnp.concatenate(blocks, -1)


def refit(
    sequences: Array,
    weights: Array,
    std: Array | None = None,
    variance_floor: float = VARIANCE_FLOOR,
) -> Belief:
    """Moments of weighted sequences.

    Args:
        sequences: ``[N, J, H, A]``.
        weights: ``[N, J]``, adding up to 1 over J.
        std: Deviations to keep ``[N, H, A]``; None for the (population) deviation of the
            sequences.
        variance_floor: Added to their variance.
    """
    chex.assert_rank(sequences, 4)
    chex.assert_shape(weights, sequences.shape[:2])
    mean = jnp.einsum("nj,njha->nha", weights, sequences)
    if std is None:
        square = jnp.einsum("nj,njha->nha", weights, jnp.square(sequences - mean[:, None]))
        std = jnp.sqrt(square + variance_floor)
    chex.assert_shape(std, mean.shape)
    return Belief(mean, std)


def to_action(mean: Array, actions: ActionSpec) -> Array:
    """Turns a mean ``[..., A]`` into an action: one-hot blocks take their likeliest choice."""
    chex.assert_axis_dimension(mean, -1, actions.size)
    blocks, offset = [], 0
    for part in actions.parts:
        block = mean[..., offset : offset + part.size]
        offset += part.size
        if part.kind == "categorical":
            block = jax.nn.one_hot(block.argmax(-1), part.size)
        blocks.append(block)
    return jnp.concatenate(blocks, -1)
