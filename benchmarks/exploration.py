"""How much of a maze each way of exploring sees, and whether it finds the goal.

    python -m benchmarks.exploration --logdir runs/exploration                # all, in turn
    taskset -c 0 python -m benchmarks.exploration --logdir runs/one --seeds 1 # a seed a core
    python -m benchmarks.exploration --table                                  # what is recorded

One maze, the preset "maze", without and with a noisy television: a random policy, a Dreamer that
looks for the goal alone, and one by each method of ``--exploration.method``, which is not told of
the goal. Every run that has ended is one line of benchmarks/results/exploration/runs.jsonl, and is
not made again. The table is printed, curves and maps of all visits are drawn beside the record.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import series
from benchmarks.options import Parser
from benchmarks.series import Key, Series
from common.command.presets import load_presets
from common.config import update
from common.envs import EnvConfig, make
from common.envs.mazes import GOAL, VISITS, WATCHED, Maze
from common.errors import UserError, exit_code
from common.logging.jsonl import read_jsonl
from common.rows import LOG_PREFIX
from common.run import folder as run_folder
from common.run import versions
from common.run.driver import Driver, RandomPolicy

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "exploration"
RECORD, PICTURE = "runs.jsonl", "maps.png"
PRESET, TASK = "maze", "maze_goal"
RANDOM = "random"
METHODS = {
    RANDOM: "random policy",
    "none": "task reward only",
    "surprise": "surprise",
    "plan2explore": "Plan2Explore",
    "curiosity": "episodic curiosity",
}
"""Who explores, by ``--exploration.method``, and what the table calls it."""
WORLDS = {"plain": False, "television": True}
"""Whether there is a television."""
Run = Mapping[str, Any]


def options(world: str, frames: int) -> dict[str, Any]:
    """Returns what a run of a world has, beside its method and seed."""
    preset = load_presets([PRESET], "dreamer")
    kwargs = preset["env"]["kwargs"] | {"television": WORLDS[world], "visits": True}
    return preset | {"env": preset["env"] | {"kwargs": kwargs}, "frames": frames}


def play_at_random(found: Mapping[str, Any], seed: int) -> list[dict[str, float]]:
    """Returns the episodes of a random policy, as ``scores.jsonl`` has them.

    Args:
        found: Of ``options``.
        seed: Of the policy.
    """
    config = update(EnvConfig(), found["env"] | {"workers": "none"})
    envs = make(TASK, config, seed)
    driver, policy, episodes = Driver(envs), RandomPolicy(envs.action_spec, seed), []
    driver.act(None)
    steps = 0
    while steps < found["frames"]:
        steps += int((~driver.receive()["is_first"]).sum())
        for episode in driver.episodes:
            log = {key.removeprefix(LOG_PREFIX): x for key, x in episode.extras.items()}
            episodes.append({"frames": steps, "return": episode.episode_return} | log)
        driver.act(policy)
    driver.receive()
    envs.close()
    return episodes


def summary(episodes: Iterable[Mapping[str, float]], size: int) -> dict[str, Any]:
    """Returns what all episodes together have seen.

    Args:
        episodes: In their order, with the visits of every cell.
        size: Cells of a side.

    Returns:
        "curve", frames and share of the cells that were visited up to each episode's end;
        "visits" of every cell ``[size, size]``; "goals" that were found; and the share of the
        steps that was "watched".
    """
    visits, curve, goals, watched, steps = np.zeros((size, size)), [], 0.0, 0.0, 0
    cell, goal, watching = (name.removeprefix(LOG_PREFIX) for name in (VISITS, GOAL, WATCHED))
    for episode in episodes:
        for name, amount in episode.items():
            if name.startswith(cell):
                row, column = map(int, name.removeprefix(cell).split("_"))
                visits[row, column] += amount
        goals += episode[goal]
        watched += episode.get(watching, 0.0)
        steps = episode["frames"]
        curve.append([int(steps), round(float((visits > 0).mean()), 4)])
    if not visits.any():
        raise UserError("no episode says which cells it visited; give --env.kwargs.visits true")
    share = round(watched / steps, 4)
    return {"curve": curve, "visits": visits.tolist(), "goals": int(goals), "watched": share}


def train(method: str, world: str, seed: int, frames: int, logdir: pathlib.Path) -> dict[str, Any]:
    """Makes a run, or goes on with it; returns the line of the record.

    Raises:
        UserError: The run ended with an error.
    """
    found, begin = options(world, frames), time.monotonic()
    size, returns = found["env"]["kwargs"]["size"], []
    if method == RANDOM:
        episodes = play_at_random(found, seed)
    else:
        words = ["--configs", PRESET, "--seed", str(seed), "--exploration.method", method]
        words += ["--run.frames", str(frames)]
        kwargs = {"television": WORLDS[world], "visits": True}
        words += [x for key, on in kwargs.items() for x in (f"--env.kwargs.{key}", str(on).lower())]
        series.train(words, logdir)
        episodes = read_jsonl(logdir / run_folder.SCORES)
        evaluated = "eval/return_mean"
        lines = list(read_jsonl(logdir / run_folder.METRICS))
        returns = [[one["frames"], one[evaluated]] for one in lines if evaluated in one]
    return {
        "method": method,
        "world": world,
        "seed": seed,
        "options": found,
        **summary(episodes, size),
        "evaluations": returns,
        "seconds": round(time.monotonic() - begin),
        "versions": versions.describe().splitlines(),
    }


def read(record: pathlib.Path, frames: int) -> dict[Key, Run]:
    """Returns the runs that are recorded with the options of today."""
    return {
        (one["method"], one["world"], one["seed"]): one
        for one in series.read_lines(record)
        if one["method"] in METHODS and one["world"] in WORLDS
        if one["options"] == json.loads(json.dumps(options(one["world"], frames)))
    }


def table(runs: Mapping[Key, Run]) -> str:
    """Shows every method in every world: the share that was visited, of every seed, and so on."""
    lines = [
        "| world | who explores | cells visited: mean | each seed | goals found | steps at the "
        "television | last evaluations |",
        "|---" * 7 + "|",
    ]
    for world in WORLDS:
        for method, name in METHODS.items():
            found = [one for key, one in sorted(runs.items()) if key[:2] == (method, world)]
            if not found:
                lines.append(f"| {world} | {name} | not run | | | | |")
                continue
            shares = [one["curve"][-1][1] for one in found]
            each = ", ".join(f"{share:.0%}" for share in shares)
            goals = ", ".join(str(one["goals"]) for one in found)
            watched = f"{np.mean([one['watched'] for one in found]):.0%}" if WORLDS[world] else ""
            last = ", ".join(f"{one['evaluations'][-1][1]:.1f}" for one in found
                             if one["evaluations"])  # fmt: skip
            lines.append(
                f"| {world} | {name} | **{np.mean(shares):.0%}** | {each} | {goals} | {watched} | "
                f"{last} |"
            )
    return "\n".join(lines)


def plot(runs: Mapping[Key, Run], path: pathlib.Path) -> None:
    """Draws the share that was visited by frames, and a map of all visits of each method."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    worlds = [world for world in WORLDS if any(key[1] == world for key in runs)]
    figure, grid = plt.subplots(
        len(worlds), 1 + len(METHODS), figsize=(2.3 * (1 + len(METHODS)), 2.6 * len(worlds)),
        dpi=120, layout="constrained", squeeze=False,
    )  # fmt: skip
    for world, (curves, *maps) in zip(worlds, grid, strict=True):
        for number, (method, name) in enumerate(METHODS.items()):
            found = [one for key, one in sorted(runs.items()) if key[:2] == (method, world)]
            for one in found:
                label = name if one is found[0] else None
                curves.plot(*zip(*one["curve"], strict=True), color=f"C{number}", lw=1, label=label)
            _map(maps[number], name, found)
        curves.set_title(f"{world}: share of cells visited", fontsize=8)
        curves.set_ylim(0, 1.02)
        curves.xaxis.set_major_formatter(lambda frames, _: f"{frames / 1000:g}k")
        curves.tick_params(labelsize=7)
        curves.grid(alpha=0.3)
        curves.legend(fontsize=6)
    figure.savefig(path)
    plt.close(figure)


