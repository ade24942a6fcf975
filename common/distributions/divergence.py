"""KL divergences between two distributions of one family, in closed form.

    categorical      Σ p (ln p − ln q)
    normal           ½ (ρ² + δ² − 1) − ln ρ,  ρ = σ_p / σ_q,  δ = (μ_p − μ_q) / σ_q
    tanh of normals  that of the normals: an invertible map changes nothing
    truncated        −H(p) − ln q(m) + v / (2 σ_q²),  m and v the mean and the variance of p

The last holds because ln q is a quadratic function on the support, which both share.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from common.distributions.discrete import OneHot
from common.distributions.gaussian import Normal
from common.distributions.joint import Joint
from common.distributions.noise import sum_event
from common.distributions.squashed import TanhNormal, TruncatedNormal
from common.types import Array

Family = OneHot | Normal | TanhNormal | TruncatedNormal | Joint


def kl_divergence(lhs: Family, rhs: Family) -> Array:
    """Returns KL(lhs || rhs) in nats, ``[...]``, summed over the event.

    Args:
        lhs: ``OneHot``, ``Normal``, ``TanhNormal``, ``TruncatedNormal``, or a ``Joint`` of those.
        rhs: A distribution of the same family and shape.
    """
    match lhs:
        case OneHot():
            log_p, log_q = jax.nn.log_softmax(lhs.logits), jax.nn.log_softmax(rhs.logits)
            return sum_event(jnp.exp(log_p) * (log_p - log_q), lhs.event_ndims)
        case Joint():
            return sum(kl_divergence(*parts) for parts in zip(lhs.parts, rhs.parts, strict=True))
        case TruncatedNormal():
            spread = (lhs.variance() / (2 * rhs.scale**2)).sum(-1)
            return -lhs.entropy() - rhs.log_prob(lhs.mean()) + spread
        case TanhNormal():
            return kl_divergence(Normal(lhs.loc, lhs.std), Normal(rhs.loc, rhs.std))
    ratio = lhs.std / rhs.std
    distance = (lhs.loc - rhs.loc) / rhs.std
    return sum_event(0.5 * (ratio**2 + distance**2 - 1) - jnp.log(ratio), lhs.event_ndims)
