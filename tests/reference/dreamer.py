"""Losses of Dreamer V1 and V2 in NumPy, one trajectory and one state at a time.

Rows 0..H of a trajectory: row 0 is a replayed state, row k the state that action k led to.
All arguments are ``[H + 1, N]``, indexed by the row that they belong to; ``log_prob`` and
``entropy`` belong to the policy at a row and the action that it chose there.
"""

from __future__ import annotations

import numpy as np


def lambda_returns(reward, discount, value, lambda_):
    """Returns of one trajectory ``[H]``, from the definition as a mix of n-step returns."""
    horizon = len(reward) - 1
    returns = []
    for t in range(horizon):
        mixed, remaining, collected, reach = 0.0, 1.0, 0.0, 1.0
        for k in range(t, horizon):
            collected += reach * reward[k]
            reach *= discount[k]
            share = 1.0 if k == horizon - 1 else 1 - lambda_
            mixed += remaining * share * (collected + reach * value[k + 1])
            remaining *= lambda_
        returns.append(mixed)
    return np.array(returns)


def v2_losses(
    reward, discount, slow, critic, log_prob, entropy, *, lambda_, gradient, mix, entropy_scale
):
    """Returns the actor's and the critic's loss of DreamerV2."""
    actor, values = [], []
    for n in range(reward.shape[1]):
        target = lambda_returns(reward[:, n], discount[:, n], slow[:, n], lambda_)
        horizon = len(target)
        for k in range(horizon):
            weight = np.prod(discount[:k, n])
            distance = target[k] - critic[k, n]
            values.append(weight * (0.5 * distance**2 + 0.5 * np.log(2 * np.pi)))
            if k > horizon - 2:
                continue
            score = log_prob[k, n] * (target[k + 1] - slow[k, n])
            objective = {
                "dynamics": target[k + 1],
                "reinforce": score,
                "both": mix * target[k + 1] + (1 - mix) * score,
            }[gradient]
            actor.append(-weight * (objective + entropy_scale * entropy[k, n]))
    return np.mean(actor), np.mean(values)


def v1_losses(reward, discount, value, *, lambda_):
    """Returns the actor's and the critic's loss of Dreamer V1: the start state is left out.

    Everything counts as far as the start goes on, which is its discount; V1 itself had 1 there.
    """
    actor, values = [], []
    for n in range(reward.shape[1]):
        imagined = [x[1:, n] for x in (reward, discount, value)]
        target = lambda_returns(*imagined, lambda_)
        for k in range(len(target)):
            weight = discount[0, n] * np.prod(imagined[1][:k])
            actor.append(-weight * target[k])
            distance = target[k] - imagined[2][k]
            values.append(weight * (0.5 * distance**2 + 0.5 * np.log(2 * np.pi)))
    return np.mean(actor), np.mean(values)


def v3_losses(
    reward, discount, value, critic, slow, log_prob, entropy,
    *, lambda_, scale, entropy_scale, slow_scale,
):  # fmt: skip
    """Returns the actor's and the critic's loss of DreamerV3, whose critic is a unit normal here.

    A return begins with the reward of the next state. ``value`` is what bootstraps and is the
    baseline, ``critic`` what learns: the same numbers.
    """
    actor, values = [], []
    for n in range(reward.shape[1]):
        horizon = len(reward) - 1
        target = value[horizon, n]
        for k in reversed(range(horizon)):
            ahead = (1 - lambda_) * value[k + 1, n] + lambda_ * target
            target = reward[k + 1, n] + discount[k + 1, n] * ahead
            weight = np.prod(discount[: k + 1, n])
            gain = log_prob[k, n] * (target - value[k, n]) / scale
            actor.append(-weight * (gain + entropy_scale * entropy[k, n]))
            square = (target - critic[k, n]) ** 2 + slow_scale * (slow[k, n] - critic[k, n]) ** 2
            constant = 0.5 * (1 + slow_scale) * np.log(2 * np.pi)
            values.append(weight * (0.5 * square + constant))
    return np.mean(actor), np.mean(values)


def cloning_loss(log_prob, actions, is_first):
    """Returns the loss of imitating rows; ``log_prob(b, t, action)`` is of the policy at row t."""
    found = []
    for b, flags in enumerate(is_first):
        for t in range(len(flags) - 1):
            if not flags[t + 1]:
                found.append(-log_prob(b, t, actions[b, t + 1]))
    return np.mean(found)
