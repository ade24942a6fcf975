"""What a policy returns in its own world model: what is known of it before any episode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from common.agent import SMALL_ACTOR
from common.model.world_model import world_model
from common.run.loading import LoadedAgent
from common.types import Array, Key, Params, Rows
from planet.guided import planned_model as planned_dreamer
from planet.model import PlannedModel
from planet.tdmpc2.model import make_model
from planet.tdmpc2.networks import make_networks
from planet.tdmpc2.planned import planned_model as planned_tdmpc2
from planet.tdmpc2.tasks import find_tasks


def expected_return(
    agent: LoadedAgent, starts: dict[str, np.ndarray], steps: int, seed: int
) -> float | None:
    """Returns what a policy would return by its own world model, undiscounted.

        mean over first states s_0 of  sum_{t < n} (prod_{u < t} c_u) r_t,   a_t ~ policy(s_t)

    with r the expected reward and c the probability that the episode goes on. None of an agent
    that has learned no policy of latent states, or squashed rewards, and none where a small actor
    plays, which sees no latent states: its teacher's return would be another policy's.

    Args:
        agent: The policy; a planner's is the one that proposes its plans.
        starts: First rows of episodes ``[S, ...]``.
        steps: Length of an episode, n.
        seed: Of the draws.
    """
    planned = planned_of(agent)
    if planned is None:
        return None
    roll = jax.jit(lambda params, key, rows: imagined_return(planned, params, key, rows, steps))
    found = float(jnp.mean(roll(agent.params, jax.random.key(seed), starts)))
    return found if np.isfinite(found) else None


def planned_of(agent: LoadedAgent) -> PlannedModel | None:
    """Returns a trained agent's model with its policy; None where it has none that plays."""
    config: Any = agent.config
    observations, actions = agent.observations, agent.actions
    own = agent.act_function.agent
    if getattr(config, "model", "") == "tdmpc2":
        options, tasks = config.tdmpc2, find_tasks(observations)
        model = make_model(
            make_networks(options, observations, actions, tasks), options, actions.size
        )
        size = options.latent + (len(tasks.actions) if tasks else 0)
        return planned_tdmpc2(model, size, 1.0, all_members=False)
    if own.policy is None or own.value is None or "world_model" not in agent.params:
        return None
    if SMALL_ACTOR in agent.params:
        return None
    if config.world_model.reward_transform != "identity":
        return None
    return planned_dreamer(own, world_model(config.world_model, observations, actions))


def imagined_return(
    planned: PlannedModel, params: Params, key: Key, rows: Rows, steps: int
) -> Array:
    """Returns the sum of expected rewards from each of some first rows on ``[S]``.

    Args:
        planned: A model with a policy.
        params: Its parameters.
        key: For latents and actions.
        rows: First rows of episodes ``[S, ...]``.
        steps: Length of the roll-out.
    """
    amount, memory = len(rows["is_first"]), planned.memory
    keys = jax.random.split(key, memory.draws + 1)
    own, later = keys[:-1], keys[-1]
    seen = memory.remember(params, own, memory.initial(amount), rows)
    start = planned.start(params, own, seen)
    step = _step(planned, params)
    first = start, jnp.zeros(amount), jnp.ones(amount)
    (_, total, _), _ = jax.lax.scan(step, first, jax.random.split(later, steps))
    return total


def _step(planned: PlannedModel, params: Params) -> Callable[[Any, Key], tuple[Any, None]]:
    def step(carry: Any, key: Key) -> tuple[Any, None]:
        state, total, goes_on = carry
        own = jax.random.split(key)
        action = planned.guide.policy(params, own[0], state)
        future = planned.rollout(params, own[1], state, action[:, None, None])
        total += goes_on * future.rewards[:, 0, 0]
        if future.continues is not None:
            goes_on *= future.continues[:, 0, 0]
        return (jax.tree.map(lambda x: x[:, 0], future.last), total, goes_on), None

    return step
