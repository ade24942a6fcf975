"""The search of all planners: draw action sequences, score them, refit the belief.

A planner knows a model only through its ``Rollout``. What tells planners apart is their
``Update``; see ``planet.cem``, ``planet.mppi`` and ``planet.shooting``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from common.spaces import ActionSpec
from common.types import Array, Key, Params
from planet.beliefs import Belief, initial_belief, sample, to_action

Rollout = Callable[[Params, Key, Any, Array], Array]
"""(params, key, start [N, ...], actions [N, J, H, A]) -> returns [N, J].

All that a planner knows of a model. It may return NaN or infinities: such candidates rank
last.
"""

Proposal = Callable[[Params, Key, Any], Array]
"""(params, key, start [N, ...]) -> action sequences [N, P, H, A] to be tried as well."""


class Plan(NamedTuple):
    """What a planner decided.

    Attributes:
        action: Action to take now ``[N, A]``.
        belief: What is left of the search; a warm start shifts it by one step.
        value: Return by which the plan was chosen ``[N]``: of the best candidate, or the
            mean over those that made the plan; -inf where no candidate had a finite one.
    """

    action: Array
    belief: Belief
    value: Array


Update = Callable[[Belief, Array, Array], tuple[Belief, Array]]
"""(belief, sequences [N, J, H, A], returns [N, J]) -> next belief, value [N].

Returns that were not finite are -inf; at least one of each row is finite.
"""


def search(
    update: Update,
    rollout: Rollout,
    params: Params,
    key: Key,
    start: Any,
    *,
    actions: ActionSpec,
    horizon: int,
    iterations: int,
    candidates: int,
    belief: Belief | None,
    proposal: Proposal | None,
) -> Plan:
    """Draws, scores and refits, again and again: the loop of all planners.

    An environment none of whose candidates has a finite return keeps its belief.

    Args:
        update: How scored sequences change the belief; the others are those of ``cem.plan``.
    """
    for amount in (horizon, iterations, candidates):
        chex.assert_scalar_positive(amount)
    num_envs = jax.tree.leaves(start)[0].shape[0]
    chex.assert_tree_shape_prefix(start, (num_envs,))
    belief = initial_belief(actions, num_envs, horizon) if belief is None else belief
    chex.assert_shape(list(belief), (num_envs, horizon, actions.size))

    def iterate(belief: Belief, key: Key) -> tuple[Belief, Array]:
        keys = jax.random.split(key, 3)
        sequences = sample(keys[0], belief, candidates, actions)
        if proposal is not None:
            more = proposal(params, keys[1], start)
            chex.assert_shape(more, (num_envs, None, horizon, actions.size))
            sequences = jnp.concatenate([sequences, more], 1)
        returns = rollout(params, keys[2], start, sequences)
        chex.assert_shape(returns, sequences.shape[:2])
        finite = jnp.isfinite(returns)
        some = finite.any(1)
        ranked = jnp.where(finite, returns, -jnp.inf)
        new, value = update(belief, sequences, jnp.where(some[:, None], ranked, 0))
        chex.assert_trees_all_equal_shapes(new, belief)
        chex.assert_shape(value, (num_envs,))
        belief = jax.tree.map(lambda x, y: jnp.where(some[:, None, None], x, y), new, belief)
        return belief, jnp.where(some, value, -jnp.inf)

    belief, values = jax.lax.scan(iterate, belief, jax.random.split(key, iterations))
    return Plan(to_action(belief.mean[:, 0], actions), belief, values[-1])
