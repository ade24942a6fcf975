"""Small multiples of the sweep: return against strength, for every task and challenge."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.rwrl.results import Row

BEST = 1000


def draw(points: Mapping[tuple[str, str], Mapping[str, Sequence[Row]]], path: pathlib.Path) -> None:
    """Draws a row of small charts for each task.

    Args:
        points: Of ``results.by_point``.
        path: The PNG.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    tasks = list(dict.fromkeys(task for task, _ in points))
    challenges = list(dict.fromkeys(challenge for _, challenge in points))
    figure, grid = plt.subplots(
        len(tasks), len(challenges), figsize=(1.9 * len(challenges) + 0.8, 1.9 * len(tasks) + 0.4),
        dpi=130, layout="constrained", squeeze=False, sharey=True,
    )  # fmt: skip
    for axes, challenge in zip(grid[0], challenges, strict=True):
        axes.set_title(challenge.replace("_", " "), fontsize=8)
    for line, task in zip(grid, tasks, strict=True):
        for axes, challenge in zip(line, challenges, strict=True):
            _chart(axes, points.get((task, challenge), {}))
        line[0].set_ylabel(task.replace("_", " "), fontsize=8)
    figure.savefig(path)
    plt.close(figure)


def _chart(axes: object, strengths: Mapping[str, Sequence[Row]]) -> None:
    axes.set_ylim(0, BEST)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    if not strengths:
        axes.text(0.5, 0.5, "not run", ha="center", transform=axes.transAxes, fontsize=7)
        axes.set_xticks([])
        return
    places = range(len(strengths))
    axes.plot(places, [np.mean([row.score for row in rows]) for rows in strengths.values()], lw=1.5)
    for place, rows in zip(places, strengths.values(), strict=True):
        axes.plot([place] * len(rows), [row.score for row in rows], "o", ms=3, color="C0")
    random = [[row.random for row in rows if row.random is not None] for rows in strengths.values()]
    if all(random):
        axes.plot(places, [np.mean(some) for some in random], "--", lw=1, color="gray")
    axes.set_xticks(list(places), list(strengths))
