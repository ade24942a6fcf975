"""A planner that acts for a Dreamer."""

from __future__ import annotations

from collections.abc import Mapping

from common.agent import Agent
from common.config import to_dict, update
from common.errors import UserError
from common.run.program import find_program
from common.spaces import ActionSpec, ObservationSpec
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
    planner = {name: x for name, x in values["planner"].items() if name != "acts"}
    noise = config.behavior.exploration_noise
    options = planet.adopt(values) | {"planner": planner, "exploration_noise": noise}
    settled = update(planet.default_config, options)
    return planet.guided(settled, lambda: agent, observations, actions)
