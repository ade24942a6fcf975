"""Three latent dynamics with as many parameters, in worlds of memory.

    python -m benchmarks.memory speed                    # seconds of an update by length of window
    python -m benchmarks.memory speed --lengths 64 256 --repeats 3
    python -m benchmarks.memory success RUN [RUN ...]    # share of right answers by delay

``success`` reads run folders of one world, such as those of

    dreamer train --configs memory    --env.kwargs.delay 50 --logdir runs/rssm_50
    dreamer train --configs memory s5 --env.kwargs.delay 50 --logdir runs/s5_50
    dreamer train --configs memory --dynamics transformer --env.kwargs.delay 50 --logdir runs/tr_50

with any seeds. Results go to benchmarks/results/memory: JSON and a picture, of runs a CSV too.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

from benchmarks.options import Parser
from common.errors import UserError, exit_code

RESULTS = pathlib.Path(__file__).resolve().parent.parent / "results" / "memory"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = Parser("python -m benchmarks.memory", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)
    speed = commands.add_parser("speed", description="Times updates by length of window.")
    speed.add_argument("--lengths", type=int, nargs="+", default=[64, 128, 256, 512, 1024])
    speed.add_argument("--repeats", type=int, default=5, help="timed updates of each (5)")
    speed.add_argument("--rows", type=int, default=1024, help="rows in a batch (1024)")
    success = commands.add_parser("success", description="Success by delay of finished runs.")
    success.add_argument("runs", nargs="+", type=pathlib.Path, help="run folders")
    for command in (speed, success):
        command.add_argument("--results", type=pathlib.Path, default=RESULTS, help="where to write")
    return exit_code(lambda: _run(parser.parse(argv)))


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "success":
        from benchmarks.memory import success

        runs = [success.read_run(path) for path in arguments.runs]
        print(success.table(runs))
        paths = success.write(arguments.results, runs)
    else:
        paths = _time(arguments)
    for path in paths:
        print(path)
    return 0


def _time(arguments: argparse.Namespace) -> list[pathlib.Path]:
    for name in ("repeats", "rows"):
        if getattr(arguments, name) < 1:
            raise UserError(f"--{name} is {getattr(arguments, name)}; expected at least 1")
    wrong = [length for length in arguments.lengths if not 2 <= length <= arguments.rows]
    if wrong:
        raise UserError(
            f"--lengths has {wrong[0]}; expected 2 to --rows, which is {arguments.rows}"
        )
    from common.command import line

    line.prepare()
    from benchmarks.memory import speed

    lengths, paths = sorted(set(arguments.lengths)), []
    for record in speed.measure(lengths, arguments.repeats, arguments.rows):
        print(speed.table(record).splitlines()[-1], flush=True)
        paths = speed.write(arguments.results, record)
    print(speed.table(record))
    return paths


if __name__ == "__main__":
    sys.exit(main())
