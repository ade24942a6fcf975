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

DreamerV3 (arXiv:2301.04104, Eq. 4 to 7) values what comes after a state, without its own reward:

    R[t] = r[t+1] + d[t+1] ((1 − λ) v[t+1] + λ R[t+1]),  R[H] = v[H],  t = 0..H−1
    w[0] = d[0],  w[t+1] = w[t] d[t+1]

so that the action of row k + 1 pairs with R[k], w[k] and v[k] at the state k that it was chosen
in, for k = 0..H−1, and the critic with the same.

Its critic also learns from replayed rows 0..T−1, with the imagined returns b[t] = R[0] from them:

    Q[t] = r[t+1] + γ (1 − term[t+1]) ((1 − l[t+1]) b[t+1] + l[t+1] Q[t+1]),  Q[T−1] = b[T−1]
    l[t] = λ (1 − last[t])

where rows with last[t], of which the next one belongs to another episode, learn nothing.
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
        target: Lambda-returns G or R ``[H, N]``.
        weight: How much of a state is still reached from the replayed one, w ``[H, N]``; no
            gradient.
    """

    target: Array
    weight: Array


def compute_returns(
    reward: Array,
    discount: Array,
    value: Array,
    *,
    lambda_: float,
    include_reward: bool = True,
    first: float = 1.0,
) -> Returns:
    """Computes lambda-returns and weights.

    Args:
        reward: ``[H + 1, N]``; the last one is not used, or the first.
        discount: ``[H + 1, N]``, the first of the replayed state; the last one is not used in G.
        value: ``[H + 1, N]``, of the (slow) critic; the first one is not used.
        lambda_: Mixing of the lambda-return.
        include_reward: Whether a state's own reward is part of its return, G, or not, R.
        first: A part of d[0] that w[0] leaves out (of R): the discount factor, where it is none of
            what the model learns.
    """
    chex.assert_rank([reward, discount, value], 2)
    chex.assert_equal_shape([reward, discount, value])
    begin = 0 if include_reward else 1
    end = len(reward) - 1 + begin
    target = lambda_return(
        reward[begin:end], value[:-1], discount[begin:end], bootstrap=value[-1], lambda_=lambda_
    )
    weight = discount_weights(discount[:-1])
    if not include_reward:
        # d[t] carries over what d[0] had more.
        weight = jax.lax.stop_gradient(weight * discount[:-1]) / first
    return Returns(target, weight)


def replay_returns(
    reward: Array, bootstrap: Array, is_last: Array, is_terminal: Array, *,
    discount_factor: float, lambda_: float,
) -> Returns:  # fmt: skip
    """Computes the returns Q of replayed rows, and which of them are learned from.

    Args:
        reward: Of every row ``[T, B]``.
        bootstrap: Imagined returns from every row, b ``[T, B]``.
        is_last: Whether a row ends an episode, or what is held of it ``[T, B]``.
        is_terminal: Whether a row is terminal ``[T, B]``.
        discount_factor: γ.
        lambda_: λ.

    Returns:
        Q and weights, 1 or 0, of rows 0..T−2 ``[T - 1, B]``.
    """
    chex.assert_equal_shape([reward, bootstrap, is_last, is_terminal])
    chex.assert_rank(reward, 2)
    goes_on = 1 - is_last.astype(jnp.float32)
    discount = discount_factor * (1 - is_terminal[1:].astype(jnp.float32))
    target = lambda_return(
        reward[1:], bootstrap[:-1], discount, bootstrap[-1], lambda_=lambda_ * goes_on[1:]
    )
    return Returns(target, goes_on[:-1])


def actor_loss(
    policy: Any,
    action: Array,
    target: Array,
    advantage: Array,
    weight: Array,
    *,
    gradient: str,
    mix: Array | float,
    entropy_scale: Array | float,
    scale: Array | float = 1.0,
) -> tuple[Array, dict[str, Array]]:
    """The actor's loss: − mean w (objective + η H(π)).

    objective = G / S (dynamics), ln π(a) sg(A) (reinforce), or ρ G / S + (1 − ρ) ln π(a) sg(A),
    A = (G − v) / S.

    Args:
        policy: Distribution at the states that it decided in ``[K, N]``.
        action: What it chose there ``[K, N, A]``.
        target: Returns that the choice was the first to change ``[K, N]``.
        advantage: How much more they are than the (slow) critic expected there, A ``[K, N]``.
        weight: Of these states ``[K, N]``.
        gradient: "dynamics", "reinforce" or "both".
        mix: Share ρ of the gradient through the model ("both" only).
        entropy_scale: Weight η of the entropy.
        scale: How far returns spread, S, so that η means the same for rewards of any size.

    Returns:
        The loss and metrics.
    """
    chex.assert_equal_shape([target, advantage, weight])
    chex.assert_equal_shape_prefix([target, action], 2)
    if gradient == "dynamics":
        objective = target / scale
    else:
        # "reinforce" must not differentiate the sample; in "both" the reference leaves
        # the gradient at the action alive for continuous policies.
        chosen = jax.lax.stop_gradient(action) if gradient == "reinforce" else action
        objective = policy.log_prob(chosen) * jax.lax.stop_gradient(advantage)
        if gradient == "both":
            objective = mix * target / scale + (1 - mix) * objective
    entropy = policy.entropy()
    loss = -(weight * (objective + entropy_scale * entropy)).mean()
    return loss, {"entropy": entropy.mean(), "entropy_scale": jnp.asarray(entropy_scale)}


def cloning_loss(policy: Any, action: Array, is_first: Array) -> Array:
    """The actor's loss where it imitates: − mean of ln π(a[t+1] | s[t]) over rows t = 0..T−2.

    The action of row t + 1 was chosen in the state of row t, unless it is the row of a reset; such
    rows do not count. Actions that rounding put beyond [-1, 1] count as those bounds.

    Args:
        policy: Distributions in the states of replayed rows ``[B, T]``.
        action: Actions that led to the rows ``[B, T, A]``.
        is_first: Whether rows begin an episode ``[B, T]``.
    """
    chex.assert_rank([action, is_first], [3, 2])
    counts = ~is_first[:, 1:].astype(bool)
    before = jax.tree.map(lambda x: x[:, :-1], policy)
    log_prob = before.log_prob(jnp.clip(action[:, 1:], -1, 1))
    return -jnp.where(counts, log_prob, 0).sum() / jnp.maximum(counts.sum(), 1)


def critic_loss(
    value: Prediction,
    target: Array,
    weight: Array,
    *,
    include_start: bool,
    slow: Array | None = None,
    slow_scale: float = 0.0,
) -> Array:
    """The critic's loss: − mean w (ln p(sg G; v) + β ln p(sg v'; v)), v' of the slow critic.

    Args:
        value: The critic's distributions at rows 0..H−1 ``[H, N]``.
        target: Lambda-returns ``[H, N]``.
        weight: Of ``compute_returns`` ``[H, N]``.
        include_start: Whether the critic learns the replayed state too (V2) or not (V1).
        slow: What the slow critic expects ``[H, N]``, where the critic is held near it.
        slow_scale: How much it is, β (V3).
    """
    chex.assert_rank([target, weight], 2)
    chex.assert_equal_shape([value.mean(), target, weight])
    log_prob = value.log_prob(jax.lax.stop_gradient(target))
    if slow is not None:
        log_prob += slow_scale * value.log_prob(jax.lax.stop_gradient(slow))
    first = 0 if include_start else 1
    return -(weight * log_prob)[first:].mean()
