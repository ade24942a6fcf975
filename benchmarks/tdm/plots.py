"""The plots of the experiments, one picture each."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.page.figures import new_figure
from benchmarks.page.style import light_color
from benchmarks.tdm.summary import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = {
    "tdm": 0, "generalist": 0, "fine-tuned": 0, "ensemble": 1, "rssm": 2, "scratch": 1,
    "specialist": 2, "policy": 3, "policy-best": 4, "random": 7,
    "default": 0, "uniform": 1, "mu_law": 1, "symlog": 2, "mean": 3, "sample": 3, "argmax": 4,
    "parallel": 5, "autoregressive": 5, "fourier": 6, "bins": 6,
}  # fmt: skip
"""Number of each method's colour."""


def specialist(path: pathlib.Path, rows: Sequence[Row]) -> None:
    """Errors over the horizon above returns, task by task."""
    tasks = list(dict.fromkeys(row.task for row in rows))
    figure = new_figure(max(2.6 * len(tasks), 4.0), 5.0, 110)
    figure.set_layout_engine("constrained")
    panels = figure.subplots(2, len(tasks), squeeze=False)
    for column, task in enumerate(tasks):
        some = [row for row in rows if row.task == task]
        for row in some:
            if row.curve is not None:
                _curve(panels[0, column], row)
        panels[0, column].set_title(_short(task), fontsize=9)
        panels[0, column].set_xlabel("steps ahead", fontsize=8)
        _bars(panels[1, column], some)
    panels[0, 0].set_ylabel("error of observations\n(1: their deviation)", fontsize=8)
    panels[0, 0].legend(fontsize=7)
    _save(path, figure, panels)


def few_shot(path: pathlib.Path, rows: Sequence[Row], others: Sequence[Row]) -> None:
    """Errors and returns over the number of episodes.

    Args:
        path: Where to.
        rows: Of the experiment "few-shot".
        others: Of "zero-shot": the generalist without an update and the specialist with all
            episodes are drawn as levels.
    """
    tasks = list(dict.fromkeys(row.task for row in rows))
    figure = new_figure(max(3.2 * len(tasks), 4.0), 5.0, 110)
    figure.set_layout_engine("constrained")
    panels = figure.subplots(2, len(tasks), squeeze=False)
    for column, task in enumerate(tasks):
        for line, name in enumerate(("observation", "returns")):
            axes = panels[line, column]
            for method in dict.fromkeys(row.method for row in rows):
                some = [row for row in rows if (row.task, row.method) == (task, method)]
                _over_shots(axes, some, name)
            for row in others:
                if row.task == task and row.method in ("generalist", "specialist"):
                    style = {"generalist": "--", "specialist": ":"}[row.method]
                    label = {"generalist": "no update", "specialist": "scratch, all"}[row.method]
                    color = light_color(COLORS[row.method])
                    axes.axhline(getattr(row, name).point, ls=style, color=color, label=label)
            axes.set_xscale("log")
            ticks = sorted({row.shots for row in rows})
            axes.set_xticks(ticks, [str(tick) for tick in ticks])
            axes.minorticks_off()
        panels[0, column].set_title(_short(task), fontsize=9)
        panels[1, column].set_xlabel("episodes of the target", fontsize=8)
    panels[0, 0].set_ylabel("error of observations", fontsize=8)
    panels[1, 0].set_ylabel("return", fontsize=8)
    panels[0, 0].legend(fontsize=7)
    _save(path, figure, panels)


def zero_shot(path: pathlib.Path, rows: Sequence[Row]) -> None:
    """Returns of all methods, target by target."""
    tasks = list(dict.fromkeys(row.task for row in rows))
    figure = new_figure(max(3.2 * len(tasks), 4.0), 2.8, 110)
    figure.set_layout_engine("constrained")
    panels = figure.subplots(1, len(tasks), squeeze=False)
    for column, task in enumerate(tasks):
        _bars(panels[0, column], [row for row in rows if row.task == task])
        panels[0, column].set_title(_short(task), fontsize=9)
    _save(path, figure, panels)


def _curve(axes: Axes, row: Row) -> None:
    steps = np.arange(1, row.curve.shape[1] + 1)
    color = light_color(COLORS[row.method])
    axes.plot(steps, row.curve.mean(0), color=color, label=row.method)
    band = row.curve.min(0), row.curve.max(0)
    axes.fill_between(steps, *band, color=color, alpha=0.16, linewidth=0)


def _bars(axes: Axes, rows: Sequence[Row]) -> None:
    for place, row in enumerate(rows):
        axes.barh(place, row.returns.point, 0.6, color=light_color(COLORS[row.method]))
        if row.returns.low is not None:
            ends = [row.returns.low, row.returns.high]
            axes.plot(ends, [place, place], "k|-", markersize=6, linewidth=1.1)
    axes.set_yticks(range(len(rows)), [row.method for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("return", fontsize=8)


def _over_shots(axes: Axes, rows: Sequence[Row], name: str) -> None:
    values = [getattr(row, name) for row in rows]
    if not values:
        return
    x, color = [row.shots for row in rows], light_color(COLORS[rows[0].method])
    points = [value.point for value in values]
    axes.plot(x, points, "o-", color=color, markersize=4, label=rows[0].method)
    if all(value.low is not None for value in values):
        ends = [value.low for value in values], [value.high for value in values]
        axes.fill_between(x, *ends, color=color, alpha=0.16, linewidth=0)


def _short(task: str) -> str:
    return task.removeprefix("dmc_").replace("_", " ")


def _save(path: pathlib.Path, figure: Any, panels: np.ndarray) -> None:
    for axes in panels.ravel():
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    figure.savefig(path)
