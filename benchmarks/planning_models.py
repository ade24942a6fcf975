"""The same planners on one model of each kind: return, imagined steps, milliseconds per action.

    python -m benchmarks planning models dreamer=runs/dreamer tdmpc2=runs/tdmpc2 planet=runs/planet
    python -m benchmarks planning models --simulator dmc_cartpole_swingup
    python -m benchmarks planning models --table              # what is recorded so far

Every model is planned in by CEM, MPPI and random shooting, without and with a value after the last
step, and with proposals of the policy too, where the model has learned them; beside them stands
the policy alone. All are runs of one task. Every cell is one line of
benchmarks/results/planning/models.jsonl, and is not measured again; models.png shows all.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.options import Parser
from common.envs import make
from common.envs.config import EnvConfig
from common.errors import UserError
from common.export import read_export
from common.planner import PlannerConfig
from common.run import versions
from common.run.driver import Policy
from common.run.evaluation import play, trained_policy
from common.run.loading import LoadedAgent
from common.run.program import find_program
from planet.config import Config
from planet.simulator import SimulatorPolicy

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "planning"
RECORD, PICTURE = "models.jsonl", "models.png"
SIMULATOR, ALONE = "simulator", "policy alone"
METHODS = ("cem", "mppi", "shooting")
PLANNER = PlannerConfig(
    horizon=6, iterations=4, candidates=200, top=20, elites=20, temperature=0.5, warm_start=True
)
"""What all planners have in common, but for ``METHODS`` and ``GUIDES``."""
GUIDES: Mapping[str, dict[str, Any]] = {
    "": {},
    "value": {"value": True},
    "value, proposals": {"value": True, "policy_candidates": 24},
}
TIMED = 30
"""Actions that are timed."""


class Cell(NamedTuple):
    """One way to act.

    Attributes:
        model: Its name.
        run: The folder or file that holds it; "" for the simulator.
        planner: A method and what guides it, or ``ALONE``.
        task: What is played.
        env: How its environments are built.
        make_policy: ``(envs) -> policy``.
        steps: Imagined steps of one action.
    """

    model: str
    run: str
    planner: str
    task: str
    env: EnvConfig
    make_policy: Callable[[Any], Policy]
    steps: int


def planners() -> Iterator[tuple[str, PlannerConfig]]:
    """Yields every planner by its name."""
    for method in METHODS:
        for guide, options in GUIDES.items():
            name = f"{method}, {guide}" if guide else method
            yield name, dataclasses.replace(PLANNER, method=method, **options)


def imagined_steps(planner: PlannerConfig) -> int:
    """Returns the model's steps for one action of one environment, all sequences together."""
    rounds = 1 if planner.method == "shooting" else planner.iterations
    drawn = rounds * (planner.candidates + planner.policy_candidates) * planner.horizon
    return drawn + planner.policy_candidates * planner.horizon


def cells_of_run(model: str, logdir: str, seed: int) -> Iterator[Cell]:
    """Yields every way to act by a run.

    Raises:
        UserError: There is no trained agent.
    """
    owner = find_program(read_export(logdir).agent)
    own = LoadedAgent(owner, logdir)
    guided = own.act_function.agent.policy is not None
    task, env = own.config.task, own.config.env
    if guided and owner.name == "dreamer":
        yield Cell(model, logdir, ALONE, task, env, trained_policy(own, seed), 0)
    for name, planner in planners():
        if planner.guided and not guided:
            continue
        changes = {f"planner.{key}": value for key, value in dataclasses.asdict(planner).items()}
        agent = LoadedAgent(find_program("planet"), logdir, changes=changes)
        policy = trained_policy(agent, seed)
        yield Cell(model, logdir, name, task, env, policy, imagined_steps(planner))


def cells_of_simulator(task: str, like: EnvConfig, seed: int) -> Iterator[Cell]:
    """Yields the planners in the true simulator, which nobody taught a value."""
    env = dataclasses.replace(like, pixels=False, state=True, workers="none")
    for name, planner in planners():
        if planner.guided:
            continue
        config = Config(task=task, planner=planner, env=env)
        make_policy = lambda envs, config=config: SimulatorPolicy(config, envs, seed)  # noqa: E731
        yield Cell(SIMULATOR, "", name, task, env, make_policy, imagined_steps(planner))


def measure(cell: Cell, episodes: int, seed: int) -> dict[str, Any]:
    """Plays episodes, and times single actions of one environment."""
    results = play(cell.task, cell.env, episodes, seed, cell.make_policy).all
    envs = make(cell.task, cell.env, seed, 1)
    try:
        policy, rows, seconds = cell.make_policy(envs), None, []
        action = np.zeros((1, envs.action_spec.size), np.float32)
        for _ in range(TIMED + 3):  # The first ones compile.
            rows = envs.step(action)
            start = time.perf_counter()
            action = np.asarray(policy(rows))
            seconds.append(time.perf_counter() - start)
    finally:
        envs.close()
    median = float(np.median(seconds[3:]))
    return {
        "model": cell.model, "run": cell.run, "planner": cell.planner, "task": cell.task,
        "action_repeat": envs.action_repeat,
        "returns": [round(float(value), 1) for value in results.returns],
        "milliseconds": round(1000 * median, 2),
        "imagined_steps_per_second": round(cell.steps / median),
        "versions": versions.describe().splitlines(),
    }  # fmt: skip


