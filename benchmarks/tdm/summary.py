"""Means over seeds and their intervals, from the records of finished cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.scores.bootstrap import Interval, bootstrap
from benchmarks.tdm.work import Record

SAMPLES = 5000
"""Resamples of every interval."""
LEVEL = 0.95
"""Probability within an interval."""

METHODS = (
    *("tdm", "ensemble", "rssm", "fine-tuned", "scratch"),
    *("generalist", "policy", "policy-best", "specialist", "random"),
    *("default", "uniform", "mu_law", "symlog", "mean", "sample", "argmax"),
    *("parallel", "autoregressive", "fourier", "bins"),
)
"""All methods of all experiments, in the order of tables."""

Measure = Callable[[Record], float]
"""Takes a record, returns a number."""


def observation_error(record: Record) -> float:
    """Normalised error of observations, mean over the horizon."""
    return float(np.mean(record["observation_error"]))


def reward_error(record: Record) -> float:
    """Normalised error of rewards, mean over the horizon."""
    return float(np.mean(record["reward_error"]))


def mean_return(record: Record) -> float:
    """Mean return over episodes."""
    return float(np.mean(record["returns"]))


def score(record: Record) -> float:
    """Mean return as a share of the best possible one, which makes tasks comparable."""
    return mean_return(record) / record["best_return"]


class Row(NamedTuple):
    """One line of a table: a task and a method, over seeds.

    Attributes:
        task: The task.
        method: The method.
        shots: Episodes of the task that were learned from; -1 for all.
        seeds: How many seeds are there.
        returns: Mean return.
        observation: Error of observations, mean over the horizon; None for policies.
        reward: Error of rewards likewise.
        curve: Error of observations of each step, by seed ``[S, H]``; None for policies.
        fit_seconds: Mean time of learning.
        play_seconds: Mean time of playing.
    """

    task: str
    method: str
    shots: int
    seeds: int
    returns: Interval
    observation: Interval | None
    reward: Interval | None
    curve: np.ndarray | None
    fit_seconds: float | None
    play_seconds: float | None


def rows(records: Iterable[Record], experiment: str) -> list[Row]:
    """Returns the lines of an experiment's table, by task, method and number of episodes."""
    groups: dict[tuple[str, str, int], list[Record]] = {}
    for record in records:
        if record["experiment"] == experiment:
            key = record["task"], record["method"], record["shots"]
            groups.setdefault(key, []).append(record)

    def place(key: tuple[str, str, int]) -> tuple:
        return key[0], METHODS.index(key[1]), key[2]

    return [_row(*key, groups[key]) for key in sorted(groups, key=place)]


def interval(values: Sequence[float] | Sequence[Sequence[float]]) -> Interval:
    """Mean over tasks of means over seeds, with its interval over seeds.

    Args:
        values: One number of each seed ``[S]``, or such a list for each task.

    Returns:
        The mean; no ends where a single seed says nothing about others.
    """
    nested = values if np.ndim(values[0]) else [values]
    arrays = [np.asarray(one, float) for one in nested]
    samples = SAMPLES if all(len(one) > 1 for one in arrays) else 0
    return bootstrap(arrays, {"mean": _mean}, samples, seed=0, level=LEVEL)["mean"]


def by_seed(
    records: Iterable[Record], experiment: str, method: str, measure: Measure, shots: int | None
) -> dict[str, dict[int, float]]:
    """One measure of a method, by task and seed.

    Args:
        records: All records.
        experiment: Of which experiment.
        method: Of which method.
        measure: What to take from a record.
        shots: With how many episodes; None for any.
    """
    found: dict[str, dict[int, float]] = {}
    for record in records:
        fits = record["experiment"] == experiment and record["method"] == method
        if fits and shots in (None, record["shots"]):
            found.setdefault(record["task"], {})[record["seed"]] = measure(record)
    return found


def paired(
    left: Mapping[str, Mapping[int, float]], right: Mapping[str, Mapping[int, float]]
) -> dict[str, list[float]]:
    """Differences left - right of every task, one for each seed that both have."""
    differences = {}
    for task in left.keys() & right.keys():
        seeds = sorted(left[task].keys() & right[task].keys())
        if seeds:
            differences[task] = [left[task][seed] - right[task][seed] for seed in seeds]
    return dict(sorted(differences.items()))


def _mean(scores: Sequence[np.ndarray]) -> np.ndarray:
    return np.mean([one.mean(-1) for one in scores], 0)


def _row(task: str, method: str, shots: int, records: Sequence[Record]) -> Row:
    def over(measure: Measure, key: str) -> Interval | None:
        return interval([measure(one) for one in records]) if key in records[0] else None

    def mean(key: str) -> float | None:
        known = [one[key] for one in records if key in one]
        return float(np.mean(known)) if known else None

    curve = None
    if "observation_error" in records[0]:
        curve = np.array([one["observation_error"] for one in records])
    return Row(
        task,
        method,
        shots,
        len(records),
        interval([mean_return(one) for one in records]),
        over(observation_error, "observation_error"),
        over(reward_error, "reward_error"),
        curve,
        mean("fit_seconds"),
        mean("play_seconds"),
    )
