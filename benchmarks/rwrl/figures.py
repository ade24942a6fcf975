"""Small multiples of the sweep: return against strength, for every task and challenge."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.page.figures import new_figure
from benchmarks.rwrl.points import SCALES
from benchmarks.rwrl.results import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BEST, MARGIN = 1000, 40
"""The largest return of a task, and what is shown beyond it and below 0, for the sake of dots."""


def draw(points: Mapping[tuple[str, str], Mapping[str, Sequence[Row]]], path: pathlib.Path) -> None:
    """Draws a row of small charts for each task, and below them what dots and lines are.

    Args:
        points: Of ``results.by_point``.
        path: The PNG.
    """
    tasks = list(dict.fromkeys(task for task, _ in points))
    challenges = list(dict.fromkeys(challenge for _, challenge in points))
    figure = new_figure(1.9 * len(challenges) + 0.8, 2.1 * len(tasks) + 0.6, 130)
    figure.set_layout_engine("constrained")
    grid = figure.subplots(len(tasks), len(challenges), squeeze=False, sharey=True)
    for axes, challenge in zip(grid[0], challenges, strict=True):
        axes.set_title(_plain(challenge), fontsize=8)
    named = {}
    for line, task in zip(grid, tasks, strict=True):
        for axes, challenge in zip(line, challenges, strict=True):
            _chart(axes, points.get((task, challenge), {}), SCALES[challenge])
            handles, labels = axes.get_legend_handles_labels()
            named |= dict(zip(labels, handles, strict=True))
        line[0].set_ylabel(f"{_plain(task)}\nreturn", fontsize=8)
    figure.legend(
        named.values(), named.keys(), loc="outside lower left", ncols=min(3, len(challenges)),
        fontsize=7, frameon=False,
    )  # fmt: skip
    figure.savefig(path)


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _chart(axes: Axes, strengths: Mapping[str, Sequence[Row]], scale: str) -> None:
    axes.set_ylim(-MARGIN, BEST + MARGIN)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    if not strengths:
        axes.text(0.5, 0.5, "not run", ha="center", transform=axes.transAxes, fontsize=7)
        axes.set_xticks([])
        return
    runs = [(place, row.score) for place, rows in enumerate(strengths.values()) for row in rows]
    axes.plot(*np.transpose(runs), "o", ms=3, color="C0", label="a run (one seed)")
    places = range(len(strengths))
    mark = "_" if len(strengths) == 1 else ""  # A line of one point is none.
    means = [np.mean([row.score for row in rows]) for rows in strengths.values()]
    axes.plot(places, means, f"{mark}-", lw=1.5, ms=12, color="C0", label="mean of the runs")
    random = [[row.random for row in rows if row.random is not None] for rows in strengths.values()]
    if all(random):
        means = [np.mean(some) for some in random]
        axes.plot(places, means, f"{mark}--", lw=1, ms=12, color="gray", label="random policy")
    axes.set_xlim(-0.35, len(strengths) - 0.65)
    axes.set_xticks(list(places), ["none" if one == "0" else one for one in strengths])
    axes.tick_params("x", pad=9)  # To the line that all words stand on, whatever their height.
    for label in axes.get_xticklabels():
        label.set_verticalalignment("baseline")
    axes.set_xlabel(scale, fontsize=7, verticalalignment="baseline", labelpad=9)
