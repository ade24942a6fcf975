"""Dreamer for the shared command line and run loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from common.command import line
from common.command.flags import Flags
from common.command.table import Command
from common.run.program import Program

if TYPE_CHECKING:
    from dreamer.config import Config


def load_program() -> Program[Config]:
    """Returns the agent and its options."""
    from dreamer.agent import make_agent
    from dreamer.config import Config

    return Program("dreamer", Config(), make_agent, acting="planner")


def _distill(load_program: Callable[[], Program], parsed: Flags) -> int:
    from dreamer.distillation.command import distill

    return distill(load_program(), parsed)


COMMANDS = {
    "distill": Command(
        _distill,
        "Teaches a small actor what a trained run does, and compares the two.",
        {
            "logdir": "Folder of the run, with its episodes.",
            "size": "Preset of whose actor it has layers and units, and of whose encoder the "
            "channels. [default: size_xs]",
            "updates": "Gradient steps, each on a batch of the run's episodes. [default: 5000]",
            "episodes": "Episodes that each of the two plays at the end. [default: 10]",
            "seed": "Seed of weights, batches and environments. [default: 0]",
            "out": "File for the small actor, .npz. [default: small.npz in the run's folder]",
            "task": "Task of the run, as of eval. [default: none]",
            "configs": "Of the options below those of distill can change, and replay.batch, "
            "replay.length and replay.burn_in.",
        },
        configured=True,
    ),
}
"""Commands beside those of every agent."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return line.main("dreamer", load_program, argv, COMMANDS)
