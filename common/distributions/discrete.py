"""One-hot categorical variables and Bernoulli variables with soft targets."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import chex
import jax
import jax.numpy as jnp

from common.distributions.noise import sum_event
from common.types import Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class OneHot:
    """Categorical variables as one-hot vectors, with straight-through samples.

    One variable (an action) has ``logits [..., K]`` and ``event_ndims`` 1. A latent
    of S independent variables has ``logits [..., S, K]`` and ``event_ndims`` 2;
    ``log_prob``, ``entropy`` and the KL divergence then sum over S.

    Attributes:
        logits: Unnormalised log-probabilities, finite, ``[..., K]`` or ``[..., S, K]``.
        event_ndims: 1 for a single variable, 2 for a row of variables.
    """

    logits: Array
    event_ndims: int = dataclasses.field(default=1, metadata={"static": True})
    noise: ClassVar[str] = "uniform"

    @property
    def size(self) -> int:
        """Classes of one variable, K."""
        return self.logits.shape[-1]

    @property
    def probs(self) -> Array:
        """Probabilities, in the shape of the logits."""
        return jax.nn.softmax(self.logits)

    def log_prob(self, x: Array) -> Array:
        """Returns the log-probability ``[...]`` of one-hot vectors ``x``.

        No gradient reaches ``x``: a straight-through sample would otherwise send
        the derivative of a linear extension that is no probability back to the
        network that sampled it.
        """
        chex.assert_equal_shape_suffix([x, self.logits], 1)
        weighted = jax.lax.stop_gradient(x) * jax.nn.log_softmax(self.logits)
        return sum_event(weighted, self.event_ndims)

    def entropy(self) -> Array:
        """Returns the entropy ``[...]`` in nats."""
        log_probs = jax.nn.log_softmax(self.logits)
        return -sum_event(jnp.exp(log_probs) * log_probs, self.event_ndims)

    def mode(self) -> Array:
        """Returns the most probable classes as one-hot vectors, without a gradient."""
        return jax.nn.one_hot(self.logits.argmax(-1), self.size, dtype=self.logits.dtype)

    def mean(self) -> Array:
        """Returns the probabilities."""
        return self.probs

    def sample(self, noise: Array) -> Array:
        """Samples by the inverse CDF, with the straight-through gradient.

        One uniform for each variable replaces K Gumbel draws. The sums are scaled by
        the last one and compared strictly, so that no rounding picks an impossible class.

        Args:
            noise: Uniforms on (0, 1) in the shape of the logits without K.

        Returns:
            One-hot vectors in the shape of the logits.
        """
        probs = jax.nn.softmax(self.logits.astype(jnp.float32))  # sums are poor in bfloat16
        # A product with a triangle of ones: twice as fast as jnp.cumsum on CPU.
        triangle = jnp.triu(jnp.ones((self.size, self.size)))
        cumulative = jnp.matmul(probs, triangle, precision="highest")
        reached = noise[..., None] * cumulative[..., -1:]
        index = jnp.minimum((cumulative < reached).sum(-1), self.size - 1)
        return self.straight_through(jax.nn.one_hot(index, self.size, dtype=self.logits.dtype))

    def straight_through(self, one_hot: Array) -> Array:
        """Returns ``one_hot`` as if it were a sample: its gradient is that of the probabilities."""
        probs = self.probs
        # The bracket is exactly zero, so that the value stays exactly one-hot.
        return jax.lax.stop_gradient(one_hot) + (probs - jax.lax.stop_gradient(probs))


def mix_uniform(logits: Array, share: float) -> Array:
    """Mixes a uniform distribution into categorical ones: no class is impossible any more.

    p = (1 - share) softmax(logits) + share / K, as in DreamerV3 (arXiv:2301.04104, where the share
    is 0.01).

    Args:
        logits: ``[..., K]``.
        share: Between 0, which leaves the logits as they are, and 1.

    Returns:
        ln p, ``[..., K]``.
    """
    if not share:
        return logits
    return jnp.log((1 - share) * jax.nn.softmax(logits) + share / logits.shape[-1])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Bernoulli:
    """Binary variables whose targets may be probabilities.

    Attributes:
        logits: Log-odds of one, ``[...]``.
        event_ndims: Trailing axes that ``log_prob`` and ``entropy`` sum over.
    """

    logits: Array
    event_ndims: int = dataclasses.field(default=0, metadata={"static": True})

    def log_prob(self, x: Array) -> Array:
        """Returns ``x ln p + (1 - x) ln(1 - p)``, the negative cross-entropy to ``x`` in [0, 1].

        Args:
            x: Targets in the shape of the logits, or one number for all.
        """
        if jnp.ndim(x):
            chex.assert_equal_shape([self.logits, x])
        positive, negative = jax.nn.log_sigmoid(self.logits), jax.nn.log_sigmoid(-self.logits)
        return sum_event(x * positive + (1 - x) * negative, self.event_ndims)

    def entropy(self) -> Array:
        """Returns the entropy in nats: the cross-entropy to the probability itself."""
        return -self.log_prob(jax.nn.sigmoid(self.logits))

    def mode(self) -> Array:
        """Returns 1 where one is more probable than zero, else 0, as floats."""
        return (self.logits > 0).astype(self.logits.dtype)

    def mean(self) -> Array:
        """Returns the probability of one."""
        return jax.nn.sigmoid(self.logits)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Discounted(Bernoulli):
    """A binary variable, one where an episode goes on, that stands for a discount.

    Attributes:
        factor: The discount of one step that is sure; ``mean`` is as much of the probability.
    """

    factor: float = dataclasses.field(default=1.0, metadata={"static": True})

    def mean(self) -> Array:
        """Returns the discount that is expected."""
        return self.factor * super().mean()
