"""All that ten minutes on a host with a GPU can measure, in one command.

    python -m benchmarks.speed.measure_gpu --out OUT                 # speed, then learning
    python -m benchmarks.speed.measure_gpu --out OUT --part learning --budget 300

Speed: of the workloads of ``JOBS`` so many compile at the same time, and each is timed alone, for
half of the budget where learning follows. As XLA is by default, it tries many forms of each kernel,
on all cores of the host at once: 23 updates side by side did not end within five minutes on 16
cores. So most are compiled without such trials, on a core each, and then the few whose trials are
worth their time. Learning: ``TRAINING`` in what is left of the budget; it is stopped as Ctrl-C
stops it, and its curves are kept. Every figure is a line of OUT/results.jsonl the moment that it is
known, so that a command that is cut short keeps what it has.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.options import Parser
from benchmarks.speed.apart import result_of, time_apart
from common.errors import UserError, exit_code
from common.run import folder as run_folder

UNTUNED, LOOPS, UNROLLED = "no trials", "loops in graphs", "loops in graphs, unrolled"
_NO_TRIALS = "--xla_gpu_autotune_level=0"
_LOOPS = (
    "--xla_gpu_enable_command_buffer=FUSION,CUBLAS,CUBLASLT,CUDNN,CUSTOM_CALL,CONDITIONAL,WHILE "
    "--xla_gpu_graph_min_graph_size=1"
)
FLAGS = {
    "": "",
    UNTUNED: _NO_TRIALS,
    LOOPS: f"{_NO_TRIALS} {_LOOPS}",
    UNROLLED: f"{_NO_TRIALS} {_LOOPS} --xla_gpu_command_buffer_unroll_loops=true",
}
"""Flags of XLA by the name of the variant; "" is how XLA compiles for everybody."""
JOBS = (
    ("dmc_vision/update-bfloat16", UNTUNED),
    ("vision_v3/update-bfloat16", UNTUNED),
    ("proprio_v3/update-bfloat16", UNTUNED),
    ("quickstart/update", UNTUNED),
    ("quickstart/update-seeds", UNTUNED),
    ("tdmpc2/update", UNTUNED),
    ("tdmpc2/update-seeds", UNTUNED),
    ("tdmpc2/policy-8", UNTUNED),
    ("dmc_vision/update-float32", UNTUNED),
    ("dmc_vision/update-bfloat16", LOOPS),
    ("quickstart/update", LOOPS),
    ("tdmpc2/update", LOOPS),
    ("atari/update-bfloat16", UNTUNED),
    ("small/update-seeds", UNTUNED),
    ("small/update", UNTUNED),
    ("planet/planner-1", UNTUNED),
    ("dmc_vision/policy-1", UNTUNED),
    ("dmc_vision/policy-8", UNTUNED),
    ("planet/planner-8", UNTUNED),
    ("tdmpc2/policy-1", UNTUNED),
    ("quickstart/update", UNROLLED),
    ("planet/update-bfloat16", UNTUNED),
    ("atari100k_v3/update-bfloat16", UNTUNED),
    ("dmc_vision/update-bfloat16", ""),
    ("vision_v3/update-bfloat16", ""),
    ("quickstart/update", ""),
    ("tdmpc2/update", ""),
    ("proprio_v3/update-bfloat16", ""),
)
"""Workloads of ``benchmarks.speed`` and variants, the dearest questions first."""
TUNED_AT_A_TIME = 3
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
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the results")
    parser.add_argument("--budget", type=float, default=560, help="seconds for everything (560)")
    parser.add_argument("--part", choices=("all", "speed", "learning"), default="all")
    parser.add_argument("--jobs", default="", help="only workloads whose name has this")
    parser.add_argument("--parallel", type=int, default=16, help="compiled at a time (16)")
    parser.add_argument("--repeats", type=int, default=20, help="timed calls of each (20)")
    parser.add_argument("--train", nargs=argparse.REMAINDER, help="other options of the training")
    return exit_code(lambda: _run(parser.parse()))


def _run(arguments: argparse.Namespace) -> int:
    jobs = [job for job in JOBS if arguments.jobs in job[0]]
    if not jobs:
        raise UserError(f"no workload has {arguments.jobs!r} in its name, see JOBS")
    if arguments.parallel < 1 or arguments.repeats < 1 or arguments.budget <= 0:
        raise UserError("--parallel, --repeats and --budget are above zero")
    begin = time.monotonic()
    end = begin + arguments.budget
    arguments.out.mkdir(parents=True, exist_ok=True)
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
    jobs: list[tuple[str, str]],
    arguments: argparse.Namespace,
    end: float,
    write: Callable[[dict[str, Any]], None],
) -> None:
    shared = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    left = lambda: max(0.0, end - time.monotonic())  # noqa: E731
    if not arguments.jobs:
        machine = [sys.executable, "-m", "benchmarks.speed.machine"]
        write({"machine": result_of(machine, left(), shared)})

    def job(name: str, variant: str) -> dict[str, Any]:
        environment = {**shared, "XLA_FLAGS": FLAGS[variant]}
        result = time_apart(name, arguments.repeats, left(), environment)
        return {"workload": name, "variant": variant, "flags": FLAGS[variant], **result}

    for tuned, together in ((False, arguments.parallel), (True, TUNED_AT_A_TIME)):
        with concurrent.futures.ThreadPoolExecutor(together) as pool:
            chosen = [one for one in jobs if (one[1] == "") == tuned]
            running = [pool.submit(job, *one) for one in chosen]
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


def _line(record: dict[str, Any]) -> str:
    """One line for people."""
    if "workload" not in record:
        return json.dumps(record)
    name = f"{record['workload']} {record['variant']}".strip()
    if "error" in record:
        return f"{name:<44} {record['error'].strip().splitlines()[-1][:300]}"
    return (
        f"{name:<44} {1e3 * record['median']:9.2f} ms  fastest {1e3 * record['minimum']:9.2f}"
        f"  {record['frames_per_second']:11.0f} rows/s  {record['flops'] / 1e9:8.1f} GFLOP  "
        f"compile {record['compile_seconds']:5.1f} s, {record['compile_core_seconds']:5.1f} core s"
    )


if __name__ == "__main__":
    sys.exit(main())
