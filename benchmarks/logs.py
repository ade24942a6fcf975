"""Whether a policy learned from logs beats imitating the same logs.

    python -m benchmarks.logs --runs runs/cartpole runs/walker --logdir runs/logs  # all, in turn
    python -m benchmarks.logs --table                                              # what there is

The logs are episodes of finished runs of "dmc_state_cpu" (``LOGS``): "mixed" ones are the first,
from random to fairly good, "good" ones the last. From the same logs learn, with the same preset: a
Dreamer in imagination; one whose rewards are less what an ensemble disagrees about
(``behavior.penalty``); and one whose actor imitates the logged actions (``behavior.method
cloning``). Every run that has ended is one line of benchmarks/results/logs/runs.jsonl, and is not
made again.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks import series
from benchmarks.learning.record import RANDOM
from benchmarks.options import Parser
from benchmarks.series import Key, Line, Series
from common.config import read_mapping
from common.errors import UserError, exit_code
from common.logging.jsonl import read_jsonl
from common.replay import read_episodes
from common.run import folder as run_folder
from common.run import versions
from common.run.recorded import recorded_repeat, write_collection

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "logs"
RECORD, PICTURE = "runs.jsonl", "curves.png"
PRESETS = ("dmc_state_cpu",)


class Logs(NamedTuple):
    """Some episodes of a run.

    Attributes:
        task: What was played.
        begin: The first of them, from the end where it is negative.
        amount: How many.
        penalty: Of "conservative": 1.25 for each frame of an action, whose reward is at most 1.
    """

    task: str
    begin: int
    amount: int
    penalty: float


LOGS = {
    "cartpole mixed": Logs("dmc_cartpole_swingup", 0, 30, 10.0),
    "cartpole good": Logs("dmc_cartpole_swingup", -30, 30, 10.0),
    "walker mixed": Logs("dmc_walker_walk", 0, 24, 2.5),
}
"""What is learned from; an action is 8 frames of the cartpole, 2 of the walker."""
_SMALL = {"members": 5, "layers": 2, "units": 64}
METHODS: dict[str, dict[str, Any]] = {
    "imagination": {},
    "conservative": {f"exploration.ensemble.{name}": value for name, value in _SMALL.items()},
    "cloning": {"behavior.method": "cloning"},
}
"""What learns, and its options."""


def options(method: str, logs: str, updates: int) -> dict[str, Any]:
    """Returns what a run has beside the preset, the task, its logs and its seed."""
    usual = {
        "run.updates": updates, "run.eval_every": updates // 4, "run.log_every": updates // 20,
        "run.eval_episodes": 10, "run.random_episodes": 10, "run.video": False,
    }  # fmt: skip
    penalty = {"behavior.penalty": LOGS[logs].penalty} if method == "conservative" else {}
    return usual | METHODS[method] | penalty


def take_logs(logs: str, runs: Iterable[pathlib.Path], folder: pathlib.Path) -> list[float]:
    """Writes episodes of a run as logs, where they are not there yet.

    Args:
        logs: Which.
        runs: Folders of runs; the first one of the task is taken.
        folder: Where to.

    Returns:
        Their returns.

    Raises:
        UserError: There is no run of the task, or it has too few episodes.
    """
    task, begin, amount, _ = LOGS[logs]
    if not folder.exists():
        of_task = (run for run in runs if read_mapping(run / run_folder.CONFIG)["task"] == task)
        run = next(of_task, None)
        if run is None:
            raise UserError(f"--runs names no run of {task}")
        found = read_episodes(run / run_folder.REPLAY)
        if len(found) < amount:
            raise UserError(f"{run} has {len(found)} episodes; expected {amount}")
        repeat = recorded_repeat(run / run_folder.REPLAY)
        chosen = found[begin:][:amount]
        write_collection(folder, chosen, {"task": task, "action_repeat": repeat})
    return [round(float(one["reward"].sum()), 1) for one in read_episodes(folder)]


def train(
    method: str, logs: str, seed: int, updates: int, runs: Iterable[pathlib.Path],
    logdir: pathlib.Path,
) -> Line:  # fmt: skip
    """Learns once, or goes on with it; returns the line of the record.

    Raises:
        UserError: There are no such logs, or the run ended with an error.
    """
    data = logdir.parent / "data" / logs.replace(" ", "-")
    returns, task = take_logs(logs, runs, data), LOGS[logs].task
    words = ["--configs", *PRESETS, "--task", task, "--seed", str(seed), "--data", str(data)]
    for name, value in options(method, logs, updates).items():
        words += [f"--{name}", str(value).lower()]
    series.train(words, logdir)
    lines = list(read_jsonl(logdir / run_folder.METRICS, "updates"))
    kept = ("eval/return_mean", "eval/return_min", "eval/return_max")
    imagined = "imagination/return_mean"
    return {
        "method": method,
        "logs": logs,
        "seed": seed,
        "options": options(method, logs, updates),
        "returns": returns,
        "curve": [
            [one["updates"], *(round(one[name], 1) for name in kept)]
            for one in lines
            if kept[0] in one
        ],
        "imagined": [[x["updates"], round(x[imagined], 2)] for x in lines if imagined in x],
        "random": next(one[RANDOM] for one in lines if RANDOM in one),
        "seconds": round(max(one.get("time/elapsed_s", 0.0) for one in lines)),
        "versions": versions.describe().splitlines(),
    }


def read(record: pathlib.Path, updates: int) -> dict[Key, Line]:
    """Returns the runs that are recorded with the options of today, by method, logs and seed."""
    return {
        (one["method"], one["logs"], one["seed"]): one
        for one in series.read_lines(record)
        if one["method"] in METHODS and one["logs"] in LOGS
        if one["options"] == options(one["method"], one["logs"], updates)
    }


def table(runs: Mapping[Key, Line]) -> str:
    """Shows all logs, and what each method reached with them, of every seed."""
    lines = [
        "| logs | their returns: mean; best | random policy | method | last evaluation, each seed "
        "| mean over the curve | minutes |",
        "|---" * 7 + "|",
    ]
    for logs in LOGS:
        for method in METHODS:
            found = [one for key, one in sorted(runs.items()) if key[:2] == (method, logs)]
            if not found:
                continue
            returns, random = found[0]["returns"], np.mean([one["random"] for one in found])
            last = ", ".join(f"{one['curve'][-1][1]:.0f}" for one in found)
            curve = ", ".join(f"{np.mean([x[1] for x in one['curve']]):.0f}" for one in found)
            minutes = np.mean([one["seconds"] for one in found]) / 60
            lines.append(
                f"| {logs} | {np.mean(returns):.0f}; {max(returns):.0f} | {random:.0f} "
                f"| {method} | "
                f"{last} | {curve} | {minutes:.0f} |"
            )
    return "\n".join(lines)


def plot(runs: Mapping[Key, Line], path: pathlib.Path) -> None:
    """Draws the evaluations of every method by updates, with the mean and best of the logs."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = [logs for logs in LOGS if any(logs == key[1] for key in runs)]
    figure, grid = plt.subplots(
        1, len(names), figsize=(4.2 * len(names), 3.2), dpi=120, layout="constrained", squeeze=False
    )
    for axes, logs in zip(grid[0], names, strict=True):
        for number, method in enumerate(METHODS):
            found = [one for key, one in sorted(runs.items()) if key[:2] == (method, logs)]
            for one in found:
                updates, returns, *_ = zip(*one["curve"], strict=True)
                label = method if one is found[0] else None
                axes.plot(updates, returns, "o-", color=f"C{number}", label=label)
        logged = next(one["returns"] for key, one in runs.items() if key[1] == logs)
        axes.axhline(np.mean(logged), color="gray", linestyle="--", label="logs, mean")
        axes.axhline(max(logged), color="gray", linestyle=":", label="logs, best episode")
        axes.set_title(f"{logs}: {len(logged)} episodes", fontsize=9)
        axes.set_xlabel("updates")
        axes.set_ylabel("evaluation return")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.savefig(path)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = Parser("python -m benchmarks.logs", description=__doc__)
    series.add_options(parser, [1], RESULTS)
    add, logs, methods = parser.add_argument, list(LOGS), list(METHODS)
    add("--runs", type=pathlib.Path, nargs="+", default=[], help="finished runs, of each task one")
    add("--logs", nargs="+", choices=logs, default=logs, help="what is learned from (all)")
    add("--methods", nargs="+", choices=methods, default=methods, help="what learns (all)")
    add("--updates", type=int, default=3000, help="length of a run (3000)")
    return exit_code(lambda: _run(parser.parse(argv)))


def _run(arguments: argparse.Namespace) -> int:
    wanted = [
        (method, logs, seed)
        for seed in arguments.seeds
        for logs in arguments.logs
        for method in arguments.methods
    ]
    updates = arguments.updates
    runs = Series(
        wanted,
        make=lambda key, logdir: train(*key, updates, arguments.runs, logdir),
        name=lambda key: "-".join(map(str, key)).replace(" ", "-"),
        read=lambda record: read(record, updates),
        table=table,
        plot=plot,
        picture=PICTURE,
        called=f"run of {updates:,} updates",
    )
    return series.run(runs, arguments, arguments.results / RECORD)


if __name__ == "__main__":
    sys.exit(main())