def _map(axes: Any, name: str, runs: Sequence[Run]) -> None:
    """Draws the visits of all seeds, by their logarithm; cells that nobody saw are white."""
    axes.set_title(name if runs else f"{name}: not run", fontsize=8)
    axes.set_xticks([])
    axes.set_yticks([])
    if not runs:
        return
    visits = np.sum([one["visits"] for one in runs], 0)
    shown = np.where(visits > 0, np.log10(np.maximum(visits, 1)), np.nan)
    axes.imshow(shown, cmap="viridis", vmin=0, vmax=max(1.0, float(np.nanmax(shown))))
    kwargs = runs[0]["options"]["env"]["kwargs"]
    row, column = Maze(**kwargs).layout.goal
    axes.plot(column, row, "*", color="red", markersize=8)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = Parser("python -m benchmarks.exploration", description=__doc__)
    series.add_options(parser, [1, 2, 3], RESULTS)
    add = parser.add_argument
    add("--methods", nargs="+", choices=list(METHODS), default=list(METHODS), help="who (all)")
    add("--worlds", nargs="+", choices=list(WORLDS), default=list(WORLDS), help="where (both)")
    add("--frames", type=int, default=50_000, help="length of a run (50000)")
    return exit_code(lambda: _run(parser.parse(argv)))


def check_frames(frames: int, methods: Sequence[str]) -> None:
    """Raises a UserError where a run would end before an episode, or before anything is learned."""
    preset = load_presets([PRESET], "dreamer")
    episode, random = preset["env"]["time_limit"], preset["run"]["prefill"]
    if frames < episode:
        raise UserError(f"--frames is {frames}; expected at least {episode}, a whole episode")
    if frames <= random and set(methods) != {RANDOM}:
        raise UserError(
            f"--frames is {frames}, and the first {random} are random; give more, or --methods "
            f"{RANDOM} alone"
        )


def _run(arguments: argparse.Namespace) -> int:
    frames = arguments.frames
    if not arguments.table:
        check_frames(frames, arguments.methods)
    wanted = [
        (method, world, seed)
        for seed in arguments.seeds
        for world in arguments.worlds
        for method in arguments.methods
    ]
    runs = Series(
        wanted,
        make=lambda key, logdir: train(*key, frames, logdir),
        name=lambda key: "-".join(map(str, key)),
        read=lambda record: read(record, frames),
        table=table,
        plot=plot,
        picture=PICTURE,
        called=f"run of {frames:,} frames",
    )
    return series.run(runs, arguments, arguments.results / RECORD)


if __name__ == "__main__":
    sys.exit(main())
