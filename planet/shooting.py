"""Random shooting: the best of many random sequences."""

from __future__ import annotations

from typing import Any

import jax

from common.spaces import ActionSpec
from common.types import Array, Key, Params
from planet.beliefs import Belief, refit
from planet.search import Options, Plan, Proposal, Refit, Rollout, search


def plan(
    rollout: Rollout,
    params: Params,
    key: Key,
    start: Any,
    *,
    actions: ActionSpec,
    horizon: int = 12,
    candidates: int = 1000,
    discount: float | Array = 1.0,
    belief: Belief | None = None,
    proposal: Proposal | None = None,
    kept: Proposal | None = None,
    mask: Array | None = None,
) -> Plan:
    """Draws sequences from the belief and takes the best; arguments as in ``cem.plan``.

    The plan's belief has the best sequence as its mean.
    """

    def update(belief: Belief, sequences: Array, returns: Array) -> Refit:
        chosen = jax.nn.one_hot(returns.argmax(1), returns.shape[1])
        return Refit(refit(sequences, chosen, belief.std), chosen)

    options = Options(actions, horizon, 1, candidates, discount, False, proposal, mask)
    return search(update, rollout, params, key, start, options, belief, kept)
