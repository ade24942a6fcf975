"""Times updates, policy steps and convolutions at fixed shapes.

    python -m benchmarks.speed                      # updates, policies, planners, every shape
    python -m benchmarks.speed dmc_vision           # those of one shape
    python -m benchmarks.speed update               # one piece at every shape
    python -m benchmarks.speed 'dmc_vision/*coder'  # wildcards
    python -m benchmarks.speed update --jobs 8 --results DIR  # on a host with a GPU
    python -m benchmarks.speed run                  # whole runs, and where their time goes
    python -m benchmarks.speed --kernels            # of updates on an H100, counted without one

Every workload runs in a process of its own, so that its peak memory is its own, with the
same settings as training. Results go to benchmarks/results/speed, one JSON each.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import pathlib
import sys

from benchmarks.options import Parser, make_results
from benchmarks.speed.apart import time_apart
from common.command.memory import restart_with_memory_settings
from common.errors import UserError, exit_code

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "speed"


def main() -> int:
    """Runs the command line; returns the exit code."""
    restart_with_memory_settings()
    if sys.argv[1:2] == ["run"]:
        from benchmarks.speed import runs

        return exit_code(lambda: runs.main(sys.argv[2:]))
    parser = Parser(
        "python -m benchmarks.speed",
        description=__doc__,
    )
    parser.add_argument("workloads", nargs="*", help="shape, piece, or wildcard of shape/piece")
    parser.add_argument(
        "--kernels", action="store_true", help="count what the updates of shapes launch on an H100"
    )
    parser.add_argument("--list", action="store_true", help="list the workloads and stop")
    parser.add_argument("--repeats", type=int, default=7, help="timed calls of each (7)")
    parser.add_argument(
        "--jobs", type=int, default=1, help="compiled at the same time; timed in turn (1)"
    )
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS, help="where to write")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    return exit_code(lambda: _run(parser.parse()))


def _run(arguments: argparse.Namespace) -> int:
    for name in ("repeats", "jobs"):
        if getattr(arguments, name) < 1:
            raise UserError(f"--{name} is {getattr(arguments, name)}; expected at least 1")
    if arguments.kernels:
        return count_kernels(arguments)
    from benchmarks.speed import workloads

    if arguments.list:
        print("\n".join(workloads.names()))
        return 0
    selected = workloads.select(arguments.workloads)
    if arguments.here:
        print(json.dumps(_time(selected[0], arguments.repeats)))
        return 0
    make_results(arguments.results, "--results")
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as jobs:
        ended_well = list(jobs.map(lambda name: _time_apart(name, arguments), selected))
    failed = [name for name, well in zip(selected, ended_well, strict=True) if not well]
    if failed:
        print(f"error: no result for {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def count_kernels(arguments: argparse.Namespace) -> int:
    """Counts the kernels of updates, in this process, which compiles for a GPU from now on."""
    from benchmarks.speed import kernels

    kernels.prepare()
    from benchmarks.speed import record

    code, names = 0, kernels.select(arguments.workloads)
    make_results(arguments.results, "--results")
    for name in names:
        found = kernels.count_update(name)
        if "error" in found:
            print(f"error: {name} was not compiled: {found['error']}", file=sys.stderr)
            code = 1
            continue
        record.write(arguments.results, found)
        print(kernels.format_line(found), flush=True)
    return code


def _time_apart(name: str, arguments: argparse.Namespace) -> bool:
    """Times one workload in a process of its own; returns whether it ended well."""
    from benchmarks.speed import record

    result = time_apart(name, arguments.repeats)
    if "error" in result:
        print(result["error"], file=sys.stderr)
        return False
    record.write(arguments.results, result)
    print(record.format_line(result), flush=True)
    return True


def _time(name: str, repeats: int) -> dict:
    """Times one workload in this process."""
    from common.command import line as cli

    cli.prepare()
    import dataclasses

    from benchmarks.speed import record, workloads

    shape_name, piece = name.split("/")
    shape = workloads.SHAPES[shape_name]
    function = workloads.PIECES[piece]
    measurement = function(shape, repeats)
    summary = f"{shape.summary}: {piece}"
    config = shape.config()
    frames = workloads.frames(piece, config)
    return record.to_record(name, summary, measurement, frames, dataclasses.asdict(config))


if __name__ == "__main__":
    sys.exit(main())
