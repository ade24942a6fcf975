"""The charts of the page as pictures."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.page.bars import APART, LOWER_IS_BETTER, coverage
from benchmarks.page.charts import profile_label
from benchmarks.page.results import Profiles, Result
from benchmarks.page.style import light_color
from benchmarks.scores.aggregate import headline
from benchmarks.suites import Suite
from common.report.charts import short, thin

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 8
_MOST_POINTS = 120


def write_figures(
    folder: pathlib.Path, suite: Suite, results: Sequence[Result], profiles: Sequence[Profiles]
) -> list[pathlib.Path]:
    """Writes ``aggregates.png``, ``profiles.png`` and ``curves.png``, those that show anything.

    Args:
        folder: Where to; it exists.
        suite: The benchmark.
        results: The agents.
        profiles: Their performance profiles.
    """
    paths = []
    for name, figure in (
        ("aggregates", _aggregates(suite, results)),
        ("profiles", _profiles(profiles, results)),
        ("curves", _curves(suite, results)),
    ):
        if figure is not None:
            paths.append(folder / f"{name}.png")
            figure.savefig(paths[-1])
        else:  # None is left of an earlier report.
            (folder / f"{name}.png").unlink(missing_ok=True)
    return paths


def new_figure(width: float, height: float, dpi: int) -> Any:
    """A figure without a window; it is freed with its last reference."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


def _aggregates(suite: Suite, results: Sequence[Result]) -> Any:
    shown = [result for result in results if result.aggregates.values]
    if not shown:
        return None
    names = headline(suite)
    figure = new_figure(3.2 * len(names), 1.2 + 0.32 * len(shown), 110)
    figure.set_layout_engine("constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for name, axes in zip(names, panels, strict=True):
        for row, result in enumerate(shown):
            _bar(axes, row, result, name)
        axes.axvline(0, color="0.4", linewidth=0.8)
        axes.set_title(f"{name}, lower is better" if name in LOWER_IS_BETTER else name, fontsize=10)
        axes.tick_params(labelsize=8)
    labels = [_row_label(result) for result in shown]
    panels[0].set_yticks(range(len(shown)), labels, fontsize=8)
    panels[0].set_ylim(len(shown) - 0.4, -0.6)
    if any(result.apart for result in shown):
        figure.supxlabel(f"Hatched: {APART[0].lower()}{APART[1:]}", fontsize=8)
    return figure


def _row_label(result: Result) -> str:
    words = [coverage(result), result.remark]
    said = ", ".join(filter(None, words))
    return f"{_plain(result.name)}\n({said})" if said else _plain(result.name)


def _bar(axes: Axes, row: int, result: Result, name: str) -> None:
    value = result.aggregates.values[name]
    color = light_color(result.color)
    style = {"facecolor": "white", "edgecolor": color, "hatch": "////"}
    axes.barh(row, value.point, 0.6, **style if result.apart else {"color": color})
    if value.low is not None and value.high is not None:
        axes.plot([value.low, value.high], [row, row], "k|-", markersize=7, linewidth=1.2)


def _profiles(profiles: Sequence[Profiles], results: Sequence[Result]) -> Any:
    if not any(each.by_agent for each in profiles):
        return None
    figure = new_figure(5 * len(profiles), 3.8, 110)
    figure.set_layout_engine("constrained")
    for each, axes in zip(
        profiles, figure.subplots(1, len(profiles), squeeze=False)[0], strict=True
    ):
        for result in results:
            profile = each.by_agent.get(result.name)
            if profile is None:
                continue
            color = light_color(result.color)
            line = "--" if result.apart else "-"
            label = _plain(profile_label(result))
            axes.plot(each.thresholds, profile.share, line, color=color, label=label)
            if profile.low is not None:
                band = {"color": color, "alpha": 0.16, "linewidth": 0}
                axes.fill_between(each.thresholds, profile.low, profile.high, **band)
        axes.set_xlabel(f"normalised score ({each.scale} = 1)")
        axes.set_ylabel("share of runs above")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    return figure


def _curves(suite: Suite, results: Sequence[Result]) -> Any:
    drawn = [result for result in results if result.curves]
    tasks = [task for task in suite.tasks if any(task in result.curves for result in drawn)]
    if not tasks:
        return None
    columns = min(_COLUMNS, len(tasks))
    rows = -(-len(tasks) // columns)
    height = 1.35 * rows + 0.6
    figure = new_figure(max(1.75 * columns, 5.0), height, 90)
    figure.subplots_adjust(
        left=0.35 / columns, right=0.99, top=1 - 0.25 / height, bottom=0.55 / height,
        wspace=0.35, hspace=0.45,
    )  # fmt: skip
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for task, axes in zip(tasks, panels, strict=False):
        for result in sorted(drawn, key=lambda result: result.focus):
            if task in result.curves:
                _curve(axes, result, task)
        axes.set_title(_plain(task.replace("_", " ")), fontsize=7, pad=2)
        axes.tick_params(labelsize=5, length=2, pad=1)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: short(value))
            axis.get_major_locator().set_params(nbins=3)
    for axes in panels[len(tasks) :]:
        axes.remove()
    handles = [_legend_line(result) for result in drawn]
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), fontsize=7)
    return figure


def _curve(axes: Axes, result: Result, task: str) -> None:
    curve = result.curves[task]
    color = light_color(result.color)
    frames, mean = thin(curve.frames, curve.mean, _MOST_POINTS)
    axes.plot(frames, mean, "-" if result.focus else "--", color=color, linewidth=0.9)
    if result.focus and curve.runs > 1:
        low, high = (thin(curve.frames, y, _MOST_POINTS)[1] for y in (curve.low, curve.high))
        axes.fill_between(frames, low, high, color=color, alpha=0.18, linewidth=0)


def _legend_line(result: Result) -> Any:
    from matplotlib.lines import Line2D

    line = "-" if result.focus else "--"
    return Line2D(
        np.zeros(0), np.zeros(0), ls=line, c=light_color(result.color), label=_plain(result.label)
    )


def _plain(text: str) -> str:
    """Text that is drawn as it stands: a dollar would begin a formula."""
    return text.replace("$", r"\$")
