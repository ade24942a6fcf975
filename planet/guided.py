"""Planning with what another agent has learned: its world model, its critic and its policy.

The agent learns, reports and values as before; only how it acts is the planner's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from common.agent import Agent
from common.errors import UserError
from common.model.memory import LatentMemory
from common.model.world_model import WorldModel, world_model
from common.spaces import ActionSpec, ObservationSpec
from common.types import Array, Key, Params, Rows
from planet.agent import make_agent
from planet.config import Config
from planet.controller import Carry, Controller
from planet.latent_model import latent_model, learned_part
from planet.model import Memory, PlannedModel
from planet.planner import make_searcher
from planet.search import Future
from planet.value import Guide


def guided(
    config: Config,
    make_other: Callable[[], Agent],
    observations: Mapping[str, ObservationSpec],
    actions: ActionSpec,
) -> Agent:
    """Returns another agent with a planner that acts for it.

    Args:
        config: Planner, noise, and the other's world model. A planner that asks for neither value
            nor policy gets the world model alone.
        make_other: Makes the other agent, which learns values and a policy of latent states; its
            parameters are a mapping with those of its world model under "world_model".
        observations: Flat observation specs.
        actions: The flat action vector.

    Raises:
        UserError: The agent has learned no value, or no policy.
    """
    if not config.planner.guided:
        return make_agent(config, observations, actions)
    agent, model = make_other(), world_model(config.world_model, observations, actions)
    planned = planned_model(agent, model)
    searcher = make_searcher(planned.rollout, config.planner, model.actions, planned.guide)
    explore = config.exploration_noise, config.planner.explore
    controller = Controller(planned, searcher, model.actions, *explore)

    def remembered(carry: Any) -> Any:
        return LatentMemory(carry.memory, carry.action) if isinstance(carry, Carry) else carry

    latents = agent.latents
    if latents is not None:
        latents = latents._replace(pack=lambda carry: agent.latents.pack(remembered(carry)))
    return agent._replace(
        initial_carry=controller.initial_carry,
        act=controller.act,
        value=lambda params, state: agent.value(params, remembered(state)),
        latents=latents,
    )


def planned_model(agent: Agent, model: WorldModel) -> PlannedModel:
    """Returns an agent's world model as planners see it, with the agent's whole parameters.

    Raises:
        UserError: The agent has learned no value, or no policy.
    """
    if agent.value is None or agent.policy is None:
        raise UserError("this agent has learned no value and no policy to plan with; a Dreamer has")
    latent = latent_model(model)

    def remember(params: Params, keys: Array, memory: Any, rows: Rows) -> Any:
        return latent.memory.remember(learned_part(params), keys, memory, rows)

    def start(params: Params, keys: Array, memory: Any) -> Any:
        return latent.start(learned_part(params), keys, memory)

    def imagine(params: Params, key: Key, start: Any, actions: Array) -> tuple[Any, Array]:
        return latent.imagine(learned_part(params), key, start, actions)

    def rollout(params: Params, key: Key, start: Any, actions: Array) -> Future:
        return latent.rollout(learned_part(params), key, start, actions)

    def value(params: Params, key: Key, states: Any) -> Array:
        del key  # A critic's mean draws nothing.
        return agent.value(params, states)[None]

    def step(params: Params, key: Key, states: Any, actions: Array) -> Any:
        noise = model.draw_noise(key, actions.shape[:1])
        return model.imagine_step(params["world_model"], noise, states, actions)

    return PlannedModel(
        init=None,
        loss=None,
        memory=Memory(latent.memory.initial, remember, latent.memory.draws),
        start=start,
        imagine=imagine,
        rollout=rollout,
        guide=Guide(
            value, agent.policy, step, model.config.discount_factor, agent.value_includes_reward
        ),
    )
