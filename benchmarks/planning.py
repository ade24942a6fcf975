"""Plans with the true simulator, so that the planner is proved apart from learning.

    python -m benchmarks.planning                          # the six tasks of PlaNet
    python -m benchmarks.planning dmc_walker_walk --candidates 250
    python -m benchmarks.planning dmc_finger_spin --warm_start --candidates 100 --top 2
    python -m benchmarks.planning dmc_finger_spin --random_walk 500    # besides the 1000
    python -m benchmarks.planning --table                  # what is recorded so far

Each task's result goes to benchmarks/results/planning, one JSON each: returns of every
episode beside the published ones, the planner, the time and the machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import sys
import time
from typing import Any

from benchmarks.options import Parser
from common.errors import UserError, exit_code
from common.planner import PlannerConfig
from common.run import versions
from common.run.evaluation import Evaluation, play
from planet.config import Config
from planet.simulator import SimulatorPolicy

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "planning"
PUBLISHED = {
    "dmc_cartpole_swingup": 850,
    "dmc_cheetah_run": 656,
    "dmc_walker_walk": 994,
    "dmc_finger_spin": 825,
    "dmc_cup_catch": 993,
    "dmc_reacher_easy": 964,
}
"""Returns of CEM with the true simulator, arXiv:1811.04551, table 1."""


def plan(config: Config, episodes: int, seed: int = 0) -> Evaluation:
    """Plays episodes by planning with the simulator; needs no picture.

    Args:
        config: Task, environment and planner.
        episodes: Episodes to play.
        seed: Seed of episodes and candidates.

    Raises:
        UserError: The task cannot be simulated.
    """
    env = dataclasses.replace(config.env, pixels=False, state=True, workers="none")
    make_policy = lambda envs: SimulatorPolicy(config, envs, seed)  # noqa: E731
    return play(config.task, env, episodes, seed, make_policy).tasks[config.task]


def record(config: Config, result: Evaluation, seconds: float) -> dict[str, Any]:
    """Builds the record of one task."""
    return {
        "task": config.task,
        "published_return": PUBLISHED.get(config.task),
        "mean_return": float(result.returns.mean()),
        "returns": [round(float(value), 2) for value in result.returns],
        "agent_steps": [int(length) for length in result.lengths],
        "seconds": round(seconds, 1),
        "cores": len(os.sched_getaffinity(0)),
        "planner": dataclasses.asdict(config.planner),
        "versions": versions.describe().splitlines(),
    }


def table(results: pathlib.Path) -> str:
    """Lists what is recorded beside what was published."""
    lines = [
        f"{'task':<22} {'published':>9} {'mean':>7} {'ratio':>6} {'episodes':>8} candidates  "
        "else than published"
    ]
    for path in sorted(results.glob("*.json")):
        one = json.loads(path.read_text())
        published, mean = one["published_return"], one["mean_return"]
        ratio = f"{mean / published:.3f}" if published else "-"
        found = _changes(PlannerConfig(**one["planner"]))
        changes = ", ".join(f"{name} {value}" for name, value in found.items())
        lines.append(
            f"{one['task']:<22} {published or '-':>9} {mean:>7.1f} {ratio:>6} "
            f"{len(one['returns']):>8} {one['planner']['candidates']:>10}  {changes or '-'}"
        )
    return "\n".join(lines)


def _changes(planner: PlannerConfig) -> dict[str, Any]:
    """What differs from the published planner, apart from the number of candidates."""
    usual = PlannerConfig(candidates=planner.candidates, top=planner.candidates // 10)
    both = dataclasses.asdict(planner), dataclasses.asdict(usual)
    return {name: value for name, value in both[0].items() if value != both[1][name]}


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = Parser(
        "python -m benchmarks.planning",
        description=__doc__,
    )
    parser.add_argument("tasks", nargs="*", help="such as dmc_cheetah_run (the six of PlaNet)")
    parser.add_argument("--episodes", type=int, default=1, help="episodes of each task (1)")
    parser.add_argument("--candidates", type=int, default=1000, help="sequences (1000)")
    parser.add_argument("--top", type=int, help="the best that are kept (a tenth of them)")
    parser.add_argument("--horizon", type=int, default=12, help="steps of a plan (12)")
    parser.add_argument("--random_walk", type=int, default=0, help="walks tried as well (0)")
    parser.add_argument("--warm_start", action="store_true", help="begin around the last plan")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS, help="where to write")
    parser.add_argument("--table", action="store_true", help="print the records and stop")
    return exit_code(lambda: _run(parser.parse()))


def _run(arguments: argparse.Namespace) -> int:
    if arguments.episodes < 1 or arguments.candidates < 10:
        raise UserError("--episodes must be at least 1 and --candidates at least 10")
    top = arguments.candidates // 10 if arguments.top is None else arguments.top
    if not 1 <= top <= arguments.candidates:
        raise UserError(f"--top is {top}; expected 1 to the {arguments.candidates} candidates")
    arguments.results.mkdir(parents=True, exist_ok=True)
    planner = PlannerConfig(
        candidates=arguments.candidates,
        top=top,
        horizon=arguments.horizon,
        random_walk=arguments.random_walk,
        warm_start=arguments.warm_start,
    )
    changes = _changes(planner)
    suffix = "".join(f"-{name}{value}" for name, value in changes.items()).replace("True", "")
    for task in () if arguments.table else arguments.tasks or PUBLISHED:
        print(f"{task}: {arguments.episodes} episode(s)", flush=True)
        config, start = Config(task=task, planner=planner), time.monotonic()
        result = plan(config, arguments.episodes)
        found = record(config, result, time.monotonic() - start)
        (arguments.results / f"{task}{suffix}.json").write_text(json.dumps(found, indent=1) + "\n")
    print(table(arguments.results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
