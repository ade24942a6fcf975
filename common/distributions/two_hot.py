"""One number of any magnitude as a categorical variable over bins that grow exponentially."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from common.distributions.likelihoods import symexp, symlog
from common.types import Array

_LARGEST = 20.0


@functools.cache
def two_hot_bins(size: int) -> np.ndarray:
    """Returns the places of the bins, float32 ``[size]``, ascending and symmetric.

    They are symexp of even steps from -20 to 20, so that neighbours of zero differ by 0.17 and the
    outermost are at 4.85e8, for 255 of them. An even number has two bins at zero.
    """
    half = np.linspace(-_LARGEST, 0, (size + 1) // 2, dtype=np.float32)
    below = (np.sign(half) * np.expm1(np.abs(half))).astype(np.float32)
    return np.concatenate([below, -below[: size // 2][::-1]])


class _Binned:
    """What choices among bins have in common, on top of ``logits``, ``weights`` and ``mean``."""

    def log_prob(self, x: Array) -> Array:
        """Returns the negative cross-entropy ``[...]`` to the mixture that stands for ``x``."""
        return (self.weights(x) * jax.nn.log_softmax(self.logits)).sum(-1)

    def mode(self) -> Array:
        """Returns the mean: what is asked for is a number, not a bin."""
        return self.mean()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TwoHot(_Binned):
    """A number whose probability is spread over bins (arXiv:2301.04104, Eq. 9 and 10).

    A target is the mixture of its two neighbouring bins with the target as mean. The bins are
    those of ``two_hot_bins``.

    Attributes:
        logits: ``[..., bins]``.
    """

    logits: Array

    @property
    def bins(self) -> np.ndarray:
        """Places of the bins."""
        return two_hot_bins(self.logits.shape[-1])

    def weights(self, x: Array) -> Array:
        """Returns the mixture ``[..., bins]`` that stands for numbers ``[...]``.

        The weight of a bin is one minus the distance to it by the distance of the two; beyond
        the outermost bins all of it is theirs.
        """
        bins = jnp.asarray(self.bins)
        x = jax.lax.stop_gradient(x)
        lower = (bins <= x[..., None]).sum(-1) - 1
        upper = jnp.minimum(lower + 1, bins.size - 1)
        lower = jnp.maximum(lower, 0)
        gap = bins[upper] - bins[lower]
        share = jnp.where(gap > 0, (x - bins[lower]) / jnp.where(gap > 0, gap, 1), 0)[..., None]
        place = jnp.arange(bins.size)
        at = lambda index: (place == index[..., None]).astype(jnp.float32)  # noqa: E731
        return (1 - share) * at(lower) + share * at(upper)

    def mean(self) -> Array:
        """Returns the mean ``[...]``, exactly zero where the probabilities are symmetric.

        Every bin is taken together with its counterpart on the other side of zero: single
        products of the outermost are of the order of 1e6 and would leave their rounding.
        """
        probs, half = jax.nn.softmax(self.logits), self.logits.shape[-1] // 2
        upper, lower = probs[..., -half:], probs[..., :half][..., ::-1]
        return ((upper - lower) * self.bins[-half:]).sum(-1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SymlogTwoHot(_Binned):
    """A number whose symlog is spread over even bins (TD-MPC2, arXiv:2310.16828).

    Unlike in ``TwoHot``, the expectation is taken of the symlog: with bins b_i from low to high,

        y = clip(symlog(x), low, high),  weights linear between the two b_i around y
        mean = symexp(sum_i p_i b_i)

    Attributes:
        logits: ``[..., bins]``, at least 2.
        low: The lowest bin, on the scale of the symlog.
        high: The highest one.
    """

    logits: Array
    low: float = dataclasses.field(default=-10.0, metadata={"static": True})
    high: float = dataclasses.field(default=10.0, metadata={"static": True})

    def weights(self, x: Array) -> Array:
        """Returns the mixture ``[..., bins]`` that stands for numbers ``[...]``."""
        last = self.logits.shape[-1] - 1
        y = jnp.clip(symlog(jax.lax.stop_gradient(x)), self.low, self.high)
        place = (y - self.low) * (last / (self.high - self.low))
        return jnp.maximum(0, 1 - jnp.abs(place[..., None] - jnp.arange(last + 1)))

    def mean(self) -> Array:
        """Returns the number ``[...]`` whose symlog is the mean of the bins."""
        bins = jnp.linspace(self.low, self.high, self.logits.shape[-1])
        return symexp((jax.nn.softmax(self.logits) * bins).sum(-1))