def read_records(results: pathlib.Path) -> list[dict[str, Any]]:
    """Reads what is recorded."""
    path = results / RECORD
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(records: Sequence[Mapping[str, Any]]) -> str:
    """Returns all records as a table of Markdown."""
    lines = [
        "| model | planner | mean return (episodes) | ms an action | imagined steps a second |",
        "|---|---|---|---|---|",
    ]
    for one in records:
        returns = np.array(one["returns"])
        steps = one["imagined_steps_per_second"]
        lines.append(
            f"| {one['model']} | {one['planner']} | {returns.mean():.0f} ± {returns.std():.0f} "
            f"({returns.size}) | {one['milliseconds']:.1f} | {f'{steps:,}' if steps else '-'} |"
        )
    return "\n".join(lines)


def draw(records: Sequence[Mapping[str, Any]], path: pathlib.Path) -> None:
    """Draws return over milliseconds per action: a colour is a model, a mark a planner."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    models = list(dict.fromkeys(one["model"] for one in records))
    names = list(dict.fromkeys(one["planner"] for one in records))
    marks = dict(zip(names, "o^sPXDv<>*hd", strict=False))
    figure, axes = pyplot.subplots(figsize=(9, 5.5), layout="constrained")
    for one in records:
        returns = np.array(one["returns"])
        axes.errorbar(
            one["milliseconds"], returns.mean(), returns.std() / np.sqrt(returns.size),
            marker=marks.get(one["planner"], "."), color=f"C{models.index(one['model'])}",
            linestyle="", capsize=2,
        )  # fmt: skip
    for index, model in enumerate(models):
        axes.plot([], [], "o", color=f"C{index}", label=model)
    for name in names:
        axes.plot([], [], marks.get(name, "."), color="grey", label=name)
    axes.set(xscale="log", xlabel="milliseconds per action, one environment", ylabel="return",
             title=f"{records[0]['task']}: planners in models")  # fmt: skip
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def run_command(argv: Sequence[str]) -> int:
    """Runs ``planning models`` with the words after it; returns the exit code."""
    parser = Parser("python -m benchmarks planning models", description=__doc__)
    parser.add_argument("runs", nargs="*", help="NAME=FOLDER of every run, all of one task")
    parser.add_argument("--simulator", metavar="TASK", help="plan in MuJoCo itself too")
    parser.add_argument("--episodes", type=int, default=5, help="episodes of each cell (5)")
    parser.add_argument("--seed", type=int, default=0, help="seed of episodes and searches (0)")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS, help="where to write")
    parser.add_argument("--table", action="store_true", help="print what is recorded and stop")
    arguments = parser.parse(argv)
    if not arguments.table:
        _measure_all(arguments)
    records = read_records(arguments.results)
    if not records:
        raise UserError(f"nothing is recorded in {arguments.results / RECORD}")
    print(table(records))
    draw(records, arguments.results / PICTURE)
    return 0


def _measure_all(arguments: argparse.Namespace) -> None:
    runs = [one.partition("=") for one in arguments.runs]
    wrong = [name + sign + path for name, sign, path in runs if not (name and path)]
    if wrong or not (runs or arguments.simulator) or arguments.episodes < 1:
        raise UserError(
            "expected NAME=FOLDER of every run, --simulator TASK, or both, and at least 1 episode"
            + (f"; got {wrong[0]!r}" if wrong else "")
        )
    cells = [cell for name, _, path in runs for cell in cells_of_run(name, path, arguments.seed)]
    env = cells[0].env if cells else EnvConfig(action_repeat=-1)
    if arguments.simulator:
        cells += cells_of_simulator(arguments.simulator, env, arguments.seed)
    if len({cell.task for cell in cells}) > 1:
        raise UserError("the runs are of several tasks; one page compares models of one task")
    arguments.results.mkdir(parents=True, exist_ok=True)
    done = _recorded(cells, arguments.results)
    for count, cell in enumerate(cells, 1):
        print(f">> {count} of {len(cells)}: {cell.model}, {cell.planner}", flush=True)
        if (cell.model, cell.planner) in done:
            continue
        line = json.dumps(measure(cell, arguments.episodes, arguments.seed))
        with (arguments.results / RECORD).open("a") as file:
            file.write(line + "\n")


def _recorded(cells: Sequence[Cell], results: pathlib.Path) -> set[tuple[str, str]]:
    """Returns the cells that are recorded, by model and planner.

    Raises:
        UserError: What is recorded is of another task, or by these names of other runs.
    """
    records = read_records(results)
    runs = {cell.model: cell.run for cell in cells}
    for one in records:
        if one["task"] != cells[0].task:
            fault = f"is about {one['task']}, and these runs are of {cells[0].task}"
        elif one["model"] in runs and one["run"] != runs[one["model"]]:
            fault = f"has the name {one['model']} for the run {one['run']}; choose another name"
        else:
            continue
        raise UserError(f"{results / RECORD} {fault}, or another --results")
    return {(one["model"], one["planner"]) for one in records}
