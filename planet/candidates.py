"""Action sequences, beliefs over them, and what all planners do with both.

A belief is a distribution over action sequences, independent over time and entries: a
normal for every continuous entry, a categorical for every one-hot block. Its mean says
all about a block (probabilities), and the mean of chosen sequences, one-hot vectors
included, is the next mean. So one formula refits both kinds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from common.spaces import ActionSpec
from common.types import Array, Key, Params

Rollout = Callable[[Params, Key, Any, Array], Array]
"""(params, key, start [N, ...], actions [N, J, H, A]) -> returns [N, J].

All that a planner knows of a model. It may return NaN or infinities: such candidates rank
last.
"""

Proposal = Callable[[Params, Key, Any], Array]
"""(params, key, start [N, ...]) -> action sequences [N, P, H, A] to be tried as well."""

VARIANCE_FLOOR = 1e-6
"""Added to the variance of refitted normals, as in PlaNet."""


class Belief(NamedTuple):
    """A distribution over action sequences for each environment.

    Attributes:
        mean: Means of continuous entries, probabilities of one-hot blocks ``[N, H, A]``.
        std: Standard deviations ``[N, H, A]``; unused in one-hot blocks.
    """

    mean: Array
    std: Array


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


def initial_belief(actions: ActionSpec, num_envs: int, horizon: int) -> Belief:
    """Standard normals, and uniform probabilities of one-hot blocks."""
    mean = jnp.concatenate(
        [
            jnp.full(part.size, 1 / part.size if part.kind == "categorical" else 0.0)
            for part in actions.parts
        ]
    )
    mean = jnp.broadcast_to(mean, (num_envs, horizon, actions.size))
    return Belief(mean, jnp.ones_like(mean))


def shift(belief: Belief, actions: ActionSpec) -> Belief:
    """Where the next search begins: the plan one step on, as uncertain as at first.

    A refitted belief is nearly sure of itself and would find nothing else. So deviations are
    those of the initial belief, and probabilities halfway between the plan's and uniform. The
    last step is new.
    """
    new = initial_belief(actions, *belief.mean.shape[:2])
    moved = jnp.concatenate([belief.mean[:, 1:], new.mean[:, -1:]], 1)
    return Belief(jnp.where(in_one_hots(actions), (moved + new.mean) / 2, moved), new.std)


def in_one_hots(actions: ActionSpec) -> Array:
    """Whether each entry of the flat action belongs to a one-hot block, bool ``[A]``."""
    kinds = [jnp.full(part.size, part.kind == "categorical") for part in actions.parts]
    return jnp.concatenate(kinds)


def sample(key: Key, belief: Belief, candidates: int, actions: ActionSpec) -> Array:
    """Draws sequences ``[N, candidates, H, A]``; continuous entries are clipped to [-1, 1]."""
    num_envs, horizon = belief.mean.shape[:2]
    blocks, offset = [], 0
    keys = jax.random.split(key, len(actions.parts))
    for key, part in zip(keys, actions.parts, strict=True):
        window = slice(offset, offset + part.size)
        offset += part.size
        mean, std = belief.mean[:, None, :, window], belief.std[:, None, :, window]
        shape = num_envs, candidates, horizon
        if part.kind == "categorical":
            logits = jnp.broadcast_to(jnp.log(mean), (*shape, part.size))
            blocks.append(jax.nn.one_hot(jax.random.categorical(key, logits), part.size))
        else:
            noise = jax.random.normal(key, (*shape, part.size))
            blocks.append(jnp.clip(mean + std * noise, -1, 1))
    return jnp.concatenate(blocks, -1)


def refit(sequences: Array, weights: Array, std: Array | None = None) -> Belief:
    """Moments of weighted sequences.

    Args:
        sequences: ``[N, J, H, A]``.
        weights: ``[N, J]``, adding up to 1 over J.
        std: Deviations to keep ``[N, H, A]``; None for the (population) deviation of the
            sequences.
    """
    mean = jnp.einsum("nj,njha->nha", weights, sequences)
    if std is None:
        square = jnp.einsum("nj,njha->nha", weights, jnp.square(sequences - mean[:, None]))
        std = jnp.sqrt(square + VARIANCE_FLOOR)
    return Belief(mean, std)


def to_action(mean: Array, actions: ActionSpec) -> Array:
    """Turns a mean ``[..., A]`` into an action: one-hot blocks take their likeliest choice."""
    blocks, offset = [], 0
    for part in actions.parts:
        block = mean[..., offset : offset + part.size]
        offset += part.size
        if part.kind == "categorical":
            block = jax.nn.one_hot(block.argmax(-1), part.size)
        blocks.append(block)
    return jnp.concatenate(blocks, -1)


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
    num_envs = jax.tree.leaves(start)[0].shape[0]
    belief = initial_belief(actions, num_envs, horizon) if belief is None else belief

    def iterate(belief: Belief, key: Key) -> tuple[Belief, Array]:
        keys = jax.random.split(key, 3)
        sequences = sample(keys[0], belief, candidates, actions)
        if proposal is not None:
            sequences = jnp.concatenate([sequences, proposal(params, keys[1], start)], 1)
        returns = rollout(params, keys[2], start, sequences)
        finite = jnp.isfinite(returns)
        some = finite.any(1)
        ranked = jnp.where(finite, returns, -jnp.inf)
        new, value = update(belief, sequences, jnp.where(some[:, None], ranked, 0))
        belief = jax.tree.map(lambda x, y: jnp.where(some[:, None, None], x, y), new, belief)
        return belief, jnp.where(some, value, -jnp.inf)

    belief, values = jax.lax.scan(iterate, belief, jax.random.split(key, iterations))
    return Plan(to_action(belief.mean[:, 0], actions), belief, values[-1])
