"""What a behaviour-cloned policy would do, as candidates of planners in token-level dynamics."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from common.spaces import ActionSpec
from common.tokens.policy import PolicyFunctions
from common.tokens.tdm import TDMFunctions, branch
from common.types import Array, Key
from planet.candidates import Proposal, Rollout


class Pair(NamedTuple):
    """What planners are given for dynamics with a policy: parameters, or contexts.

    Attributes:
        dynamics: Of the dynamics: parameters, or what ``TDMFunctions.start`` returned.
        policy: Of the policy: parameters, or what ``PolicyFunctions.start`` returned.
    """

    dynamics: Any
    policy: Any


def with_policy(rollout: Rollout) -> Rollout:
    """Returns a roll-out in the dynamics that takes pairs of parameters and of contexts."""

    def paired(params: Pair, key: Key, start: Pair, actions: Array) -> Array:
        return rollout(params.dynamics, key, start.dynamics, actions)

    return paired


def token_policy_proposal(
    model: TDMFunctions,
    policy: PolicyFunctions,
    actions: ActionSpec,
    amount: int,
    horizon: int,
    noise: float = 0.05,
) -> Proposal:
    """Sequences that a policy takes in the imagination of the dynamics, with noise.

    a_k = clip(a + noise e, -1, 1),  a ~ policy(past, o_<k, r_<k, a_<k),  e ~ N(0, 1)
    (o_k, r_k) ~ dynamics(past, o_<k, r_<k, a_<=k)

    Both keep what they imagined, so that a step costs one step of the dynamics and as many
    passes of the policy as it has action entries. The policy answers to the noise.

    Args:
        model: The dynamics; params and start of the proposal are a ``Pair``.
        policy: The policy, of the same sizes.
        actions: The flat action vector of the body; it may be smaller than the model's.
        amount: Sequences for each environment.
        horizon: Steps of a sequence.
        noise: Standard deviation of what is added to every entry.
    """

    def propose(params: Pair, key: Key, start: Pair) -> Array:
        first = branch(start.dynamics, amount, horizon), branch(start.policy, amount, horizon)

        def step(futures: Any, key: Key) -> tuple[Any, Array]:
            imagined, minded = futures
            keys = jax.random.split(key, 3)
            action = policy.choose(params.policy, keys[0], minded, False)
            action += noise * jax.random.normal(keys[1], action.shape)
            action = jnp.clip(action, -1, 1)
            observation, reward, imagined = model.imagine_step(
                params.dynamics, keys[2], imagined, action
            )
            minded = policy.follow(params.policy, minded, action, observation, reward)
            return (imagined, minded), action[..., : actions.size]

        _, sequences = jax.lax.scan(step, first, jax.random.split(key, horizon))
        return jnp.moveaxis(sequences, 0, 2)

    return propose
