"""Losses of the actor and the critic on an imagined trajectory.

Rows 0..H: row 0 is a replayed state, row k the state that action k led to. Reward and
discount have the index of the state that they are predicted from. With v the (slow)
critic (DreamerV2, arXiv:2010.02193, Eq. 4 to 6):

    G[t] = r[t] + d[t] ((1 − λ) v[t+1] + λ G[t+1]),  G[H] = v[H],  t = 0..H−1
    w[0] = 1,  w[t+1] = w[t] d[t]

The action of row k + 1 was chosen in state k and first shows in r[k+1], so the actor
pairs state k with G[k+1] and weight w[k], for k = 0..H−2. The critic pairs state k with
G[k] and w[k], for k = 0..H−1. Dreamer V1 (arXiv:1912.01603) leaves out the replayed
state: its critic starts at row 1, its actor weighs G[k+1] by w[k+1], and d[0] is whether the
replayed state goes on, 1 or 0. That is V1's own loss, whose weights begin with 1 at row 1, but
that nothing is learned beyond a terminal state.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from common.learning.returns import discount_weights, lambda_return
from common.nets.heads import Prediction
from common.types import Array


class Returns(NamedTuple):
    """Targets and weights of a trajectory.

    Attributes:
        target: Lambda-returns G ``[H, N]``.
        weight: How much of a state is still reached from the replayed one, w ``[H, N]``; no
            gradient.
    """

    target: Array
    weight: Array


def compute_returns(reward: Array, discount: Array, value: Array, *, lambda_: float) -> Returns:
    """Computes lambda-returns and weights.

    Args:
        reward: ``[H + 1, N]``; the last one is not used.
        discount: ``[H + 1, N]``, the first of the replayed state; the last one is not used.
        value: ``[H + 1, N]``, of the (slow) critic; the first one is not used.
        lambda_: Mixing of the lambda-return.
    """
    chex.assert_rank([reward, discount, value], 2)
    chex.assert_equal_shape([reward, discount, value])
    target = lambda_return(
        reward[:-1], value[:-1], discount[:-1], bootstrap=value[-1], lambda_=lambda_
    )
    return Returns(target, discount_weights(discount[:-1]))


def actor_loss(
    policy: Any,
    action: Array,
    returns: Returns,
    baseline: Array,
    *,
    include_start: bool,
    gradient: str,
    mix: Array | float,
    entropy_scale: Array | float,
    scale: Array | float = 1.0,
) -> tuple[Array, dict[str, Array]]:
    """The actor's loss: − mean w (objective / S + η H(π)).

    objective = G (dynamics), ln π(a) sg(G − v) (reinforce), or ρ G + (1 − ρ) ln π(a) sg(G − v).

    Args:
        policy: Distribution at the features of rows 0..H−2.
        action: Actions of rows 1..H−1 ``[H - 1, N, A]``.
        returns: Of the whole trajectory.
        baseline: Slow critic at rows 0..H−2 ``[H - 1, N]``.
        include_start: Whether weights count from the replayed state (V2) or from row 1 (V1).
        gradient: "dynamics", "reinforce" or "both".
        mix: Share ρ of the gradient through the model ("both" only).
        entropy_scale: Weight η of the entropy.
        scale: How far returns spread, S, so that η means the same for rewards of any size.

    Returns:
        The loss and metrics.
    """
    target = returns.target[1:]
    chex.assert_equal_shape([target, baseline])
    chex.assert_equal_shape_prefix([target, action], 2)
    if gradient == "dynamics":
        objective = target
    else:
        # "reinforce" must not differentiate the sample; in "both" the reference leaves
        # the gradient at the action alive for continuous policies.
        chosen = jax.lax.stop_gradient(action) if gradient == "reinforce" else action
        advantage = jax.lax.stop_gradient(target - baseline)
        objective = policy.log_prob(chosen) * advantage
        if gradient == "both":
            objective = mix * target + (1 - mix) * objective
    entropy = policy.entropy()
    weight = returns.weight[:-1] if include_start else returns.weight[1:]
    loss = -(weight * (objective / scale + entropy_scale * entropy)).mean()
    return loss, {"entropy": entropy.mean(), "entropy_scale": jnp.asarray(entropy_scale)}


def critic_loss(value: Prediction, target: Array, weight: Array, *, include_start: bool) -> Array:
    """The critic's loss: − mean w ln p(sg G; v), with a normal of variance one by default.

    Args:
        value: The critic's distributions at rows 0..H−1 ``[H, N]``.
        target: Lambda-returns ``[H, N]``.
        weight: Of ``compute_returns`` ``[H, N]``.
        include_start: Whether the critic learns the replayed state too (V2) or not (V1).
    """
    chex.assert_rank([target, weight], 2)
    chex.assert_equal_shape([value.mean(), target, weight])
    if not include_start:
        value = jax.tree.map(lambda x: x[1:], value)
        target, weight = target[1:], weight[1:]
    return -(weight * value.log_prob(jax.lax.stop_gradient(target))).mean()
