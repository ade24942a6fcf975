"""Likelihoods of what heads predict: normals, as they are or on a log scale."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from common.distributions.gaussian import unit_normal_log_prob
from common.distributions.noise import sum_event
from common.types import Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class UnitNormal:
    """Independent normal variables of variance one, such as the pixels of an image.

    Attributes:
        loc: Means ``[..., *event]``.
        event_ndims: Trailing axes that ``log_prob`` sums over: 0 for a number, 1 for a vector,
            3 for an image.
    """

    loc: Array
    event_ndims: int = dataclasses.field(default=0, metadata={"static": True})

    def log_prob(self, x: Array) -> Array:
        """Returns the log-density ``[...]`` at ``x``, constant included, summed over the event."""
        return unit_normal_log_prob(self.loc, x, self.event_ndims)

    def mean(self) -> Array:
        """Returns the means."""
        return self.loc

    def mode(self) -> Array:
        """Returns the means."""
        return self.loc


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Squared(UnitNormal):
    """Numbers that are scored by their squared error, as DreamerV3 does with observations.

    ``log_prob`` is −Σ (x − loc)², a normal of variance 1/2 without its constant.
    """

    def log_prob(self, x: Array) -> Array:
        """Returns minus the squared error ``[...]``, summed over the event."""
        return -sum_event(jnp.square(x - self.loc), self.event_ndims)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SymlogNormal:
    """Numbers whose symlog is a normal of variance one, for those that grow without bound.

    ln p(x) = ln N(symlog x; loc, 1), without the Jacobian of symlog, as it is used as a loss
    only (arXiv:2301.04104, Eq. 1). ``mean`` is symexp of the mean of the logs, as there.

    Attributes:
        loc: Means on the log scale ``[..., *event]``.
        event_ndims: Trailing axes that ``log_prob`` sums over.
    """

    loc: Array
    event_ndims: int = dataclasses.field(default=0, metadata={"static": True})

    def log_prob(self, x: Array) -> Array:
        """Returns the log-density ``[...]`` of symlog x, summed over the event."""
        return unit_normal_log_prob(self.loc, symlog(x), self.event_ndims)

    def mean(self) -> Array:
        """Returns symexp of the means."""
        return symexp(self.loc)

    def mode(self) -> Array:
        """Returns symexp of the means."""
        return symexp(self.loc)


def symlog(x: Array) -> Array:
    """sign(x) ln(1 + |x|)."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def symexp(x: Array) -> Array:
    """The inverse of ``symlog``."""
    return jnp.sign(x) * jnp.expm1(jnp.abs(x))
