"""Independent normals, and the unit-variance likelihood of decoders and heads."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import chex
import jax
import jax.numpy as jnp

from common.distributions.noise import sum_event
from common.types import Array

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Normal:
    """Independent normal variables.

    Attributes:
        loc: Means, ``[...]``.
        std: Standard deviations, positive, in the shape of the means.
        event_ndims: Trailing axes that ``log_prob``, ``entropy`` and the KL
            divergence sum over: 1 for a vector, 3 for an image.
    """

    loc: Array
    std: Array
    event_ndims: int = dataclasses.field(default=1, metadata={"static": True})
    noise: ClassVar[str] = "normal"

    @property
    def size(self) -> int:
        """Entries of the last axis."""
        return self.loc.shape[-1]

    def log_prob(self, x: Array) -> Array:
        """Returns the log-density at ``x``, summed over the event."""
        chex.assert_is_broadcastable(self.loc.shape, jnp.shape(x))
        z = (x - self.loc) / self.std
        return sum_event(-0.5 * z**2 - jnp.log(self.std) - HALF_LOG_TWO_PI, self.event_ndims)

    def entropy(self) -> Array:
        """Returns the differential entropy in nats, summed over the event."""
        per_dimension = jnp.log(self.std) + 0.5 + HALF_LOG_TWO_PI
        return sum_event(jnp.broadcast_to(per_dimension, self.loc.shape), self.event_ndims)

    def mode(self) -> Array:
        """Returns the means."""
        return self.loc

    def mean(self) -> Array:
        """Returns the means."""
        return self.loc

    def sample(self, noise: Array) -> Array:
        """Returns ``loc + std * noise`` for standard normals in the shape of the means."""
        return self.loc + self.std * jnp.asarray(noise, self.loc.dtype)


def unit_normal_log_prob(mean: Array, target: Array, event_ndims: int) -> Array:
    """Returns the log-density of ``target`` under a normal of variance one.

    The constant ``-0.5 ln(2 pi)`` per dimension is included: an image of 64x64x3
    that is reproduced perfectly has the log-density -11292.

    Args:
        mean: Means, ``[..., *event]``.
        target: Values in the same shape.
        event_ndims: Trailing axes that are summed over.
    """
    chex.assert_equal_shape([mean, target])
    dimensions = math.prod(mean.shape[len(mean.shape) - event_ndims :])
    squared_error = sum_event(jnp.square(target - mean), event_ndims)
    return -0.5 * squared_error - dimensions * HALF_LOG_TWO_PI
