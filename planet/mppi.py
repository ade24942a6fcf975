"""Model-predictive path integral control (Williams et al. 2017, arXiv:1707.02342).

Every sequence counts by the exponential of its return R, so that no candidate is lost:

    w_j = exp((R_j - max R) / temperature) / sum over all,  mean <- sum_j w_j sequence_j

The deviations of the belief stay as they are. TD-MPC2's planner (arXiv:2310.16828) differs in
that only the K best have weights, and the deviations are theirs, between two limits:

    std <- clip(sqrt(sum_j w_j (sequence_j - mean)^2), least, most)
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from common.spaces import ActionSpec
from common.types import Array, Key, Params
from planet.beliefs import Belief, refit
from planet.search import Options, Plan, Proposal, Refit, Rollout, Update, among_best, search


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
    elites: int = 0,
    std_range: tuple[float | Array, float] | None = None,
    discount: float | Array = 1.0,
    draw: bool = False,
    belief: Belief | None = None,
    proposal: Proposal | None = None,
    kept: Proposal | None = None,
    mask: Array | None = None,
) -> Plan:
    """Plans for each environment by itself; arguments as in ``cem.plan``.

    Args:
        temperature: Difference of returns that makes a sequence count e times as much.
        elites: Best sequences that count, K; 0 for all.
        std_range: Least and largest deviation that a belief is refitted to; None to leave its
            deviations as they are.

    Raises:
        UserError: More sequences are to be chosen than there are.
    """

    update = refitting(temperature, elites, std_range)
    options = Options(actions, horizon, iterations, candidates, discount, draw, proposal, mask)
    return search(update, rollout, params, key, start, options, belief, kept)


def refitting(
    temperature: float, elites: int, std_range: tuple[float | Array, float] | None
) -> Update:
    """Returns how MPPI changes its belief; arguments as in ``plan``."""

    def update(belief: Belief, sequences: Array, returns: Array) -> Refit:
        if elites:
            counts = among_best("mppi", "elites", elites, returns)
            returns = jnp.where(counts, returns, -jnp.inf)
        weights = jax.nn.softmax(returns / temperature)
        if std_range is None:
            return Refit(refit(sequences, weights, belief.std), weights)
        new = refit(sequences, weights, variance_floor=0.0)
        return Refit(new._replace(std=jnp.clip(new.std, *std_range)), weights)

    return update
