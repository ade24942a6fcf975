"""Reads run folders and writes one record of their learning curves."""

from __future__ import annotations

import csv
import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from common.config import read_mapping
from common.envs.dmc import written_out
from common.errors import UserError
from common.logging.jsonl import read_jsonl
from common.report.agents import differing_options
from common.run import folder as run_folder

RANDOM = "random/return_mean"
_EVALUATION = ("eval/return_mean", "eval/return_std", "eval/return_min", "eval/return_max")


class RunCurve(NamedTuple):
    """What one run left.

    Attributes:
        seed: Its seed.
        task: Its task.
        config: Its resolved configuration.
        versions: What it ran with, line by line.
        episodes: ``[E, 2]`` frames and return of every training episode.
        evaluations: ``[V, 5]`` frames, then mean, deviation, minimum and maximum of the
            evaluation returns.
        random: Mean return of the random policy; None where it was not scored.
        seconds: Wall-clock seconds.
    """

    seed: int
    task: str
    config: dict[str, Any]
    versions: list[str]
    episodes: np.ndarray
    evaluations: np.ndarray
    random: float | None
    seconds: float


def read_run(logdir: pathlib.Path) -> RunCurve:
    """Reads one run folder.

    Raises:
        UserError: The folder holds no run, or a run without an evaluation.
    """
    run_folder.agent_name(logdir)
    config = read_mapping(logdir / run_folder.CONFIG)
    config["task"] = written_out(config["task"])
    metrics = list(read_jsonl(logdir / run_folder.METRICS))
    scores = list(read_jsonl(logdir / run_folder.SCORES))
    evaluations = [
        [row["frames"], *(row[name] for name in _EVALUATION)]
        for row in metrics
        if _EVALUATION[0] in row
    ]
    if not evaluations:
        raise UserError(f"{logdir} holds no evaluation yet; let the run reach run.eval_every")
    return RunCurve(
        seed=config["seed"],
        task=config["task"],
        config=config,
        versions=(logdir / run_folder.VERSIONS).read_text().splitlines(),
        episodes=np.array([[row["frames"], row["return"]] for row in scores]).reshape(-1, 2),
        evaluations=np.array(evaluations, float),
        random=next((row[RANDOM] for row in metrics if RANDOM in row), None),
        seconds=max(row.get("time/elapsed_s", 0.0) for row in metrics),
    )


def versions_of(run: RunCurve) -> list[str]:
    """Returns what a run ran with, but for its folder, which means nothing elsewhere."""
    return [re.sub(r" --logdir \S+", "", line) for line in run.versions]


def read_recorded(directory: pathlib.Path, name: str) -> list[RunCurve]:
    """Reads the runs of a record back, so that further seeds can be added to it.

    Raises:
        UserError: There is no such record.
    """
    path = directory / f"{name}.json"
    if not path.exists():
        raise UserError(f"there is no record {path} to add to; leave --add away to begin one")
    found = json.loads(path.read_text())
    with path.with_suffix(".csv").open(newline="") as file:  # Which rounds nothing.
        rows = [[float(x) for x in list(row.values())[1:]] for row in csv.DictReader(file)]
    return [
        RunCurve(
            seed=curve["seed"],
            task=found["task"],
            config={**found["config"], "seed": curve["seed"]},
            versions=curve.get("versions", found["versions"]),
            episodes=np.array(curve["episodes"]).reshape(-1, 2),
            evaluations=np.array([row[1:] for row in rows if row[0] == curve["seed"]]),
            random=found["random_return"][i],
            seconds=found["wall_clock_seconds"][i],
        )
        for i, curve in enumerate(found["curves"])
    ]


def write_record(
    directory: pathlib.Path, name: str, runs: Sequence[RunCurve]
) -> list[pathlib.Path]:
    """Writes ``name.json``, ``name.csv`` (evaluations, long format) and ``name.png``.

    Raises:
        UserError: The runs are of different tasks or options, or share a seed.
    """
    tasks = sorted({run.task for run in runs})
    seeds = [run.seed for run in runs]
    if len(tasks) > 1:
        raise UserError(f"the runs are of different tasks: {', '.join(tasks)}; record each alone")
    if len(set(seeds)) < len(seeds):
        raise UserError(f"two runs share a seed ({seeds}); leave one of them out")
    for run in runs[1:]:
        if differ := differing_options(runs[0].config, run.config, but=("seed",)):
            raise UserError(
                f"the runs of seeds {runs[0].seed} and {run.seed} differ in "
                f"{', '.join(sorted(differ)[:6])}; record them apart"
            )
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{name}.{suffix}" for suffix in ("json", "csv", "png")]
    paths[0].write_text(json.dumps(_record(name, runs), indent=1) + "\n")
    with paths[1].open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["task", "seed", "frames", "return", "std", "min", "max"])
        for run in runs:
            writer.writerows([run.task, run.seed, int(row[0]), *row[1:]] for row in run.evaluations)
    _plot(paths[2], name, runs)
    return paths


def _record(name: str, runs: Sequence[RunCurve]) -> dict[str, Any]:
    final = [float(run.evaluations[-1, 1]) for run in runs]
    return {
        "name": name,
        "task": runs[0].task,
        "seeds": [run.seed for run in runs],
        "final_evaluation_return": final,
        "final_evaluation_return_mean": float(np.mean(final)),
        "evaluation_episodes": runs[0].config["run"]["eval_episodes"],
        "random_return": [run.random for run in runs],
        "frames": [int(run.evaluations[-1, 0]) for run in runs],
        "wall_clock_seconds": [round(run.seconds) for run in runs],
        "versions": versions_of(runs[0]),
        "config": {key: value for key, value in runs[0].config.items() if key != "seed"},
        "curves": [
            {
                "seed": run.seed,
                "versions": versions_of(run),
                "evaluations": np.round(run.evaluations, 2).tolist(),
                "episodes": np.round(run.episodes, 2).tolist(),
            }
            for run in runs
        ],
    }


def _plot(path: pathlib.Path, name: str, runs: Sequence[RunCurve]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.0), dpi=120, layout="constrained")
    for index, run in enumerate(runs):
        color = f"C{index}"
        frames, mean, _, low, high = run.evaluations.T
        axes.plot(*run.episodes.T, ".", color=color, alpha=0.2, markersize=4)
        axes.fill_between(frames, low, high, color=color, alpha=0.12, linewidth=0)
        axes.plot(frames, mean, "-o", color=color, markersize=3, label=f"seed {run.seed}")
    randoms = [run.random for run in runs if run.random is not None]
    if randoms:
        axes.axhline(np.mean(randoms), color="gray", linestyle="--", label="random policy")
    axes.set_xlabel("frames (simulator steps, action repeat included)")
    axes.set_ylabel("return")
    title = f"{name}, {runs[0].task}\nevaluation mean, minimum to maximum; dots: training"
    axes.set_title(title, fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path)
    plt.close(figure)
