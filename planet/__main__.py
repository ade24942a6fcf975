"""The ``planet`` command; ``python -m planet`` is the same."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from common.command import line as cli
from common.command.memory import restart_with_huge_pages
from common.run.program import Program

if TYPE_CHECKING:
    from common.run.driver import Policy


def load_program() -> Program:
    """Returns PlaNet for the shared command line and run loop."""
    from planet.agent import make_agent
    from planet.config import Config

    models = {"simulator": plan_in_simulator}
    return Program("planet", Config(), make_agent, adopt, acting="planner", models=models)


def plan_in_simulator(config: Any, envs: Any, seed: int) -> Policy:
    """Returns a policy that plans with MuJoCo itself; see ``planet.simulator``."""
    from planet.simulator import SimulatorPolicy

    return SimulatorPolicy(config, envs, seed)


def adopt(values: dict[str, Any]) -> dict[str, Any]:
    """Options of PlaNet that plan in the world model of another agent, which saw all bits."""
    shared = {name: values[name] for name in ("task", "seed", "env", "world_model")}
    return shared | {"image_bits": 8}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    if argv is None:
        restart_with_huge_pages()
    return cli.main("planet", load_program, argv)


if __name__ == "__main__":
    sys.exit(main())
