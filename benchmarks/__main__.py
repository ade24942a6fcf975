"""The benchmarks' command: ``python -m benchmarks <suite> <command> [options]``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.suites import SUITES, suite
from common.command.table import HELP, Command, find, listing
from common.errors import UserError, exit_code, nearest

SWEEP = "rwrl"
"""The suite whose scores are of one challenge each, and have a page of their own."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line.

    Args:
        argv: The words after the program's name; None takes the process's own.

    Returns:
        The exit code: that of the command, 2 after a user's mistake, 130 after an interrupt.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    return exit_code(lambda: _dispatch(words))


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in HELP:
        print(_overview())
        return 0
    name, *rest = argv
    if name == "tdm":
        from benchmarks.tdm.command import run_command

        return run_command(rest)
    if name == "select":
        from benchmarks.selection.command import run_command

        return run_command(rest)
    if name == "tune":
        from benchmarks.tune.command import run_command

        return run_command(rest)
    if name == "incontext":
        from benchmarks.incontext.command import run_command

        return run_command(rest)
    if name == "planning" and rest[:1] == ["models"]:
        from benchmarks.planning_models import run_command

        return run_command(rest[1:])
    if name not in SUITES:
        others = ["tdm", "select", "tune", "incontext", "planning models"]
        raise UserError(f"unknown suite {name!r}{nearest(name, [*SUITES, *others])}")
    if not rest or rest[0] in HELP:
        print(_overview())
        return 0
    word, *words = rest
    return find(word, COMMANDS).run(name, words)


def _overview() -> str:
    lines = ["usage: python -m benchmarks <suite> <command> [--option VALUE ...]", "", "suites:"]
    for name in SUITES:
        one = suite(name)
        lines.append(f"  {name:<13}{len(one.tasks)} tasks: {one.protocol}")
    lines += [
        "",
        *listing(COMMANDS),
        "",
        "'python -m benchmarks <suite> <command> --help' explains the options of a command.",
        "",
        "for example:",
        "  python -m benchmarks atari run --games all --seeds 5 --jobs 4 --logdir runs/atari",
        "  python -m benchmarks atari run --launcher slurm --partition gpu --logdir runs/atari",
        "  python -m benchmarks dmc run --games walker_walk --logdir runs/dmc -- --run.frames 1e5",
        "  python -m benchmarks atari status --logdir runs/atari",
        "  python -m benchmarks rwrl run --games 'walker_walk.*_delay-*' --logdir runs/rwrl",
        "",
        "dynamics that generalise over bodies: python -m benchmarks tdm",
        "the best of several trained agents by few episodes: python -m benchmarks select",
        "a search over options, by Ray Tune: python -m benchmarks tune",
        "learning in a context, without updates: python -m benchmarks incontext",
        "planners in models of each kind: python -m benchmarks planning models",
        "other benchmarks: python -m benchmarks.learning, benchmarks.memory, benchmarks.planning, "
        "benchmarks.speed",
    ]
    return "\n".join(lines)


def _run(name: str, argv: Sequence[str]) -> int:
    from benchmarks.jobs.command import run

    return run(name, argv)


def _status(name: str, argv: Sequence[str]) -> int:
    from benchmarks.jobs.command import status

    return status(name, argv)


def _score(name: str, argv: Sequence[str]) -> int:
    if name == SWEEP:
        from benchmarks.rwrl import command

        return command.score(argv)
    from benchmarks.scores.command import score

    return score(name, argv)


def _report(name: str, argv: Sequence[str]) -> int:
    if name == SWEEP:
        from benchmarks.rwrl import command

        return command.report(argv)
    from benchmarks.page.command import report

    return report(name, argv)


COMMANDS = {
    "run": Command(_run, "Trains an agent on every task and seed; again, it goes on with that."),
    "status": Command(_status, "Shows which jobs are done, running or failed, and the time left."),
    "score": Command(_score, "Computes the scores of finished runs."),
    "report": Command(_report, "Writes scores and learning curves as one HTML file."),
}
"""The commands of a suite; each runs ``(suite name, words after the command) -> exit code``."""


if __name__ == "__main__":
    sys.exit(main())
