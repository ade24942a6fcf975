"""Times whole runs: frames per second of the train command, and where its time goes.

    python -m benchmarks.speed run                  # every run below, one after another
    python -m benchmarks.speed run quickstart --results DIR

Each is the first part of a training as a user would start it, without evaluations and films. What
counts begins with the second line of the log that has updates: compiling and the random policy's
steps are over then.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any, NamedTuple

from benchmarks.options import Parser, make_results
from benchmarks.speed.harness import matmul_gflops
from common.errors import UserError, nearest
from common.logging import read_jsonl
from common.run import folder as run_folder
from common.run import versions
from common.run.clocks import SECONDS
from common.run.processes import free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "speed"
QUIET = "--run.eval_episodes 0 --run.random_episodes 0 --run.report_every 0 --run.video false"


class Run(NamedTuple):
    """A training whose beginning is timed.

    Attributes:
        command: The words after ``python -m``, without its length.
        frames: Its length.
        log_every: Frames between two lines of its log.
        processes: How many make it, on this machine.
        folder: Where in its folder the log lies.
    """

    command: str
    frames: int
    log_every: int
    processes: int = 1
    folder: str = ""


RUNS = {
    "quickstart": Run("dreamer train --configs quickstart", 20_000, 2000),
    "quickstart_2_processes": Run(
        "dreamer train --configs quickstart --env.amount 2", 20_000, 2000, processes=2
    ),
    "quickstart_3_seeds": Run(
        "dreamer train --configs quickstart --seeds 1,2,3", 20_000, 2000, folder="seed-1"
    ),
    "dmc_vision_small": Run(
        "dreamer train --configs dmc_vision size_s --task dmc_walker_walk --env.render fast",
        8_000, 1000,
    ),
    "atari_small": Run("dreamer train --configs atari size_s --task atari_pong "
                       "--run.prefill 4000", 32_000, 4000),
    "tdmpc2_cpu": Run(
        "planet train --configs tdmpc2_cpu --task dmc_walker_walk --run.prefill_episodes 1 "
        "--run.prefill 500 --run.pretrain 10", 4_000, 400,
    ),
}  # fmt: skip
"""What users with a CPU run, each as short as it may be for a stable figure."""


def main(argv: list[str]) -> int:
    """Runs the command line; returns the exit code.

    Raises:
        UserError: An unknown run, or one that failed.
    """
    parser = Parser("python -m benchmarks.speed run", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("runs", nargs="*", help=f"of {', '.join(RUNS)} [default: all]")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS, help="where to write")
    given = parser.parse(argv)
    for name in given.runs:
        if name not in RUNS:
            raise UserError(f"unknown run {name!r}{nearest(name, RUNS)}")
    make_results(given.results, "--results")
    for name in given.runs or RUNS:
        record = measure(name, RUNS[name])
        (given.results / f"run-{name}.json").write_text(json.dumps(record, indent=1) + "\n")
        print(format_line(record), flush=True)
    return 0


def measure(name: str, run: Run) -> dict[str, Any]:
    """Trains for a while; returns the record.

    Raises:
        UserError: The train command failed, or was too short to say anything.
    """
    load, matmul = os.getloadavg()[0], matmul_gflops()
    with tempfile.TemporaryDirectory() as folder:
        command = [*run.command.split(), *QUIET.split(), "--run.frames", str(run.frames)]
        command += ["--run.log_every", str(run.log_every), "--run.checkpoint_every", "100000"]
        _train([*command, "--logdir", folder], run.processes)
        lines = list(read_jsonl(pathlib.Path(folder) / run.folder / run_folder.METRICS))
    return {
        "run": name,
        "command": " ".join(command),
        **summary(lines),
        "matmul_gflops": matmul,
        "load_average": load,
        "cores": len(os.sched_getaffinity(0)),
        "versions": versions.describe().splitlines(),
    }


def _train(command: list[str], processes: int) -> None:
    """Runs a train command, by one process or by several."""
    words = [sys.executable, "-m", *command]
    port = free_port("127.0.0.1")
    started = [
        subprocess.Popen(
            words + ([f"--run.coordinator=127.0.0.1:{port},{processes},{i}"] * (processes > 1)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for i in range(processes)
    ]
    errors = [one.communicate()[1] for one in started]
    for one, words in zip(started, errors, strict=True):
        if one.returncode:
            raise UserError(f"{command[0]} failed: {(words.splitlines() or ['no word'])[-1]}")


def summary(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns speed and shares of what a log says of the time in which the run learned.

    Args:
        lines: Its metrics, one mapping a line.

    Raises:
        UserError: There are fewer than two lines of that time.
    """
    lines = [line for line in lines if "time/updates_per_s" in line]
    learning = [i for i, line in enumerate(lines) if line["time/updates_per_s"] > 0]
    if len(learning) < 3:
        raise UserError("the run learned for fewer than three lines of its log; make it longer")
    counted = lines[learning[1] :]
    seconds: dict[str, float] = {}
    for line in counted:
        for key, value in line.items():
            if key.startswith(SECONDS) and math.isfinite(value):
                part = key.removeprefix(SECONDS)
                seconds[part] = seconds.get(part, 0.0) + value
    total, before = sum(seconds.values()), lines[learning[1] - 1]
    return {
        "frames_per_second": (counted[-1]["frames"] - before["frames"]) / total,
        "updates_per_second": (counted[-1]["time/updates"] - before["time/updates"]) / total,
        "seconds": total,
        "shares": {part: value / total for part, value in sorted(seconds.items())},
    }


def format_line(record: dict[str, Any]) -> str:
    """One line for people."""
    shares = sorted(record["shares"].items(), key=lambda part: -part[1])
    words = ", ".join(f"{part} {100 * share:.1f}%" for part, share in shares if share >= 0.001)
    return (
        f"{record['run']:<18} {record['frames_per_second']:8.1f} frames/s "
        f"{record['updates_per_second']:7.2f} updates/s   {words}"
    )
