"""The HTML of a benchmark's page."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence

from benchmarks.page import charts, printed, table
from benchmarks.page.bars import HATCH, bars
from benchmarks.page.results import Profiles, Result
from benchmarks.page.style import STYLE, color_class
from benchmarks.scores.aggregate import headline
from benchmarks.suites import Suite
from common.report.html import document, escape, note, section


def render(
    suite: Suite,
    results: Sequence[Result],
    profiles: Sequence[Profiles],
    versions: Mapping[str, str],
) -> str:
    """Returns the whole page.

    Args:
        suite: The benchmark.
        results: The agents, those that stand apart last.
        profiles: Their performance profiles, one for each scale.
        versions: Command, versions and options that made the page, by name.
    """
    agents = f"{len(results)} agent{'' if len(results) == 1 else 's'}"
    title = f"{suite.name}: {agents}, {len(suite.tasks)} tasks"
    subtitle = f"The benchmark's protocol: {escape(suite.protocol)}"
    sections = [
        HATCH,
        _how_to_read(suite, results),
        section("Aggregates", _aggregates(suite, results)),
        _published(suite, results),
        section("What is missing", _missing(suite, results)),
        section("Performance profiles", _profiles(profiles, results)),
        section("Scores of each task", _tasks(suite, results)),
        section("Learning curves", _curves(suite, results)),
        section("Protocol and provenance", "".join(_provenance(result) for result in results)),
        section("How it was made", _versions(versions)),
        f"<script>{table.SCRIPT}</script>",
    ]
    return document(title, subtitle, sections, STYLE)


def _how_to_read(suite: Suite, results: Sequence[Result]) -> str:
    if suite.name.startswith("dmc"):
        scale = "Scores are divided by 1000, the best possible return of an episode."
    else:
        what = "gamer or, where it is said, the human world record" if suite.record else "gamer"
        scale = f"Scores are scaled so that a random policy has 0 and a human {what} has 1."
    words = (
        f"{scale} Aggregates are over tasks, of means over seeds, except that the interquartile "
        "mean (IQM), the optimality gap and the profiles count single runs. Intervals are of 95%, "
        "by a bootstrap over seeds; where only means over seeds were published there are none."
    )
    if any(result.apart for result in results):
        words += (
            " Hatched bars stand apart: their protocol is not the benchmark's or not fully "
            "known, or tasks are missing, so they do not rank with the others."
        )
    return f"<p>{escape(words)}</p>"


def _aggregates(suite: Suite, results: Sequence[Result]) -> str:
    figures = "".join(bars(name, results) for name in headline(suite))
    return f'<div class="pairs">{figures}</div>' if figures else note("There is no score yet.")


def _published(suite: Suite, results: Sequence[Result]) -> str:
    compared = printed.comparison(results, suite)
    if not compared:
        return ""
    words = (
        "Left the digits that the paper prints, right what this command computes from the "
        "published scores of each task; the same rules are applied to every other agent."
    )
    return section("Published and reproduced", f"<p>{words}</p>{compared}")


def _missing(suite: Suite, results: Sequence[Result]) -> str:
    items, said = [], collections.defaultdict(list)
    for result in results:
        absent = result.aggregates.missing
        if absent:
            words = f"{len(absent)} of {len(suite.tasks)} tasks are missing and count nowhere: "
            words += f"{', '.join(absent)}."
            name = f"<b>{escape(result.name)}:</b>"
            items.append(f'<li>{name} <span class="missing">{escape(words)}</span></li>')
        for remark in (*result.agent.notes, *result.aggregates.notes):
            said[remark].append(result.name)
    for remark, names in said.items():
        items.append(f"<li><b>{escape(', '.join(names))}:</b> {escape(remark)}</li>")
    if not items:
        return note("Nothing: every agent has every task, with equally many seeds.")
    return f"<ul>{''.join(items)}</ul>"


def _profiles(profiles: Sequence[Profiles], results: Sequence[Result]) -> str:
    figures = "".join(charts.profile_figure(each, results) for each in profiles)
    if not figures:
        return note("There is no score yet.")
    words = (
        "How large a share of runs, averaged over tasks, scores above the value on the "
        "horizontal axis. Bands: 95%, pointwise. Dashed: those "
        "that stand apart."
    )
    return f'<p>{escape(words)}</p><div class="pairs">{figures}</div>'


def _tasks(suite: Suite, results: Sequence[Result]) -> str:
    words = "Raw returns, means over seeds. Press a heading to sort."
    apart = [result.name for result in results if result.differences]
    if apart:
        words += f" Protocol not the benchmark's, or not fully known: {', '.join(apart)}."
    return f"<p>{escape(words)}</p>{table.table(suite, results)}"


def _curves(suite: Suite, results: Sequence[Result]) -> str:
    words = (
        "Return over frames (simulator steps, action repeat included), mean over seeds. A seed's "
        "last return stands until its next one, also where it stopped early. Curves end with the "
        "budget of their protocol. Dashed: shown for "
        "comparison."
    )
    return f"<p>{escape(words)}</p>{charts.curve_figures(results, suite)}"


def _provenance(result: Result) -> str:
    agent = result.agent
    counts = sorted({agent.seeds[task] for task in result.tasks})
    known = [str(count) for count in (counts[:1] + counts[1:][-1:]) if count]
    rows = {
        "Protocol": str(agent.protocol),
        "Compared to the benchmark's": "; ".join(result.differences) or "the same",
        "Source": f"{'published: ' if agent.published else ''}{agent.source}",
        "Seeds of a task": " to ".join(known) or "unknown",
        "Tasks": str(len(result.tasks)),
    }
    drawn = "".join(_line(name, value) for name, value in rows.items())
    swatch = f'<span class="swatch {color_class(result.color)}"></span>'
    return f"<h3>{swatch}{escape(agent.name)}</h3><table>{drawn}</table>"


def _versions(versions: Mapping[str, str]) -> str:
    rows = "".join(_line(name, value) for name, value in versions.items())
    return f"<table>{rows}</table>"


def _line(name: str, value: str) -> str:
    return f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
