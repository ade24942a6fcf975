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

from common.errors import UserError
from common.spaces import ActionSpec
from common.types import Array, Key, Params
from planet.beliefs import Belief, refit
from planet.search import Plan, Proposal, Rollout, search


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
    belief: Belief | None = None,
    proposal: Proposal | None = None,
) -> Plan:
    """Plans for each environment by itself; to be jitted by the caller.

    Args:
        rollout: The model.
        params: Its parameters.
        key: For the candidates and the model's samples.
        start: Where to plan from ``[N, ...]``.
        actions: The flat action vector.
        horizon: Steps of a sequence, H.
        iterations: How often the belief is refitted.
        candidates: Sequences drawn in each iteration, J.
        top: Sequences that the belief is refitted to, K.
        momentum: Share of the old belief that an iteration keeps.
        belief: Where to begin instead of the initial belief (a warm start).
        proposal: Further sequences, tried in every iteration.

    Raises:
        UserError: More sequences are to be chosen than there are.
    """

    def update(belief: Belief, sequences: Array, returns: Array) -> tuple[Belief, Array]:
        if top > returns.shape[1]:
            raise UserError(
                f"cem chooses the best {top} of {returns.shape[1]} candidates; lower top, or raise "
                "candidates"
            )
        best, index = jax.lax.top_k(returns, top)
        elite = jnp.take_along_axis(sequences, index[:, :, None, None], 1)
        # Where fewer than K returns are finite, the others have no say.
        weights = jnp.isfinite(best) / jnp.isfinite(best).sum(1, keepdims=True)
        new = refit(elite, weights)
        new = jax.tree.map(lambda x, y: momentum * x + (1 - momentum) * y, belief, new)
        return new, jnp.where(weights > 0, weights * best, 0).sum(1)

    return search(
        update, rollout, params, key, start, actions=actions, horizon=horizon,
        iterations=iterations, candidates=candidates, belief=belief, proposal=proposal,
    )  # fmt: skip
