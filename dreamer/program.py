"""Dreamer for the shared command line and run loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from common.command import line
from common.run.program import Program

if TYPE_CHECKING:
    from dreamer.config import Config


def load_program() -> Program[Config]:
    """Returns the agent and its options."""
    from dreamer.agent import make_agent
    from dreamer.config import Config

    return Program("dreamer", Config(), make_agent, acting="planner")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return line.main("dreamer", load_program, argv)
