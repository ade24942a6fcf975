"""Trains for hours and watches the memory that the run takes.

    python -m benchmarks.endurance --logdir runs/long --hours 6

The quickstart goes on without end, with everything that a run does again and again: checkpoints,
evaluations, videos and logs. Its replay is small, so that it is full within minutes and no
memory grows by design. What was found goes to benchmarks/results/reliability.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time
from typing import Any

import numpy as np

from benchmarks.options import Parser
from common.errors import STOPPED, UserError, exit_code
from common.logging import read_jsonl
from common.run import folder as run_folder
from common.run import versions

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "reliability"
OPTIONS = {
    "run.frames": 10**12,
    "run.eval_every": 10_000,
    "run.eval_episodes": 1,
    "run.checkpoint_every": 60,
    "replay.capacity": 5_000,
}
INTERVAL = 30.0
"""Seconds between two looks at the memory."""
WARM_UP = 0.1
"""Share of the time after which memory should no longer grow."""


def memory(session: int) -> tuple[float, int]:
    """Returns the resident memory of a session's processes, in MiB, and their open files."""
    pages = files = 0
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                pages += int((process / "statm").read_text().split()[1])
                files += len(list((process / "fd").iterdir()))
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # It has just ended.
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, files


def growth(hours: np.ndarray, values: np.ndarray) -> float:
    """Returns by how much values grow within an hour, after the warm-up, by least squares."""
    late = hours >= WARM_UP * hours[-1]
    return float(np.polyfit(hours[late], values[late], 1)[0])


def watch(logdir: pathlib.Path, hours: float, interval: float) -> list[tuple[float, float, int]]:
    """Trains for so long; returns hours, MiB and open files of every look.

    Raises:
        UserError: The run ended by itself, or not cleanly when it was asked to.
    """
    words = "train --configs quickstart --task dmc_cartpole_swingup --logdir".split()
    options = [word for name, value in OPTIONS.items() for word in (f"--{name}", str(value))]
    seen, begin = [], time.monotonic()
    with (logdir.parent / f"{logdir.name}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dreamer", *words, str(logdir), *options],
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            while (passed := time.monotonic() - begin) < 3600 * hours:
                time.sleep(min(interval, 3600 * hours - passed))
                if process.poll() is not None:
                    raise UserError(f"the run ended with {process.returncode}; see {log.name}")
                seen.append(((time.monotonic() - begin) / 3600, *memory(process.pid)))
                print(f"{seen[-1][0]:.2f} of {hours:g} hours: {seen[-1][1]:.0f} MiB", flush=True)
        finally:  # After Ctrl-C too: the run has a session of its own and no end.
            process.terminate()
            code = process.wait()
    if code != STOPPED:
        raise UserError(f"the run did not stop cleanly: {code}; see {log.name}")
    return seen


def record(seen: list[tuple[float, float, int]], logdir: pathlib.Path) -> dict[str, Any]:
    """Builds the record of a run."""
    hours, mib, files = map(np.array, zip(*seen, strict=True))
    last = [one for one in read_jsonl(logdir / run_folder.METRICS) if "time/updates" in one][-1]
    return {
        "hours": round(float(hours[-1]), 2),
        "frames": int(last["frames"]),
        "updates": int(last["time/updates"]),
        "mib_at_warm_up": round(float(mib[hours >= WARM_UP * hours[-1]][0]), 1),
        "mib_at_the_end": round(float(mib[-1]), 1),
        "mib_at_most": round(float(mib.max()), 1),
        "mib_of_growth_an_hour": round(growth(hours, mib), 2),
        "open_files_at_most": int(files.max()),
        "mib": [round(float(one), 1) for one in mib],
        "options": OPTIONS,
        "versions": versions.describe().splitlines(),
    }


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = Parser("python -m benchmarks.endurance", description=__doc__)
    parser.add_argument("--logdir", type=pathlib.Path, required=True, help="folder of the run")
    parser.add_argument("--hours", type=float, default=6.0, help="how long (6)")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS, help="where to write")
    return exit_code(lambda: _run(parser.parse()))


def _run(arguments: argparse.Namespace) -> int:
    if not arguments.hours > 0:
        raise UserError(f"--hours must be above 0, not {arguments.hours:g}")
    arguments.logdir.parent.mkdir(parents=True, exist_ok=True)
    interval = min(INTERVAL, 3600 * arguments.hours / 20)
    seen = watch(arguments.logdir, arguments.hours, interval)
    found = record(seen, arguments.logdir)
    arguments.results.mkdir(parents=True, exist_ok=True)
    target = arguments.results / "memory.json"
    target.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{found['mib_of_growth_an_hour']} MiB more an hour; {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
