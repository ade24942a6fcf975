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
    """What choices among bins have in common, on top of ``logits``, ``neighbours`` and ``mean``."""

    def weights(self, x: Array) -> Array:
        """Returns the mixture ``[..., bins]`` that stands for numbers ``[...]``."""
        lower, share = self.neighbours(jax.lax.stop_gradient(x))
        return _two_hot(lower, share, self.logits.shape[-1])

    def log_prob(self, x: Array) -> Array:
        """Returns the negative cross-entropy ``[...]`` to the mixture that stands for ``x``."""
        lower, share = self.neighbours(jax.lax.stop_gradient(x))
        shape = jnp.broadcast_shapes(self.logits.shape[:-1], lower.shape)
        logits = jnp.broadcast_to(self.logits, (*shape, self.logits.shape[-1]))
        return _log_prob(logits, jnp.broadcast_to(lower, shape), jnp.broadcast_to(share, shape))

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

    def neighbours(self, x: Array) -> tuple[Array, Array]:
        """Returns the bin below numbers ``[...]``, and the weight of the one above it.

        The weight of a bin is one minus the distance to it by the distance of the two; beyond
        the outermost bins all of it is theirs.
        """
        bins = jnp.asarray(self.bins)
        above = jnp.searchsorted(bins, x, side="right", method="scan_unrolled")
        lower = jnp.clip(above - 1, 0, bins.size - 2)
        share = (x - bins[lower]) / (bins[lower + 1] - bins[lower])
        return lower, jnp.clip(share, 0, 1)

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

    def neighbours(self, x: Array) -> tuple[Array, Array]:
        """Returns the bin below numbers ``[...]``, and the weight of the one above it."""
        last = self.logits.shape[-1] - 1
        place = (jnp.clip(symlog(x), self.low, self.high) - self.low) * last
        place = place / (self.high - self.low)
        lower = jnp.clip(place.astype(jnp.int32), 0, last - 1)
        return lower, place - lower

    def mean(self) -> Array:
        """Returns the number ``[...]`` whose symlog is the mean of the bins."""
        bins = jnp.linspace(self.low, self.high, self.logits.shape[-1])
        return symexp((jax.nn.softmax(self.logits) * bins).sum(-1))


def _two_hot(lower: Array, share: Array, size: int) -> Array:
    """Returns ``1 - share`` at ``lower``, ``share`` at the next bin, else 0, ``[..., size]``."""
    place, share = jnp.arange(size) - lower[..., None], share[..., None]
    return jnp.where(place == 0, 1 - share, jnp.where(place == 1, share, 0))


@jax.custom_vjp
def _log_prob(logits: Array, lower: Array, share: Array) -> Array:
    """Returns ``sum_i w_i log softmax(logits)_i`` for the ``w`` of ``_two_hot``, all ``[...]``.

    Only two bins are looked up, and the gradient is ``w - softmax(logits)``, so that nothing of
    the size of the logits is made of the target on the way.
    """
    return _log_prob_forward(logits, lower, share)[0]


def _log_prob_forward(logits: Array, lower: Array, share: Array) -> tuple[Array, tuple[Array, ...]]:
    total = jax.nn.logsumexp(logits, -1)
    at = lambda index: jnp.take_along_axis(logits, index[..., None], -1)[..., 0]  # noqa: E731
    log_prob = (1 - share) * at(lower) + share * at(lower + 1) - total
    return log_prob, (logits, total, lower, share)


def _log_prob_backward(kept: tuple[Array, ...], gradient: Array) -> tuple[Array, None, None]:
    logits, total, lower, share = kept
    target = _two_hot(lower, share, logits.shape[-1])
    return gradient[..., None] * (target - jnp.exp(logits - total[..., None])), None, None


_log_prob.defvjp(_log_prob_forward, _log_prob_backward)
