"""Records runs under benchmarks/results/learning.

    python -m benchmarks.learning NAME RUN [RUN ...]

writes ``NAME.json``, ``NAME.csv`` and ``NAME.png`` from run folders of one task that
differ in their seed. The JSON holds every seed's curve, the random policy beside it,
configuration, versions and hardware. With ``--add`` the seeds that the record has stay in it.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

from benchmarks.learning.record import read_recorded, read_run, write_record
from benchmarks.options import Parser
from common.errors import exit_code

RESULTS = pathlib.Path(__file__).resolve().parent.parent / "results" / "learning"


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = Parser(
        "python -m benchmarks.learning",
        description="Records learning curves of runs of one task that differ in their seed.",
    )
    parser.add_argument("name", help="name of the record")
    parser.add_argument("runs", nargs="+", type=pathlib.Path, help="run folders")
    parser.add_argument("--add", action="store_true", help="keep the seeds that the record has")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS, help="where to write")
    return exit_code(lambda: _run(parser.parse()))


def _run(arguments: argparse.Namespace) -> int:
    results, name = arguments.results, arguments.name
    runs = read_recorded(results, name) if arguments.add else []
    runs += [read_run(path) for path in arguments.runs]
    for path in write_record(results, name, runs):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
