"""Model-predictive path integral control (Williams et al. 2017, arXiv:1707.02342).

Every sequence counts by the exponential of its return R, so that no candidate is lost:

    w_j = exp((R_j - max R) / temperature) / sum over all,  mean <- sum_j w_j sequence_j

The deviations of the belief stay as they are.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

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
    temperature: float = 1.0,
    belief: Belief | None = None,
    proposal: Proposal | None = None,
) -> Plan:
    """Plans for each environment by itself; arguments as in ``cem.plan``.

    Args:
        temperature: Difference of returns that makes a sequence count e times as much.
    """

    def update(belief: Belief, sequences: Array, returns: Array) -> tuple[Belief, Array]:
        weights = jax.nn.softmax(returns / temperature)
        value = jnp.where(weights > 0, weights * returns, 0).sum(1)
        return refit(sequences, weights, belief.std), value

    return search(
        update, rollout, params, key, start, actions=actions, horizon=horizon,
        iterations=iterations, candidates=candidates, belief=belief, proposal=proposal,
    )  # fmt: skip
