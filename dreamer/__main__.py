"""The ``dreamer`` command; ``python -m dreamer`` is the same."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from common.command import line as cli
from common.command.memory import restart_with_huge_pages
from common.run.program import Program


def load_program() -> Program:
    """Returns Dreamer for the shared command line and run loop."""
    from dreamer.agent import make_agent
    from dreamer.config import Config

    return Program("dreamer", Config(), make_agent)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    if argv is None:
        restart_with_huge_pages()
    return cli.main("dreamer", load_program, argv)


if __name__ == "__main__":
    sys.exit(main())
