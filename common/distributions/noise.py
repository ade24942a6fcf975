"""Noise that samples are made from, and sums over the axes of an event."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from common.types import Array, Key

_HALF_STEP = 2.0**-24  # jax.random.uniform returns multiples of 2^-23 in [0, 1)


def uniform_noise(key: Key, shape: Sequence[int]) -> Array:
    """Draws float32 uniforms on the open interval, from 2^-24 to 1 - 2^-24.

    The end points are left out because inverse distribution functions are
    infinite there.

    Args:
        key: A typed PRNG key.
        shape: Shape of the result.
    """
    return jax.random.uniform(key, tuple(shape), jnp.float32) + _HALF_STEP


def normal_noise(key: Key, shape: Sequence[int]) -> Array:
    """Draws float32 standard normals.

    Args:
        key: A typed PRNG key.
        shape: Shape of the result.
    """
    return jax.random.normal(key, tuple(shape), jnp.float32)


def uniform_to_normal(uniform: Array) -> Array:
    """Turns uniforms of any shape into standard normals by the inverse CDF.

    ``2 u - 1`` is exact for the uniforms of ``uniform_noise``, so that ``erf_inv`` loses
    nothing in the tails against ``ndtri``, whose graph is many times larger.
    """
    return math.sqrt(2) * jax.lax.erf_inv(2 * uniform - 1)


def sum_event(x: Array, event_ndims: int) -> Array:
    """Sums over the last ``event_ndims`` axes."""
    return x.sum(tuple(range(-event_ndims, 0))) if event_ndims else x
