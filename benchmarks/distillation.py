"""What a small actor gives up and saves: returns by frames, time for one action, parameters.

    python -m benchmarks.distillation --large runs/big --alone runs/small --distilled runs/taught
    python -m benchmarks.distillation --acting dmc_vision    # time of presets with random weights
    python -m benchmarks.distillation --table                # what is recorded

It reads finished runs of the ``dreamer`` command: those of a large agent that acts itself, of an
agent as small as the small actor that learned alone, and of large ones that taught a small actor
(``--distill.kind``). Of each it takes the evaluations, counts the parameters that acting needs, and
times ``agent.act`` of its export: the median of 2,000 calls, one environment, this machine. With
``--acting`` it times agents of a preset that have learned nothing, as they see pixels of 64 x 64.
What it finds is recorded in benchmarks/results/distillation/, with a figure; tables are printed.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks.options import Parser
from common.command.presets import resolve
from common.errors import UserError, exit_code
from common.export import EXPORT, export
from common.logging.jsonl import read_jsonl
from common.run import folder as run_folder
from common.run import versions
from common.run.loading import LoadedAgent
from common.spaces import ActionPart, ActionSpec, ObservationSpec
from dreamer.distillation.acting import acting_amount
from dreamer.program import load_program

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "distillation"
RECORD, PICTURE = "runs.json", "returns.png"
KINDS = {
    "large": "large, acts itself",
    "alone": "small, learned alone",
    "distilled": "small, taught by the large one",
}
CALLS, BEFORE = 2000, 50
"""Actions that are timed, and those before them."""
ACTIONS = 6
"""Entries of the action where presets are timed."""
EVALUATED = "eval/return_mean"
Run = Mapping[str, Any]


def measure(kind: str, logdir: pathlib.Path, calls: int = CALLS) -> dict[str, Any]:
    """Returns what is recorded of a run.

    Args:
        kind: One of KINDS.
        logdir: The run's folder.
        calls: Actions to time.

    Raises:
        UserError: There is no run, or it is of another kind, or was never evaluated.
    """
    agent = LoadedAgent(load_program(), logdir)
    config, taught = agent.config, agent.config.distill.kind != "none"
    if taught != (kind == "distilled"):
        raise UserError(
            f"{logdir} has --distill.kind {config.distill.kind}; name it by "
            f"--{'distilled' if taught else 'large or --alone'}"
        )
    lines = read_jsonl(logdir / run_folder.METRICS)
    evaluations = [[int(one["frames"]), one[EVALUATED]] for one in lines if EVALUATED in one]
    if not evaluations:
        raise UserError(f"{logdir} was never evaluated; lower --run.eval_every")
    return {
        "kind": kind,
        "run": logdir.name,
        "task": config.task,
        "seed": config.seed,
        "distill": config.distill.kind,
        "units": config.distill.units if taught else config.actor.units,
        "ratio": config.distill.ratio,
        "evaluations": evaluations,
        "parameters": acting_amount(agent.params),
        **time_actions(agent, calls),
    }


def measure_presets(names: Sequence[str], calls: int = CALLS) -> list[dict[str, Any]]:
    """Returns time and parameters of acting by presets, with and without a small actor.

    Args:
        names: Presets, composed from left to right.
        calls: Actions to time.

    Raises:
        UserError: There is no such preset.
    """
    program, found = load_program(), []
    observations = {"image": ObservationSpec((64, 64, 3), "image")}
    bounds = (-1.0,) * ACTIONS, (1.0,) * ACTIONS, (ACTIONS,)
    actions = ActionSpec((ActionPart((), "continuous", ACTIONS, *bounds),))
    for kind in ("none", "gru"):
        config = resolve(program, names, {"distill.kind": kind})
        agent = program.make_agent(config, observations, actions)
        params = jax.jit(lambda key, agent=agent: agent.params(agent.init(key)))(jax.random.key(0))
        with tempfile.TemporaryDirectory() as folder:
            export(pathlib.Path(folder) / EXPORT, "dreamer", config, observations, actions, params)
            times = time_actions(LoadedAgent(program, folder), calls)
        found.append(
            {
                "presets": " ".join(names),
                "distill": kind,
                "parameters": acting_amount(params),
                **times,
            }
        )
    return found


def time_actions(agent: LoadedAgent, calls: int) -> dict[str, float]:
    """Returns medians over single actions on random observations, in microseconds.

    Those of the clock, and those of this process's processor time, which is less where other
    processes have the processor too.
    """
    rng, specs = np.random.default_rng(0), agent.observations
    observation = {
        name: rng.integers(0, 256, spec.shape).astype(np.uint8)
        if spec.kind == "image"
        else rng.normal(size=spec.shape).astype(np.float32)
        for name, spec in specs.items()
    }
    seconds, carry = np.zeros((BEFORE + calls, 2)), None
    for number in range(BEFORE + calls):
        begin = time.perf_counter(), time.process_time()
        _, carry = agent.act(observation, carry)
        seconds[number] = time.perf_counter() - begin[0], time.process_time() - begin[1]
    clock, processor = np.round(1e6 * np.median(seconds[BEFORE:], 0), 1).tolist()
    return {"microseconds": clock, "processor_microseconds": processor}


def table(runs: Sequence[Run]) -> str:
    """Shows every kind: the last evaluation of each run, parameters, and time for an action."""
    lines = [
        "| who acts | runs | last evaluation: mean | each | parameters to act | one action | "
        "of the processor |",
        "|---" * 7 + "|",
    ]
    for kind, name in KINDS.items():
        found = [one for one in runs if one["kind"] == kind]
        if not found:
            lines.append(f"| {name} | none | | | | | |")
            continue
        last = [one["evaluations"][-1][1] for one in found]
        each = ", ".join(
            f"{value:.0f} at {one['evaluations'][-1][0]:,}"
            for value, one in zip(last, found, strict=True)
        )
        amount = np.mean([one["parameters"] for one in found])
        clock, own = (
            np.median([one[key] for one in found])
            for key in ("microseconds", "processor_microseconds")
        )
        lines.append(
            f"| {name} | {len(found)} | **{np.mean(last):.0f}** | {each} | {amount:,.0f} | "
            f"{clock:,.0f} µs | {own:,.0f} µs |"
        )
    return "\n".join(lines)


def acting_table(acting: Sequence[Run]) -> str:
    """Shows presets with and without a small actor."""
    head = "| presets | who acts | parameters to act | one action | of the processor |"
    lines = [head, "|---" * 5 + "|"]
    for one in acting:
        who = "large" if one["distill"] == "none" else f"small, {one['distill']}"
        amount, clock, own = (
            one[key] for key in ("parameters", "microseconds", "processor_microseconds")
        )
        lines.append(f"| {one['presets']} | {who} | {amount:,} | {clock:,.0f} µs | {own:,.0f} µs |")
    return "\n".join(lines)


def plot(runs: Sequence[Run], path: pathlib.Path) -> None:
    """Draws returns by frames, a line for each run."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5.5, 3.2), dpi=120, layout="constrained")
    for number, (kind, name) in enumerate(KINDS.items()):
        found = [one for one in runs if one["kind"] == kind]
        for one in found:
            label = name if one is found[0] else None
            curve = zip(*one["evaluations"], strict=True)
            axes.plot(*curve, color=f"C{number}", marker=".", lw=1, label=label)
    axes.set_title(", ".join(dict.fromkeys(one["task"] for one in runs)), fontsize=9)
    axes.set_xlabel("frames", fontsize=8)
    axes.set_ylabel("return of evaluations", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    figure.savefig(path)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = Parser("python -m benchmarks.distillation", description=__doc__)
    for kind, name in KINDS.items():
        text = f"folders of runs: {name}"
        parser.add_argument(f"--{kind}", type=pathlib.Path, nargs="+", default=[], help=text)
    add = parser.add_argument
    add("--acting", nargs="+", default=[], help="presets whose acting to time")
    add("--calls", type=int, default=CALLS, help=f"actions to time ({CALLS})")
    add("--table", action="store_true", help="print what is recorded, draw it and stop")
    add("--results", type=pathlib.Path, default=RESULTS, help="where to write")
    return exit_code(lambda: _run(parser.parse(argv)))


def _run(arguments: argparse.Namespace) -> int:
    record = arguments.results / RECORD
    named = [(kind, logdir) for kind in KINDS for logdir in getattr(arguments, kind)]
    if arguments.calls < 1:
        raise UserError(f"--calls is {arguments.calls}; expected at least 1")
    found = json.loads(record.read_text()) if record.exists() else {"runs": [], "acting": []}
    if not arguments.table:
        if named:
            found["runs"] = [measure(*one, arguments.calls) for one in named]
        if arguments.acting:
            found["acting"] = measure_presets(arguments.acting, arguments.calls)
        if named or arguments.acting:
            found["versions"] = versions.describe().splitlines()
            arguments.results.mkdir(parents=True, exist_ok=True)
            record.write_text(json.dumps(found, indent=1) + "\n")
    if not record.exists():
        raise UserError(f"there is no {record}; name finished runs by --large and --distilled")
    if found["runs"]:
        print(table(found["runs"]))
        plot(found["runs"], arguments.results / PICTURE)
    if found["acting"]:
        print(acting_table(found["acting"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
