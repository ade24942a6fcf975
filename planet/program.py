"""PlaNet for the shared command line and run loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from common.command import line
from common.run.program import Model, Program

if TYPE_CHECKING:
    from common.envs.base import Envs
    from common.run.driver import Policy
    from planet.config import Config


def load_program() -> Program[Config]:
    """Returns the agent and its options."""
    from planet.agent import make_agent
    from planet.config import Config
    from planet.guided import guided

    simulator = Model(
        "MuJoCo itself, to plan with; it needs a --task", see_states, plan_in_simulator
    )
    models = {"simulator": simulator}
    return Program("planet", Config(), make_agent, adopt, guided, acting="planner", models=models)


def see_states(config: Config) -> Config:
    """Turns pictures off: nobody looks at them, the simulator's state is all that is needed."""
    env = dataclasses.replace(config.env, pixels=False, state=True, workers="none")
    return dataclasses.replace(config, env=env)


def plan_in_simulator(config: Config, envs: Envs, seed: int) -> Policy:
    """Returns a policy that plans with MuJoCo itself; see ``planet.simulator``."""
    from planet.simulator import SimulatorPolicy

    return SimulatorPolicy(config, envs, seed)


def adopt(values: dict[str, Any]) -> dict[str, Any]:
    """Options of PlaNet that plan in a world model that saw all bits: another agent's, or alone."""
    shared = ("task", "seed", "env", "world_model")
    return {name: values[name] for name in shared if name in values} | {"image_bits": 8}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return line.main("planet", load_program, argv)
