"""All that ten minutes on a host with a GPU can measure, in one command.

    python -m benchmarks.speed.measure_gpu --out OUT                 # speed, then learning
    python -m benchmarks.speed.measure_gpu --out OUT --part learning --budget 300
    python -m benchmarks.speed.measure_gpu --table OUT/results.jsonl # of what was measured

Speed: of the workloads of ``JOBS`` so many compile at the same time, and each is timed alone, for
half of the budget where learning follows. XLA tries many forms of each kernel on the card, which
takes all cores of the host: 23 updates side by side did not end within five minutes on 16 cores,
of seven five did within four. XLA_FLAGS are those of this command. Learning: ``TRAINING`` in what
is left of the budget; it is stopped as Ctrl-C stops it, and its curves are kept. Every figure is a
line of OUT/results.jsonl the moment that it is known, so that a command that is cut short keeps
what it has.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from benchmarks.options import Parser, make_results
from benchmarks.speed.apart import result_of, time_apart
from common.errors import UserError, exit_code
from common.run import folder as run_folder

JOBS = (
    "dmc_vision/update-bfloat16",
    "dmc_vision/update-float32",
    "vision_v3/update-bfloat16",
    "atari/update-bfloat16",
    "quickstart/update",
    "quickstart/update-seeds",
    "proprio_v3/update-bfloat16",
    "proprio_v3/update-float32",
    "tdmpc2/update",
    "tdmpc2/update-seeds",
    "tdmpc2/policy-1",
    "tdmpc2/policy-8",
    "dmc_vision/policy-1",
    "dmc_vision/policy-8",
    "planet/planner-1",
    "planet/planner-8",
    "small/update",
    "small/update-seeds",
    "atari100k_v3/update-bfloat16",
)
"""Workloads of ``benchmarks.speed``, the dearest questions first."""
TRAINING = (
    *("--configs", "dmc_vision_v3", "size_12m", "--task", "dmc_walker_walk", "--seed", "1"),
    *("--env.action_repeat", "2", "--env.amount", "8", "--run.video", "false"),
    *("--run.random_episodes", "0", "--run.eval_every", "25e3", "--run.eval_episodes", "4"),
)
KEPT = (run_folder.CONFIG, run_folder.VERSIONS, run_folder.METRICS, run_folder.SCORES)
"""Files of the training that ``python -m benchmarks.learning`` reads, beside the other results."""
TO_STOP = 20.0
"""Seconds for a training that was told to stop."""


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = Parser("python -m benchmarks.speed.measure_gpu", description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, help="folder of the results")
    parser.add_argument(
        "--table", type=pathlib.Path, help="print the table of such a results.jsonl"
    )
    parser.add_argument("--budget", type=float, default=560, help="seconds for everything (560)")
    parser.add_argument("--part", choices=("all", "speed", "learning"), default="all")
    parser.add_argument("--jobs", default="", help="only workloads whose name has this")
    parser.add_argument("--parallel", type=int, default=6, help="compiled at a time (6)")
    parser.add_argument("--repeats", type=int, default=20, help="timed calls of each (20)")
    parser.add_argument("--train", nargs=argparse.REMAINDER, help="other options of the training")
    return exit_code(lambda: _run(parser.parse()))


def _run(arguments: argparse.Namespace) -> int:
    if arguments.table:
        try:
            records = [json.loads(line) for line in arguments.table.read_text().splitlines()]
        except (OSError, ValueError) as error:
            raise UserError(f"--table {arguments.table} is no results.jsonl: {error}") from error
        print(table(records))
        return 0
    if not arguments.out:
        raise UserError("--out says where the results go, or --table which ones to show")
    jobs = [job for job in JOBS if arguments.jobs in job]
    if not jobs:
        raise UserError(f"no workload has {arguments.jobs!r} in its name, see JOBS")
    if arguments.parallel < 1 or arguments.repeats < 1 or arguments.budget <= 0:
        raise UserError("--parallel, --repeats and --budget are above zero")
    begin = time.monotonic()
    end = begin + arguments.budget
    make_results(arguments.out, "--out")
    with (arguments.out / "results.jsonl").open("a") as file:

        def write(record: dict[str, Any]) -> None:
            file.write(json.dumps(record) + "\n")
            file.flush()
            print(_line(record), flush=True)

        if arguments.part != "learning":
            alone = arguments.part == "speed"
            _measure_speed(jobs, arguments, end if alone else (begin + end) / 2, write)
        if arguments.part != "speed":
            _learn(arguments, end, write)
    return 0


def _measure_speed(
    jobs: list[str],
    arguments: argparse.Namespace,
    end: float,
    write: Callable[[dict[str, Any]], None],
) -> None:
    shared = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    left = lambda: max(0.0, end - time.monotonic())  # noqa: E731
    if not arguments.jobs:
        machine = [sys.executable, "-m", "benchmarks.speed.machine"]
        write({"machine": result_of(machine, left(), shared)})

    def job(name: str) -> dict[str, Any]:
        result = time_apart(name, arguments.repeats, left(), shared)
        return {"workload": name, "flags": os.environ.get("XLA_FLAGS", ""), **result}

    with concurrent.futures.ThreadPoolExecutor(arguments.parallel) as pool:
        running = [pool.submit(job, name) for name in jobs]
        for done in concurrent.futures.as_completed(running):
            write(done.result())


def _learn(
    arguments: argparse.Namespace, end: float, write: Callable[[dict[str, Any]], None]
) -> None:
    folder = arguments.out / "training"
    options = arguments.train or TRAINING
    command = [sys.executable, "-m", "dreamer", "train", *options, "--logdir", str(folder)]
    with (arguments.out / "training.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            process.wait(max(0.0, end - TO_STOP - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(TO_STOP)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    last: dict[str, Any] = {}
    for name in KEPT:
        if (folder / name).exists():
            shutil.copy(folder / name, arguments.out / name)
    metrics = arguments.out / run_folder.METRICS
    if metrics.exists() and (lines := metrics.read_text().splitlines()):
        last = json.loads(lines[-1])
    write({"training": list(options), "exit": process.returncode, "last": last})


def table(records: Iterable[Mapping[str, Any]]) -> str:
    """Returns a table in Markdown of the updates, actions and plans that were timed."""
    rows = [
        "| workload | flags | milliseconds | rows a second | compiled in, core-seconds |",
        "|---|---|---|---|---|",
    ]
    for record in sorted(records, key=lambda record: record.get("workload", "")):
        if "median" in record:
            took = f"{record['compile_seconds']:.0f} s, {record['compile_core_seconds']:.0f}"
            cells = (
                record["workload"], record["flags"], f"{1e3 * record['median']:.2f}",
                f"{record['frames_per_second']:,.0f}", took,
            )  # fmt: skip
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _line(record: dict[str, Any]) -> str:
    """One line for people."""
    if "workload" not in record:
        return json.dumps(record)
    name = record["workload"]
    if "error" in record:
        return f"{name:<28} {record['error'].strip().splitlines()[-1][:300]}"
    return (
        f"{name:<28} {1e3 * record['median']:9.2f} ms  fastest {1e3 * record['minimum']:9.2f}"
        f"  {record['frames_per_second']:11.0f} rows/s  {record['flops'] / 1e9:8.1f} GFLOP  "
        f"compile {record['compile_seconds']:5.1f} s, {record['compile_core_seconds']:5.1f} core s"
    )


if __name__ == "__main__":
    sys.exit(main())
