"""What a small actor learns by, and what holds the learner near it.

On replayed rows that both have seen, with π and v of the learner and π', v' of the small actor:

    L_policy = mean KL(π ‖ π')
    L_value  = mean ½ (symlog v' − symlog v)²
    L        = c_π L_policy + c_v L_value

Actor-Learner Distillation (arXiv:2104.01655) has such terms, and regularises the learner by a
divergence too. What its abstract does not say is ours: the direction, which is that of imitation
(the small actor does all that the learner might); that the learner's own term is L_policy as well,
as seen from π; and symlog, sign(x) ln(1 + |x|): returns may be of any size, and the square of one
in the hundreds leaves the policy, which the same layers serve, no gradient to learn by.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from common.distributions import Joint, SymlogNormal, kl_divergence, symlog
from common.types import Array


def policy_loss(learner: Joint, small: Joint) -> Array:
    """Returns L_policy of policies at the same rows ``[B, T]``."""
    value = kl_divergence(learner, small)
    chex.assert_rank(value, 2)
    return value.mean()


def value_loss(small: SymlogNormal, target: Array) -> Array:
    """Returns L_value.

    Args:
        small: What the small actor expects at rows ``[B, T]``.
        target: What the learner's critic expects there, v ``[B, T]``; takes no gradient.
    """
    chex.assert_rank(target, 2)
    chex.assert_equal_shape([small.loc, target])
    return 0.5 * jnp.square(small.loc - symlog(jax.lax.stop_gradient(target))).mean()
