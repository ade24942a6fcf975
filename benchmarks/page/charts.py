"""Performance profiles and learning curves, in inline SVG."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.page.bars import coverage
from benchmarks.page.results import Profiles, Result
from benchmarks.page.style import color_class
from benchmarks.suites import Suite
from common.report.charts import Frame, Series, chart, legend, thin
from common.report.html import escape, note

_MOST_POINTS = 120


def profile_figure(profiles: Profiles, results: Sequence[Result]) -> str:
    """Draws the performance profiles of one scale; agents that stand apart are dashed."""
    series = []
    for result in reversed(results):
        profile = profiles.by_agent.get(result.name)
        if profile is None:
            continue
        x = profiles.thresholds
        if profile.low is not None:
            series.append(
                Series("band", x, profile.low, color_class(result.color), high=profile.high)
            )
        dashed = " dashed" if result.apart else ""
        style = f"{color_class(result.color)}{dashed}"
        series.append(Series("line", x, profile.share, style, profile_label(result)))
    name = f"Share of runs above a score, {profiles.scale} = 1"
    drawing = chart(series, Frame(440, 300), f"normalised score ({profiles.scale} = 1)", name=name)
    if not drawing:
        return ""
    labels = legend([one for one in reversed(series) if one.kind == "line"])
    return f"<figure><figcaption><b>{escape(name)}</b></figcaption>{drawing}{labels}</figure>"


def profile_label(result: Result) -> str:
    """Name of an agent in a legend, with what sets its curve apart."""
    agent = result.agent
    runs = all(agent.seeds[task] == len(agent.scores[task]) for task in result.tasks)
    words = [coverage(result), "" if runs else "of means over seeds", result.remark]
    said = ", ".join(filter(None, words))
    return f"{result.name} ({said})" if said else result.name


def curve_figures(results: Sequence[Result], suite: Suite) -> str:
    """Draws the learning curves of every task as small multiples."""
    figures = [figure for task in suite.tasks if (figure := _curves(task, results))]
    if not figures:
        return note("None of the agents has learning curves.")
    with_curves = [result for result in results if result.curves]
    styles = [Series("line", np.zeros(0), np.zeros(0), _style(r), _label(r)) for r in with_curves]
    without = [result.name for result in results if not result.curves]
    missing = note(f"No learning curves are known of {', '.join(without)}.") if without else ""
    return f'{legend(styles)}<div class="grid-of-charts">{"".join(figures)}</div>{missing}'


def _style(result: Result) -> str:
    return f"{color_class(result.color)}{'' if result.focus else ' thin dashed'}"


def _label(result: Result) -> str:
    band = ", band from the lowest to the highest seed" if result.focus else ""
    return f"{result.label}{band}"


def _curves(task: str, results: Sequence[Result]) -> str:
    series, words = [], []
    for result in sorted(results, key=lambda result: result.focus):
        curve = result.curves.get(task)
        if curve is None:
            words += [f"{result.name}: no curve"] if result.focus and result.curves else []
            continue
        if result.focus and curve.runs > 1:
            (x, low), (_, high) = (
                thin(curve.frames, y, _MOST_POINTS) for y in (curve.low, curve.high)
            )
            series.append(Series("band", x, low, color_class(result.color), high=high))
        series.append(Series("line", *thin(curve.frames, curve.mean, _MOST_POINTS), _style(result)))
        if result.focus:
            early = f", {curve.early} stop early" if curve.early else ""
            words.append(f"{_seeds(result, task, curve.runs)}{early}")
    drawing = chart(series, Frame(290, 150, left=52, bottom=24), "", name=f"Curves of {task}")
    if not drawing:
        return ""
    return (
        f"<figure><figcaption><b>{escape(task.replace('_', ' '))}</b> {escape('; '.join(words))}"
        f"</figcaption>{drawing}</figure>"
    )


def _seeds(result: Result, task: str, runs: int) -> str:
    seeds = max(runs, result.agent.seeds.get(task, 0))
    return f"{seeds} seed{'' if seeds == 1 else 's'}"
