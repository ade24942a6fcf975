"""The numbers behind every figure, as CSV."""

from __future__ import annotations

import csv
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.page import table
from benchmarks.page.results import Profiles, Result
from benchmarks.suites import Suite


def write_tables(
    folder: pathlib.Path, suite: Suite, results: Sequence[Result], profiles: Sequence[Profiles]
) -> list[pathlib.Path]:
    """Writes ``aggregates.csv``, ``profiles.csv``, ``tasks.csv`` and ``curves.csv``.

    Args:
        folder: Where to; it exists.
        suite: The benchmark.
        results: The agents.
        profiles: Their performance profiles.
    """
    tables = {
        "aggregates": _aggregates(results),
        "profiles": _profiles(profiles),
        "tasks": _tasks(suite, results),
        "curves": _curves(results),
    }
    paths = []
    for name, rows in tables.items():
        paths.append(folder / f"{name}.csv")
        with paths[-1].open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    return paths


def _aggregates(results: Sequence[Result]) -> Iterable[Sequence[Any]]:
    yield ["agent", "aggregate", "value", "low", "high", "tasks", "missing", "protocol", "differs"]
    for one in results:
        for name, value in one.aggregates.values.items():
            protocol = str(one.agent.protocol), "; ".join(one.differences)
            missing = " ".join(one.aggregates.missing)
            yield [one.name, name, *value, len(one.tasks), missing, *protocol]


def _profiles(profiles: Sequence[Profiles]) -> Iterable[Sequence[Any]]:
    yield ["scale", "agent", "threshold", "share", "low", "high"]
    for each in profiles:
        for agent, profile in each.by_agent.items():
            unknown = [None] * len(each.thresholds)
            low = unknown if profile.low is None else profile.low
            high = unknown if profile.high is None else profile.high
            for row in zip(each.thresholds, profile.share, low, high, strict=True):
                yield [each.scale, agent, *map(_short, row)]


def _tasks(suite: Suite, results: Sequence[Result]) -> Iterable[Sequence[Any]]:
    heads = [
        f"{name} ({words})" if words else name for name, words in table.columns(suite, results)
    ]
    yield ["task", *heads]
    for task in suite.tasks:
        yield [task, *(value for value, _ in table.cells(task, suite, results))]


def _curves(results: Sequence[Result]) -> Iterable[Sequence[Any]]:
    yield ["task", "agent", "frames", "mean", "low", "high", "runs"]
    for one in results:
        for task, curve in one.curves.items():
            for row in zip(curve.frames, curve.mean, curve.low, curve.high, strict=True):
                yield [task, one.name, *map(_short, row), curve.runs]


def _short(value: float | None) -> str | None:
    return None if value is None else f"{value:.9g}"
