"""Does a transformer that has seen histories of learning learn by itself, without an update?

    python -m benchmarks incontext                     # three seeds, two minutes each on one core
    python -m benchmarks incontext --table             # what is recorded

Algorithm Distillation (Laskin et al., 2023) in dark rooms of nine by nine cells: tabular Q-learning
learns to find many goals, every 15th episode of its histories is kept, and a causal transformer
learns to predict their actions across episodes. Then it acts in rooms whose goals nobody has shown
it, remembering ten episodes. Beside it: one that saw only experts, the source, and random actions.
Every run that has ended is a line of runs.jsonl, and is not made again.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.incontext.learning import Kind, distil
from benchmarks.incontext.policy import PolicyConfig, act_in_context, make_policy
from benchmarks.incontext.source import learn, random_return
from benchmarks.incontext.world import MIDDLE, SIDE, STEPS, split_goals
from benchmarks.options import Parser
from benchmarks.page.figures import new_figure
from benchmarks.page.style import light_color
from benchmarks.series import read_lines
from common.command.line import prepare
from common.errors import UserError
from common.files import make_folder
from common.run import versions

RESULTS = pathlib.Path(__file__).resolve().parents[1] / "results" / "incontext"
RECORD, PICTURE = "runs.jsonl", "returns.png"
KINDS: dict[Kind, str] = {
    "histories": "distilled from histories of learning",
    "experts": "distilled from experts",
}
HELD_OUT, COPIES, EPISODES = 15, 8, 150
"""Goals that nobody learns from, learners of each goal, and episodes of their histories."""
Line = Mapping[str, Any]


def run_command(argv: Sequence[str]) -> int:
    """Runs ``incontext`` with the words after it; returns the exit code."""
    parser = Parser("python -m benchmarks incontext", description=__doc__)
    usual = PolicyConfig()
    add = parser.add_argument
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds (0 1 2)")
    add("--updates", type=int, default=usual.updates, help=f"of each transformer ({usual.updates})")
    add("--table", action="store_true", help="print what is recorded, draw it and stop")
    add("--results", type=pathlib.Path, default=RESULTS, help="where to write")
    given = parser.parse(argv)
    wrong = [seed for seed in given.seeds if seed < 0]
    if wrong:
        raise UserError(f"--seeds holds {wrong[0]}; expected at least 0")
    if given.updates < 1:
        raise UserError(f"--updates is {given.updates}; expected at least 1")
    record = given.results / RECORD
    if not given.table:
        prepare()
        _run(given.seeds, dataclasses.replace(usual, updates=given.updates), record)
    lines = read_lines(record)
    if not lines:
        raise UserError(f"{record} holds no run yet; leave --table out to make some")
    print(table(lines))
    draw(lines, given.results / PICTURE)
    return 0


def _run(seeds: Sequence[int], config: PolicyConfig, record: pathlib.Path) -> None:
    """Makes the runs that are not recorded."""
    try:
        make_folder(record.parent)
    except FileExistsError as error:
        raise UserError(f"--results {record.parent} is a file; choose a folder") from error
    options = dataclasses.asdict(config)
    for seed in seeds:
        for kind in KINDS:
            same = [one for one in read_lines(record) if (one["kind"], one["seed"]) == (kind, seed)]
            if same and same[0]["options"] != options:
                raise UserError(
                    f"{record} holds seed {seed} with other options; choose another --results"
                )
            if not same:
                print(f">> seed {seed}, {KINDS[kind]}", flush=True)
                line = json.dumps(measure(kind, seed, config))
                with record.open("a") as file:
                    file.write(f"{line}\n")


def measure(
    kind: Kind, seed: int, config: PolicyConfig, copies: int = COPIES, episodes: int = EPISODES
) -> dict[str, Any]:
    """Distils and evaluates one transformer; returns what is recorded of it.

    Args:
        kind: What it learns from.
        seed: Of goals, learners, weights and batches.
        config: Sizes and length of its training.
        copies: Learners of each goal, and evaluations.
        episodes: Of each learner.
    """
    begin = time.process_time()
    train, test = split_goals(HELD_OUT, seed)
    histories = learn(np.repeat(train, copies), episodes, seed)
    policy = make_policy(config, STEPS)
    params, losses = distil(kind, policy, histories, config, seed)
    seconds = time.process_time() - begin
    mean = lambda x: np.round(x.mean(0, np.float64), 3).tolist()  # noqa: E731
    context = config.episodes
    found = {"kind": kind, "seed": seed, "options": dataclasses.asdict(config)}
    for name, goals in (("held_out", test), ("training", train)):
        returns = act_in_context(policy, params, np.repeat(goals, copies), context, seed)
        found[name] = mean(returns)
    unseen = learn(np.repeat(test, copies), episodes, seed + 1)
    return {
        **found,
        "source": mean(unseen.returns),
        "random": round(random_return(test), 3),
        "best": round(best_return(test), 3),
        "cross_entropy": round(float(np.mean(losses[-100:])), 4),
        "processor_seconds": round(seconds, 1),
        "versions": versions.describe().splitlines(),
    }


def best_return(goals: np.ndarray) -> float:
    """Returns what an episode returns at best, on average over goals: all steps after the way."""
    way = abs(goals // SIDE - MIDDLE // SIDE) + abs(goals % SIDE - MIDDLE % SIDE)
    return float(np.mean(STEPS + 1 - way))


def strided_source(line: Line) -> list[float]:
    """Returns what the source has in those episodes that a context shows, the middle of each."""
    returns, amount = line["source"], line["options"]["episodes"]
    return np.reshape(returns, (amount, -1)).mean(1).tolist()


def table(lines: Sequence[Line]) -> str:
    """Shows the returns on held-out goals by episode, means over seeds."""
    episodes = lines[0]["options"]["episodes"]
    shown = sorted({1, 2, 3, 5, episodes} & set(range(1, episodes + 1)))
    head = "| held-out goals | seeds | " + " | ".join(f"episode {n}" for n in shown)
    rows = [f"{head} | last / first |", "|---" * (3 + len(shown)) + "|"]
    for kind, name in KINDS.items():
        found = [one for one in lines if one["kind"] == kind]
        if not found:
            continue
        for words, key in ((name, "held_out"), ("the same, goals of training", "training")):
            each = np.array([one[key] for one in found])
            cells = " | ".join(f"{each[:, n - 1].mean():.2f}" for n in shown)
            ratio = ", ".join(f"{one[-1] / max(one[0], 1e-9):.1f}" for one in each)
            rows.append(f"| {words} | {len(found)} | {cells} | {ratio} |")
    source = np.mean([one["source"][:episodes] for one in lines], 0)
    strided = np.mean([strided_source(one) for one in lines], 0)
    for words, one in (("source", source), ("source, every 15th episode", strided)):
        cells = " | ".join(f"{one[n - 1]:.2f}" for n in shown)
        rows.append(f"| {words} | | {cells} | {one[-1] / max(one[0], 1e-9):.1f} |")
    random, best = (np.mean([one[key] for one in lines]) for key in ("random", "best"))
    rows += ["", f"random actions {random:.2f}, the best possible {best:.2f}"]
    return "\n".join(rows)


def draw(lines: Sequence[Line], path: pathlib.Path) -> None:
    """Draws the returns on held-out goals by episode: means, and each seed."""
    figure = new_figure(5.5, 3.6, 120)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    curves = {name: [one["held_out"] for one in lines if one["kind"] == kind]
              for kind, name in KINDS.items()}  # fmt: skip
    episodes = lines[0]["options"]["episodes"]
    curves["source, as many episodes"] = [one["source"][:episodes] for one in lines]
    curves["source, every 15th episode"] = [strided_source(one) for one in lines]
    for number, (name, found) in enumerate(curves.items()):
        if not found:
            continue
        x, color = np.arange(1, episodes + 1), light_color(number)
        for one in found:
            axes.plot(x, one, color=color, linewidth=0.6, alpha=0.5)
        axes.plot(x, np.mean(found, 0), color=color, marker=".", label=name)
    for key, style in (("random", ":"), ("best", "--")):
        value = np.mean([one[key] for one in lines])
        axes.axhline(value, color="0.5", ls=style, lw=1, label=f"{key} actions")
    axes.set_title(f"dark rooms, {HELD_OUT} goals that nobody has shown", fontsize=9)
    axes.set_xlabel("episode in the context, no update", fontsize=8)
    axes.set_ylabel("return", fontsize=8)
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=6)
    figure.savefig(path)
