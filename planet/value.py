"""What a state is worth beyond a planner's horizon, and what a policy would do in it.

A critic V, or an action value Q at an action of a policy, says what an episode still earns after
the last step of a sequence:

    return = sum_{k=1..H} d^(k-1) c_k r_k + d^H c_{H+1} V(s_H)

so that a short horizon is enough (Lowrey et al. 2018, arXiv:1811.01848; TD-MPC,
arXiv:2203.04955). A planner needs none of this; see ``planet.search.Future``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from common.types import Array, Key, Params
from planet.search import Future, Proposal, Rollout

Value = Callable[[Params, Key, Any], Array]
"""(params, key, states [N, J, ...]) -> values [N, J]."""

Policy = Callable[[Params, Key, Any], Array]
"""(params, key, states [M, ...]) -> actions [M, A], drawn."""

Step = Callable[[Params, Key, Any, Array], Any]
"""(params, key, states [M, ...], actions [M, A]) -> the next states [M, ...]."""


class Guide(NamedTuple):
    """What a model has learned beside how the world goes on.

    Attributes:
        value: What a state is worth to each of K critics, ``[K, N, J]``; of one, K is 1.
        policy: What to do in a state.
        step: How the model's state follows an action.
        discount: What the value counts a reward by the one a step before; a function
            ``(start [N, ...]) -> [N]`` where starts differ in it.
        includes_reward: Whether the value of a state counts the reward that came with it, too.
        mask: ``(start [N, ...]) -> [N, A]``, 1 for entries of the action that count there, as of
            several tasks; None where all of them do.
        min_std: ``(params) -> least deviation []`` that a planner refits to, as it falls while the
            model learns; None where it is ``PlannerConfig.min_std`` all along.
    """

    value: Callable[[Params, Key, Any], Array]
    policy: Policy
    step: Step
    discount: float | Callable[[Any], Array]
    includes_reward: bool = False
    mask: Callable[[Any], Array] | None = None
    min_std: Callable[[Params], Array] | None = None


def with_value(rollout: Rollout, value: Value, includes_reward: bool = False) -> Rollout:
    """Returns the rollout with what its last states are worth.

    Args:
        rollout: Tells the last states.
        value: Of the same parameters; it draws with a key of its own.
        includes_reward: Whether the value counts the reward that came with the state. Then it
            stands in the place of the last one: return = ... + d^(H-1) c_H V(s_H).
    """

    def valued(params: Params, key: Key, start: Any, actions: Array) -> Any:
        keys = jax.random.split(key)
        future = rollout(params, keys[0], start, actions)
        if not isinstance(future, Future) or future.last is None:
            raise ValueError("a value needs the last states, and this rollout does not tell them")
        worth = value(params, keys[1], future.last)
        if includes_reward:
            return future._replace(rewards=future.rewards.at[..., -1].set(worth))
        return future._replace(value=worth)

    return valued


def careful(value: Value, caution: float = 0.0) -> Value:
    """Turns an ensemble's values into one: their mean, less ``caution`` times their deviation.

        V(s) = mean_k V_k(s) - caution * sqrt(mean_k (V_k(s) - mean V)^2)

    Args:
        value: Returns ``[K, N, J]``.
        caution: How much doubt costs; with 0 nothing.
    """

    def one(params: Params, key: Key, states: Any) -> Array:
        values = value(params, key, states)
        chex.assert_rank(values, 3)
        mean = values.mean(0)
        return mean - caution * values.std(0) if caution else mean

    return one


def follow(step: Step, policy: Policy, amount: int, horizon: int) -> Proposal:
    """Proposes what a policy does in the model's own future.

        a_t ~ policy(s_t),  s_{t+1} ~ model(s_t, a_t)

    Args:
        step: The model.
        policy: The policy.
        amount: Sequences for each environment, P.
        horizon: Steps of a sequence, H.
    """

    def propose(params: Params, key: Key, start: Any) -> Array:
        num_envs = jax.tree.leaves(start)[0].shape[0]
        states = jax.tree.map(lambda x: jnp.repeat(x, amount, axis=0), start)

        def act(states: Any, key: Key) -> tuple[Any, Array]:
            keys = jax.random.split(key)
            action = policy(params, keys[0], states)
            return step(params, keys[1], states, action), action

        _, actions = jax.lax.scan(act, states, jax.random.split(key, horizon))
        return jnp.moveaxis(actions, 0, 1).reshape(num_envs, amount, horizon, -1)

    return propose
