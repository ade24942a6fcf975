"""What a collection of episodes consists of."""

from __future__ import annotations

import dataclasses
import pathlib

from common.checks import check_range
from common.envs.config import EnvConfig
from common.errors import UserError
from common.planner import PlannerConfig


@dataclasses.dataclass(frozen=True)
class Options:
    """What to collect.

    Attributes:
        tasks: Names of tasks; each becomes a folder.
        policies: As the command line names them.
        episodes: Of each task and policy, those included that are there.
        seed: Seed of everything.
        data: The collection's folder.
        env: How the environments are built.
        planner: Of the "simulator" policies.
        training: Presets and options of trainings, as words of a command line.
    """

    tasks: tuple[str, ...]
    policies: tuple[str, ...]
    episodes: int
    seed: int
    data: pathlib.Path
    env: EnvConfig
    planner: PlannerConfig
    training: tuple[str, ...] = ("--configs", "quickstart")

    def __post_init__(self) -> None:
        """Raises a UserError where there is nothing to do."""
        check_range("--episodes", self.episodes, 1)
        check_range("--seed", self.seed, 0, 2**31 - 1)
        for name in ("tasks", "policies"):
            if not getattr(self, name):
                raise UserError(f"--{name} names none; separate several by commas")
        for task in self.tasks:
            if "/" in task:
                raise UserError(f"{task!r} cannot be the name of a folder; choose another task")
