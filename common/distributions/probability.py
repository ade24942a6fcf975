"""The same distributions as objects of tensorflow-probability.

For code that wants what that library offers and this package does not need: quantiles,
bijectors, statistics, divergences between any two families. The import takes a second or
two, so that it happens at the first call.
"""

from __future__ import annotations

from typing import Any

from common.distributions.discrete import Bernoulli, OneHot
from common.distributions.gaussian import Normal
from common.distributions.joint import Joint
from common.distributions.likelihoods import UnitNormal
from common.distributions.squashed import TanhNormal, TruncatedNormal


def to_tfp(distribution: Any) -> Any:
    """Returns the distribution as one of ``tensorflow_probability.substrates.jax``.

    What heads of a world model return can be turned as well, for quantiles or divergences:

        to_tfp(model.reward(params, feature)).quantile(0.9)

    Batch and event shapes stay: ``log_prob`` of both objects has the same shape. A sample
    of the result has no straight-through gradient, and that of a truncated normal the exact
    pathwise one.

    Args:
        distribution: ``OneHot``, ``Normal``, ``UnitNormal``, ``Bernoulli``, ``TanhNormal``,
            ``TruncatedNormal``, or a ``Joint`` of those. ``SymlogNormal`` is a loss rather than
            a density and has none.

    Raises:
        TypeError: Anything else.
    """
    from tensorflow_probability.substrates import jax as tfp

    tfd = tfp.distributions
    match distribution:
        case OneHot():
            logits = distribution.logits
            base, inner = tfd.OneHotCategorical(logits=logits, dtype=logits.dtype), 1
            ndims = distribution.event_ndims
        case Normal():
            base, inner = tfd.Normal(distribution.loc, distribution.std), 0
            ndims = distribution.event_ndims
        case UnitNormal():
            base, inner = tfd.Normal(distribution.loc, 1.0), 0
            ndims = distribution.event_ndims
        case Bernoulli():
            base, inner = tfd.Bernoulli(logits=distribution.logits), 0
            ndims = distribution.event_ndims
        case TanhNormal():
            normal = tfd.Normal(distribution.loc, distribution.std)
            base, inner, ndims = tfd.TransformedDistribution(normal, tfp.bijectors.Tanh()), 0, 1
        case TruncatedNormal():
            base = tfd.TruncatedNormal(distribution.loc, distribution.scale, -1.0, 1.0)
            inner, ndims = 0, 1
        case Joint():
            return tfd.Blockwise([to_tfp(part) for part in distribution.parts])
        case _:
            raise TypeError(f"{type(distribution).__name__} has no counterpart in tfp")
    return tfd.Independent(base, ndims - inner) if ndims > inner else base
