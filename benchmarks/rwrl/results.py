"""What the runs of a sweep reached, a row for each."""

from __future__ import annotations

import csv
import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.jobs import states
from benchmarks.jobs.plan import Plan
from benchmarks.learning.record import read_run, versions_of
from benchmarks.rwrl.measures import Measures, measure
from benchmarks.rwrl.points import NONE, POINTS, find_point
from common.errors import UserError
from common.logging.jsonl import read_jsonl
from common.run.folder import METRICS, SCORES

VIOLATED = "violated/"


@dataclasses.dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        task: Such as "walker_walk".
        challenge: Such as "action_delay".
        strength: Such as "3".
        seed: Its seed.
        score: Mean return of the last evaluation.
        random: Mean return of a random policy in the same environments; None where none played.
        cost: Mean cost of an episode of the last evaluation; None where none is counted.
        violated: Frames of all training that violated each constraint.
        measures: Of the returns while it trained; None of too few episodes.
    """

    task: str
    challenge: str
    strength: str
    seed: int
    score: float
    random: float | None
    cost: float | None
    violated: Mapping[str, int]
    measures: Measures | None


def read_rows(plan: Plan) -> list[Row]:
    """Reads the finished runs of a sweep, in the order of its points.

    Raises:
        UserError: None has finished.
    """
    rows = []
    for job in plan.jobs:
        if states.finished(plan, job):
            task, point = find_point(job.game)
            rows.append(_read(plan.folder(job), task, point.challenge, point.strength, job.seed))
    if not rows:
        raise UserError(
            f"no run in {plan.logdir} has finished; python -m benchmarks rwrl status --logdir "
            f"{plan.logdir} shows how far they are"
        )
    return rows


def _read(logdir: pathlib.Path, task: str, challenge: str, strength: str, seed: int) -> Row:
    last: dict[str, float] = {}
    for line in read_jsonl(logdir / METRICS):
        last |= {key: x for key, x in line.items() if key.startswith(("eval/", "random/"))}
    returns, violated = [], {}
    for episode in read_jsonl(logdir / SCORES):
        returns.append(episode["return"])
        for key, times in episode.items():
            if key.startswith(VIOLATED):
                name = key.removeprefix(VIOLATED)
                violated[name] = violated.get(name, 0) + int(times)
    if "eval/return_mean" not in last:
        raise UserError(f"{logdir / METRICS} holds no evaluation; set --run.eval_episodes above 0")
    return Row(
        task, challenge, strength, seed, last["eval/return_mean"], last.get("random/return_mean"),
        last.get("eval/cost_mean"), violated, measure(returns),
    )  # fmt: skip


def by_point(rows: Iterable[Row]) -> dict[tuple[str, str], dict[str, list[Row]]]:
    """Returns the runs of each task and challenge, by strength, the weakest first.

    Every challenge begins with the runs without any, as "0".
    """
    rows = list(rows)
    found: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for point in POINTS.values():
        for row in rows:
            if (row.challenge, row.strength) != (point.challenge, point.strength):
                continue
            key = row.task, row.challenge
            plain = [one for one in rows if (one.task, one.challenge) == (row.task, NONE)]
            strengths = found.setdefault(key, {"0": plain} if plain else {})
            if row.challenge != NONE:
                strengths.setdefault(row.strength, []).append(row)
    return {key: one for key, one in found.items() if key[1] != NONE or len(found) == 1}


def table(rows: Sequence[Row]) -> list[list[str]]:
    """Returns the table that is printed and written: heads, then a line for each point."""
    lines = [[
        "task", "challenge", "strength", "seeds", "return", "each", "random", "cost per episode",
        "episodes to converge", "regret", "instability", "violations while training",
    ]]  # fmt: skip
    points: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        points.setdefault((row.task, row.challenge, row.strength), []).append(row)
    for key, some in points.items():
        measures = [row.measures for row in some if row.measures]
        violated: dict[str, list[int]] = {}
        for row in some:
            for name, times in row.violated.items():
                violated.setdefault(name, []).append(times)
        lines.append([
            *key, str(len(some)), _mean(row.score for row in some),
            " ".join(f"{row.score:.0f}" for row in some), _mean(row.random for row in some),
            _mean(row.cost for row in some), _mean(one.convergence for one in measures),
            _mean((one.regret for one in measures), 2),
            _mean((one.instability for one in measures), 2),
            ", ".join(f"{name} {np.mean(times):,.0f}" for name, times in violated.items()),
        ])  # fmt: skip
    return lines


def _mean(numbers: Iterable[float | None], digits: int = 0) -> str:
    known = [x for x in numbers if x is not None]
    return f"{np.mean(known):.{digits}f}" if known else ""


def curves(plan: Plan) -> list[dict[str, Any]]:
    """Returns the evaluations of every finished run, with its challenge in full and its versions.

    An evaluation is ``[frames, mean, deviation, minimum, maximum]`` of the returns.
    """
    found = []
    for job in plan.jobs:
        if states.finished(plan, job):
            run = read_run(plan.folder(job))
            found.append({
                "point": job.game, "seed": run.seed, "random": run.random,
                "seconds": round(run.seconds), "evaluations": np.round(run.evaluations, 1).tolist(),
                "challenge": run.config["env"]["challenge"], "versions": versions_of(run),
            })  # fmt: skip
    return found


def write_csv(path: pathlib.Path, lines: Sequence[Sequence[str]]) -> None:
    """Writes a table."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(lines)
