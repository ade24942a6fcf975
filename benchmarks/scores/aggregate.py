"""Scores of an agent over a benchmark: normalised task by task, then aggregated."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from benchmarks.scores import metrics
from benchmarks.scores.bootstrap import Interval, Statistic, bootstrap, draw, percentiles
from benchmarks.scores.tables import AgentScores
from benchmarks.suites import Suite

BOOTSTRAP_SAMPLES = 10_000


@dataclasses.dataclass(frozen=True)
class Aggregates:
    """The aggregates of one agent.

    Attributes:
        values: Aggregates with their intervals, by name, the headline ones first.
        missing: Tasks of the benchmark without a score; the values are over the others.
        notes: What limits the values: seeds that are missing or not known one by one.
    """

    values: dict[str, Interval]
    missing: tuple[str, ...]
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class TaskScore:
    """The score of one agent in one task.

    Attributes:
        task: Name of the task.
        raw: Mean over seeds as the environment counts, with its interval.
        seeds: Seeds behind it; 0 where unknown.
        gamer: The mean on a scale from a random policy (0) to the gamer (1).
        record: The mean on a scale from a random policy (0) to the human world record
            (1); None where the benchmark has no records.
    """

    task: str
    raw: Interval
    seeds: int
    gamer: float
    record: float | None


def headline(suite: Suite) -> tuple[str, ...]:
    """Names of the four aggregates by which a benchmark is reported."""
    if suite.record:
        return "gamer median", "gamer mean", "record mean", "clipped record mean"
    if suite.name.startswith("dmc"):  # The scale ends at the best possible score, not a gamer's.
        return "mean", "median", "IQM", "optimality gap"
    return "gamer median", "gamer mean", "IQM", "optimality gap"


def aggregate(
    agent: AgentScores, suite: Suite, samples: int = BOOTSTRAP_SAMPLES, seed: int = 0
) -> Aggregates:
    """Aggregates the scores of an agent over the tasks that it has.

    Args:
        agent: The agent.
        suite: The benchmark.
        samples: Resamples of the bootstrap; 0 for no intervals.
        seed: Seed of the bootstrap.
    """
    tasks = scored(agent, suite)
    missing = tuple(task for task in suite.tasks if task not in tasks)
    if not tasks:
        return Aggregates({}, missing, ())
    raw = [agent.scores[task] for task in tasks]
    alone = [task for task in tasks if not agent.per_seed(task)]
    values = bootstrap(raw, _statistics(suite, tasks), 0 if alone else samples, seed)
    notes = []
    averaged = [task for task in alone if agent.seeds[task] != 1]
    if averaged:
        notes.append(
            f"{_some(averaged, tasks)} only the mean over seeds is known: no intervals, and "
            "IQM and optimality gap are of such means, not of runs"
        )
    elif alone:
        notes.append(f"{_some(alone, tasks)} there is one seed: no intervals")
    most = max(agent.seeds[task] for task in tasks)
    fewer = [f"{task} {agent.seeds[task]}" for task in tasks if agent.seeds[task] < most]
    if fewer:
        notes.append(f"fewer than {most} seeds: {', '.join(fewer)}")
    return Aggregates(values, missing, tuple(notes))


def scored(agent: AgentScores, suite: Suite) -> list[str]:
    """Tasks of the benchmark in which an agent has a score, in the benchmark's order."""
    return [task for task in suite.tasks if task in agent.scores]


def task_scores(
    agent: AgentScores, suite: Suite, samples: int = 0, seed: int = 0
) -> list[TaskScore]:
    """Returns a row for each task in which an agent has a score.

    Args:
        agent: The agent.
        suite: The benchmark.
        samples: Resamples of the bootstrap; 0 for no intervals.
        seed: Seed of the bootstrap.
    """
    rows = []
    for task in scored(agent, suite):
        count = samples if agent.per_seed(task) else 0
        raw = bootstrap([agent.scores[task]], {"mean": metrics.gamer_mean}, count, seed)["mean"]
        low = suite.low[task]
        gamer = (raw.point - low) / (suite.gamer[task] - low)
        record = (raw.point - low) / (suite.record[task] - low) if suite.record else None
        rows.append(TaskScore(task, raw, agent.seeds[task], gamer, record))
    return rows


def improvement(
    agent: AgentScores,
    other: AgentScores,
    suite: Suite,
    samples: int = BOOTSTRAP_SAMPLES,
    seed: int = 0,
) -> Interval | None:
    """Probability that a run of one agent beats a run of another, over their common tasks.

    Args:
        agent: The one.
        other: The other.
        suite: The benchmark.
        samples: Resamples of the bootstrap; 0 for no interval.
        seed: Seed of the bootstrap.

    Returns:
        None where a common task's score is not known seed by seed, or there is none.
    """
    tasks = [task for task in scored(agent, suite) if task in other.scores]
    if not tasks or not all(agent.per_seed(task) and other.per_seed(task) for task in tasks):
        return None
    both = {"x": [agent.scores[t] for t in tasks], "y": [other.scores[t] for t in tasks]}

    def probability(scores: Mapping[str, metrics.Scores]) -> np.ndarray:
        return metrics.probability_of_improvement(scores["x"], scores["y"])

    point = float(probability(both))
    if not samples:
        return Interval(point)
    drawn = draw(both, {"probability": probability}, samples, seed)["probability"]
    return Interval(point, *percentiles(drawn))


def _statistics(suite: Suite, tasks: Sequence[str]) -> dict[str, Statistic]:
    """Aggregates of raw scores of some tasks, by name, the headline ones first."""
    low, gamer = ([of[task] for task in tasks] for of in (suite.low, suite.gamer))
    normalized = functools.partial(_normalized, low=low, high=gamer)
    statistics = {
        "gamer median": normalized(metrics.gamer_median),
        "gamer mean": normalized(metrics.gamer_mean),
        "mean": normalized(metrics.gamer_mean),
        "median": normalized(metrics.gamer_median),
        "IQM": normalized(metrics.iqm),
        "optimality gap": normalized(metrics.optimality_gap),
    }
    if suite.record:
        by_record = functools.partial(
            _normalized, low=low, high=[suite.record[task] for task in tasks]
        )
        statistics["record mean"] = by_record(metrics.record_mean)
        statistics["clipped record mean"] = by_record(metrics.clipped_record_mean)
    names = dict.fromkeys([*headline(suite), "IQM", "optimality gap"])
    return {name: statistics[name] for name in names}


def _normalized(
    metric: Statistic, low: Sequence[float], high: Sequence[float]
) -> Callable[[metrics.Scores], np.ndarray]:
    return lambda raw: metric(metrics.normalize(raw, low, high))


def _some(tasks: Sequence[str], of: Sequence[str]) -> str:
    if len(tasks) == len(of):
        return "in every task"
    return f"in {', '.join(tasks)}"
