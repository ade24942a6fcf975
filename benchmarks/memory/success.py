"""Success by delay of finished runs in a world of memory, with each dynamics."""

from __future__ import annotations

import csv
import inspect
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from common.config import read_mapping
from common.envs.memory import MemoryWorld
from common.envs.worlds import find
from common.errors import UserError
from common.logging.jsonl import read_jsonl
from common.run import folder as run_folder

EVALUATION, TRAINING = "eval/return_mean", "episode/success"


class Run(NamedTuple):
    """What one run left.

    Attributes:
        task: Its world.
        world: Options of the world, written out, but for the delay; and the frames wanted.
        pixels: Whether it was seen as pictures.
        dynamics: Of its world model.
        delay: Rows between what was shown and what was asked.
        symbols: How many there were; who guesses is right once in so many times.
        seed: Its seed.
        evaluations: ``[V, 2]`` frames and success of every evaluation.
        training: ``[L, 2]`` the same of what was collected.
        versions: What it ran with, line by line.
        seconds: Wall-clock seconds.
    """

    task: str
    world: dict[str, Any]
    pixels: bool
    dynamics: str
    delay: int
    symbols: int
    seed: int
    evaluations: np.ndarray
    training: np.ndarray
    versions: list[str]
    seconds: float

    @property
    def final(self) -> float:
        """Success of the last evaluation."""
        return float(self.evaluations[-1, 1])


def read_run(logdir: pathlib.Path) -> Run:
    """Reads one run folder.

    Raises:
        UserError: It holds no run in a world of memory, or none with an evaluation.
    """
    run_folder.agent_name(logdir)
    config = read_mapping(logdir / run_folder.CONFIG)
    if not config["task"].startswith("memory_"):
        raise UserError(f"{logdir} is a run of {config['task']}; expected a memory_ task")
    world = find(config["task"])(**config["env"]["kwargs"])
    metrics = list(read_jsonl(logdir / run_folder.METRICS))
    evaluations, training = (
        np.array([[row["frames"], row[name]] for row in metrics if name in row]).reshape(-1, 2)
        for name in (EVALUATION, TRAINING)
    )
    if not len(evaluations):
        raise UserError(f"{logdir} holds no evaluation yet; let the run reach run.eval_every")
    evaluations[:, 1] = [world.share_right(total) for total in evaluations[:, 1]]
    return Run(
        task=config["task"],
        world=_world(world, config),
        pixels=world.pixels,
        dynamics=config["world_model"]["dynamics"],
        delay=world.delay,
        symbols=world.symbols,
        seed=config["seed"],
        evaluations=evaluations,
        training=training,
        versions=(logdir / run_folder.VERSIONS).read_text().splitlines(),
        seconds=max(row.get("time/elapsed_s", 0.0) for row in metrics),
    )


def _world(world: MemoryWorld, config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what runs must share to be compared, defaults written out."""
    own = [name for name in inspect.signature(type(world)).parameters if name != "delay"]
    more = {"repeat": max(1, config["env"]["action_repeat"]), "frames": config["run"]["frames"]}
    return {name: getattr(world, name) for name in own} | more


def collect(runs: Sequence[Run]) -> dict[tuple[str, int], list[Run]]:
    """Sorts runs by dynamics and delay.

    Raises:
        UserError: They are of different worlds or lengths, or two of them are the same seed's.
    """
    worlds = sorted({_said(run) for run in runs})
    if len(worlds) > 1:
        raise UserError(f"the runs are of different worlds: {', '.join(worlds)}; record each alone")
    groups: dict[tuple[str, int], list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.dynamics, run.delay, run.seed)):
        group = groups.setdefault((run.dynamics, run.delay), [])
        if run.seed in [other.seed for other in group]:
            raise UserError(
                f"two runs of {run.dynamics} with a delay of {run.delay} have the seed {run.seed}; "
                "leave one of them out"
            )
        group.append(run)
    return groups


def _said(run: Run) -> str:
    options = ", ".join(f"{name} {str(value).lower()}" for name, value in run.world.items())
    return f"{run.task} ({options})"


def table(runs: Sequence[Run]) -> str:
    """Final success as Markdown: a row for each delay, the mean and every seed."""
    groups = collect(runs)
    names = sorted({name for name, _ in groups})
    lines = [f"| delay | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
    for delay in sorted({delay for _, delay in groups}):
        cells = [_cell(groups.get((name, delay), [])) for name in names]
        lines.append(f"| {delay} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(runs: Sequence[Run]) -> str:
    if not runs:
        return "not run"
    finals = [run.final for run in runs]
    each = ", ".join(f"{x:.2f}" for x in finals)
    return each if len(finals) == 1 else f"{np.mean(finals):.2f} ({each})"


def write(directory: pathlib.Path, runs: Sequence[Run]) -> list[pathlib.Path]:
    """Writes the world's name and what was seen of it, such as ``memory_recall_pixels``, with
    ``.json``, ``.csv`` (evaluations, long format) and ``.png``."""
    groups = collect(runs)
    directory.mkdir(parents=True, exist_ok=True)
    name = f"{runs[0].task}_{'pixels' if runs[0].pixels else 'state'}"
    paths = [directory / f"{name}.{suffix}" for suffix in ("json", "csv", "png")]
    record = {
        "task": runs[0].task,
        "world": runs[0].world,
        "guessing": 1 / runs[0].symbols,
        "versions": runs[0].versions,
        "runs": [_to_json(run) for group in groups.values() for run in group],
    }
    paths[0].write_text(json.dumps(record, indent=1) + "\n")
    with paths[1].open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["dynamics", "delay", "seed", "frames", "success"])
        for group in groups.values():
            for run in group:
                own = run.dynamics, run.delay, run.seed
                writer.writerows([*own, int(frames), x] for frames, x in run.evaluations)
    _plot(paths[2], groups)
    return paths


def _to_json(run: Run) -> dict[str, Any]:
    return {
        "dynamics": run.dynamics,
        "delay": run.delay,
        "seed": run.seed,
        "frames": int(run.evaluations[-1, 0]),
        "success": round(run.final, 4),
        "evaluations": np.round(run.evaluations, 3).tolist(),
        "training": np.round(run.training, 3).tolist(),
        "wall_clock_seconds": round(run.seconds),
    }


def _plot(path: pathlib.Path, groups: dict[tuple[str, int], list[Run]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.0), dpi=120, layout="constrained")
    first = next(iter(groups.values()))[0]
    for index, name in enumerate(sorted({name for name, _ in groups})):
        delays = sorted(delay for other, delay in groups if other == name)
        means = [np.mean([run.final for run in groups[name, delay]]) for delay in delays]
        axes.plot(delays, means, "-o", color=f"C{index}", markersize=4, label=name)
        for delay in delays:
            finals = [run.final for run in groups[name, delay]]
            axes.plot([delay] * len(finals), finals, ".", color=f"C{index}", alpha=0.5)
    axes.axhline(1 / first.symbols, color="gray", linestyle="--", label="guessing")
    axes.set_xscale("log")
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("delay in rows")
    axes.set_ylabel("share of right answers, last evaluation")
    seen = "pixels" if first.pixels else "state"
    axes.set_title(f"{first.task} from {seen}: mean over seeds; dots: seeds", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path)
    plt.close(figure)
