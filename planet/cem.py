"""The cross-entropy method of PlaNet (arXiv:1811.04551, Algorithm 2).

The belief starts as N(0, 1) for every entry of every step. Then, ``iterations`` times:

    draw J sequences, clip them to [-1, 1], roll each out from the start
    take the K with the highest returns
    mean <- mean of the K,  std <- sqrt(population variance of the K + 1e-6)

The mean's first action is returned. As published there is no momentum, no warm start and
no sequence kept between iterations.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from common.spaces import ActionSpec
from common.types import Array, Key, Params
from planet.beliefs import Belief, refit
from planet.search import Options, Plan, Proposal, Refit, Rollout, among_best, search


def plan(
    rollout: Rollout,
    params: Params,
    key: Key,
    start: Any,
    *,
    actions: ActionSpec,
    horizon: int = 12,
    iterations: int = 10,
    candidates: int = 1000,
    top: int = 100,
    momentum: float = 0.0,
    discount: float | Array = 1.0,
    draw: bool = False,
    belief: Belief | None = None,
    proposal: Proposal | None = None,
    kept: Proposal | None = None,
    mask: Array | None = None,
) -> Plan:
    """Plans for each environment by itself; to be jitted by the caller.

    Args:
        rollout: The model, and what its last states are worth; see ``planet.value``.
        params: Its parameters.
        key: For the candidates and the model's samples.
        start: Where to plan from ``[N, ...]``.
        actions: The flat action vector.
        horizon: Steps of a sequence, H.
        iterations: How often the belief is refitted.
        candidates: Sequences drawn in each iteration, J.
        top: Sequences that the belief is refitted to, K.
        momentum: Share of the old belief that an iteration keeps.
        discount: How much a reward, or a value, counts by the one a step before; a number, or
            one of each environment ``[N]``.
        draw: Whether the action is the first of a sequence, drawn by what it counted for in the
            last iteration, and not that of the belief's mean.
        belief: Where to begin instead of the initial belief (a warm start).
        proposal: Further sequences, made anew in every iteration.
        kept: Further sequences, made once and tried in every iteration.
        mask: 1 for entries of the action that an environment uses ``[N, A]``, all continuous; the
            others are 0 in all that is tried, and in the plan. None where it uses all.

    Raises:
        UserError: More sequences are to be chosen than there are.
    """

    def update(belief: Belief, sequences: Array, returns: Array) -> Refit:
        # Where fewer than K returns are finite, the others have no say.
        elite = among_best("cem", "top", top, returns) & jnp.isfinite(returns)
        weights = elite / elite.sum(1, keepdims=True)
        new = refit(sequences, weights)
        new = jax.tree.map(lambda x, y: momentum * x + (1 - momentum) * y, belief, new)
        return Refit(new, weights)

    options = Options(actions, horizon, iterations, candidates, discount, draw, proposal, mask)
    return search(update, rollout, params, key, start, options, belief, kept)
