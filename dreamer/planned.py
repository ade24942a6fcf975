"""A planner that acts for a Dreamer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from common.agent import Agent
from common.config import to_dict, update
from common.errors import UserError
from common.model.memory import LatentMemory
from common.planner import PlannerConfig
from common.run.program import find_program
from common.spaces import ActionSpec, ObservationSpec
from common.types import Array, Key, Mode, Params, Rows
from dreamer.config import Config


def plan_instead(
    config: Config, agent: Agent, observations: Mapping[str, ObservationSpec], actions: ActionSpec
) -> Agent:
    """Returns the agent with a planner that acts for it; all else is as it was.

    Raises:
        UserError: The planner asks for neither value nor policy.
    """
    if not config.planner.guided:
        raise UserError(
            "planner.acts is true, and the planner uses neither value nor policy; set "
            "planner.value true, or planner.policy_candidates above 0"
        )
    planet, values = find_program("planet"), to_dict(config)
    planner = {field.name: values["planner"][field.name] for field in fields(PlannerConfig)}
    noise = config.behavior.exploration_noise
    options = planet.adopt(values) | {"planner": planner, "exploration_noise": noise}
    settled = update(planet.default_config, options)
    planned = planet.guided(settled, lambda: agent, observations, actions)
    if config.planner.evaluated:
        return planned
    return planned._replace(act=_collecting(planned, agent))


def _collecting(planned: Agent, agent: Agent) -> Callable[..., tuple[Array, Any]]:
    """Returns how an agent acts whose planner collects only; the carry is the planner's."""

    def act(params: Params, key: Key, carry: Any, rows: Rows, mode: Mode) -> tuple[Array, Any]:
        if mode == "train":
            return planned.act(params, key, carry, rows, mode)
        memory = LatentMemory(carry.memory, carry.action)
        action, memory = agent.act(params, key, memory, rows, mode)
        return action, carry._replace(memory=memory.state, action=memory.action)

    return act
