"""The tables of the experiments, as text and as CSV."""

from __future__ import annotations

import csv
import pathlib
from collections.abc import Sequence
from typing import Any

from benchmarks.scores.bootstrap import Interval
from benchmarks.tdm.claims import Claim
from benchmarks.tdm.summary import Row

HEADS = (
    "task", "method", "episodes", "seeds", "return", "observation error", "reward error",
    "fit s", "play s",
)  # fmt: skip
"""Headings of ``cells``."""


def cells(row: Row) -> list[str]:
    """One line of a table as people read it."""
    return [
        row.task,
        row.method,
        shots(row),
        str(row.seeds),
        words(row.returns, 1),
        words(row.observation, 3),
        words(row.reward, 3),
        seconds(row.fit_seconds),
        seconds(row.play_seconds),
    ]


def text(rows: Sequence[Row]) -> str:
    """A table for a terminal."""
    lines = [list(HEADS), *map(cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def claims_text(claims: Sequence[Claim]) -> str:
    """The claims and what was found, for a terminal."""
    lines = []
    for claim in claims:
        lines.append(f"{claim.verdict.upper()}: {claim.words}")
        for one in claim.comparisons:
            lead = f"{words(one.lead, 3)} over {one.tasks} tasks" if one.lead else "no figures"
            lines.append(f"  {one.better} ahead of {one.worse}, {one.measure}: {lead}")
            lines[-1] += f"; {one.verdict}"
    return "\n".join(lines)


def write(path: pathlib.Path, rows: Sequence[Row]) -> None:
    """Writes a table as CSV, intervals in columns of their own."""
    measures = "return", "observation_error", "reward_error"
    ends = [f"{name}{end}" for name in measures for end in ("", "_low", "_high")]
    horizon = max((row.curve.shape[1] for row in rows if row.curve is not None), default=0)
    steps = [f"observation_error_step_{step}" for step in range(1, horizon + 1)]
    heads = ["task", "method", "episodes", "seeds", *ends, *steps, "fit_seconds", "play_seconds"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(heads)
        for row in rows:
            values = [row.returns, row.observation, row.reward]
            known = [number for value in values for number in value or Interval(None)]
            curve = [None] * horizon if row.curve is None else row.curve.mean(0)
            numbers = *known, *curve, row.fit_seconds, row.play_seconds
            place = row.task, row.method, shots(row), row.seeds
            writer.writerow([*place, *map(_digits, numbers)])


def shots(row: Row) -> str:
    """Episodes of the target that were learned from."""
    return "all" if row.shots < 0 else str(row.shots)


def words(value: Interval | None, digits: int) -> str:
    """A number and its interval in words; "-" where there is none."""
    if value is None:
        return "-"
    if value.low is None or value.high is None:
        return f"{value.point:.{digits}f}"
    return f"{value.point:.{digits}f} ({value.low:.{digits}f} to {value.high:.{digits}f})"


def seconds(value: float | None) -> str:
    """A time in words; "-" where there is none."""
    return "-" if value is None else f"{value:.1f}"


def _digits(value: Any) -> str:
    return "" if value is None else f"{value:.6g}"
