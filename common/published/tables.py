"""Readers of the files of ``data/``, whose README says where every number comes from."""

from __future__ import annotations

import csv
import functools
import gzip
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

DATA = pathlib.Path(__file__).resolve().parent / "data"


def read_rows(file: str) -> list[dict[str, str]]:
    """Reads a table: cell by column, of every row."""
    with (DATA / file).open(newline="") as lines:
        return list(csv.DictReader(lines))


def read_scores(file: str) -> dict[str, dict[str, str]]:
    """Reads a table of scores: row by game or task, cell by column."""
    rows = read_rows(file)
    key = "game" if "game" in rows[0] else "task"
    return {row[key]: row for row in rows}


def column(rows: Mapping[str, Mapping[str, str]], name: str) -> dict[str, float]:
    """One column of a table as numbers; empty cells are left out."""
    return {key: float(row[name]) for key, row in rows.items() if row[name]}


@functools.cache
def read_json(file: str) -> Any:
    """Reads a file of values by name, ``.json`` or ``.json.gz``."""
    content = (DATA / file).read_bytes()
    return json.loads(gzip.decompress(content) if file.endswith(".gz") else content)


def seed_curves(
    record: Mapping[str, Any], runs: Sequence[Sequence[float | None]]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the curves of several runs that a file of curves holds.

    Args:
        record: Says by ``x_start`` and ``x_step`` which frames the values belong to.
        runs: Values of every run; None where there are no data.

    Returns:
        Frames ``[P]``, and returns ``[S, P]``, NaN where a run has no data or has ended.
    """
    returns = np.full((len(runs), max(map(len, runs))), np.nan)
    for row, run in zip(returns, runs, strict=True):
        row[: len(run)] = run
    return record["x_start"] + record["x_step"] * np.arange(returns.shape[1]), returns
