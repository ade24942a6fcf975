"""A comparison with published agents as text, as HTML and as rows of a table."""

from __future__ import annotations

import math

import numpy as np

from common.published.curves import Point, Protocol
from common.published.statistics import interval
from common.report.charts import Frame, Series, chart, legend
from common.report.comparison import Beside, Comparison
from common.report.html import escape, note

MOST_WHISKERS = 12
"""Points up to which a curve's intervals are drawn one by one."""
HEAD = (
    "agent", "seeds", "frames", "theirs", "95%", "ours", "95%", "ours is", "by",
    "area: theirs", "ours",
)  # fmt: skip
WORDS = (0, 7)
"""Columns of HEAD that hold words; the others hold numbers."""
COLUMNS = (
    "agent", "frames", "theirs", "theirs_low", "theirs_high", "theirs_seeds", "ours", "ours_low",
    "ours_high", "ours_seeds", "difference", "difference_half", "verdict", "action_repeat",
    "returns", "world", "source",
)  # fmt: skip
"""Of the rows that ``rows`` returns."""
EXPLANATION = (
    "Every agent at the last frames that it was published at and the runs have reached; between "
    "two evaluations ours is on a straight line. Intervals hold the mean with 95%, by the seeds "
    "(Student's t). Ours is ahead or behind where the difference's interval leaves out 0; a single "
    "training is taken to vary as the seeds of the other do, and undecided is where no seeds can "
    "say. Area: mean return from the first published frames that both reached to the last, of both "
    "at these places alone."
)
STYLE = """
.ours { color: var(--eval); } svg .line.ours { stroke-width: 3; }
.agent0 { color: #d9730d; } .agent1 { color: #2a8c55; } .agent2 { color: #a23bb5; }
.agent3 { color: #b08a00; } .agent4 { color: #c2374f; } .agent5 { color: #0f8b99; }
.agent6 { color: #7d6350; } .agent7 { color: #6b7280; }
.beside th, .beside td { white-space: nowrap; padding-right: 9px; font-size: 12px; }
.beside .number { text-align: right; font-variant-numeric: tabular-nums; }
.beside tbody th { white-space: normal; }
.beside thead th { color: var(--ink); font-weight: 600; border-top: 0; }
.beside tbody th { color: var(--ink); } .wide { overflow-x: auto; }
.ahead { color: var(--good); font-weight: 600; } .behind { color: var(--bad); font-weight: 600; }
.protocols td { vertical-align: top; } .protocols b { color: var(--ink); }
.protocols thead th { color: var(--ink); border-top: 0; }
"""
"""Style sheet of ``section_of``, after that of every page."""


def title(one: Comparison) -> str:
    """Returns what is compared, in a line."""
    sees = "" if one.target.suite == "atari" else f" from {one.inputs}"
    seeds = f"seed{'s' if len(one.seeds) > 1 else ''} {', '.join(one.seeds)}"
    return f"{one.label} on {one.target.name}{sees}, {seeds}"


def summary(one: Comparison) -> str:
    """Returns the verdicts, counted."""
    verdicts = [other.last.difference.verdict for other in one.others]
    if not verdicts:
        last = one.points[-1].frames
        return f"nobody published returns at frames between the evaluations, up to {last:,.0f}"
    counts = ", ".join(
        f"{word} {'of ' * (word == 'ahead')}{verdicts.count(word)}"
        for word in ("ahead", "behind", "undecided")
    )
    return f"{counts}, at the last frames that both reached"


def as_text(one: Comparison) -> str:
    """Returns everything as lines for a terminal."""
    rows = [HEAD, *(_cells(other, one.target.top) for other in one.others)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    lines = [title(one), f"  {summary(one)}", ""]
    for row in rows if one.others else ():
        cells = (
            f"{cell:<{width}}" if i in WORDS else f"{cell:>{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  " + "  ".join(cells).rstrip())
    lines += ["", f"  ours: {_words(one.protocol, one.protocol)}"]
    alike: dict[Protocol, list[str]] = {}
    for other in one.others:
        names = alike.setdefault(other.agent.protocol, [])
        names.append(f"{other.agent.name} [{other.agent.source}]")
    lines += [f"  {', '.join(names)}: {_words(x, one.protocol)}" for x, names in alike.items()]
    return "\n".join([*lines, *(f"  note: {remark}" for remark in _remarks(one))])


def section_of(one: Comparison) -> str:
    """Returns chart, table and protocols as HTML."""
    series = _series(one)
    drawing = chart(
        series, Frame(920, 400), "frames (simulator steps, action repeat included)",
        "return of an episode",
    )  # fmt: skip
    hidden = sum(not other.agent.usual for other in one.others)
    more = f" {hidden} more stand in the table alone." if hidden else ""
    marks = "Bands and bars: 95% intervals over seeds, where several are known." + more
    parts = [f"<p>{escape(summary(one)[0].upper() + summary(one)[1:])}.</p>", legend(series),
             f"<figure>{drawing}<figcaption>{marks}</figcaption></figure>"]  # fmt: skip
    if one.others:
        parts += [_table(one), f"<p><small>{escape(EXPLANATION)}</small></p>", _protocols(one)]
    return "".join([*parts, *map(note, _remarks(one))])


def rows(one: Comparison) -> list[dict[str, str | float]]:
    """Returns a row of ``COLUMNS`` for every agent and every mark; NaN where nothing is known."""
    found = []
    for other in one.others:
        for mark in other.marks:
            ours, theirs = (
                _interval(mark.ours, one.target.top),
                _interval(mark.theirs, one.target.top),
            )
            apart = mark.difference
            values = (
                other.agent.name, mark.theirs.frames, mark.theirs.mean, *theirs, mark.theirs.seeds,
                mark.ours.mean, *ours, mark.ours.seeds, apart.value, apart.half, apart.verdict,
                *other.agent.protocol, other.agent.source,
            )  # fmt: skip
            found.append(dict(zip(COLUMNS, values, strict=True)))
    return found


def _remarks(one: Comparison) -> list[str]:
    remarks = list(one.remarks)
    if len(one.seeds) == 1:
        remarks.append("a single seed of ours: another one may lie far from it")
    if one.elsewhere:
        last = one.points[-1].frames
        names = "; ".join(one.elsewhere)  # Some names have a comma.
        remarks.append(f"published at other frames than ours, which end at {last:,.0f}: {names}")
    return remarks


def _interval(point: Point, top: float) -> tuple[float, float]:
    """The interval of a mean, within the returns that there can be."""
    low, high = interval(point)
    if math.isnan(top) or math.isnan(low):
        return low, high
    return max(low, 0.0), min(high, top)


def _cells(other: Beside, top: float) -> tuple[str, ...]:
    mark, (ours, theirs) = other.last, other.areas()
    apart = mark.difference

    def spread(point: Point) -> str:
        low, high = _interval(point, top)
        return "" if math.isnan(low) else f"{_number(low)} to {_number(high)}"

    half = "" if math.isnan(apart.half) else f" ± {_number(apart.half)}"
    return (
        other.agent.name, str(mark.theirs.seeds or "?"), f"{mark.theirs.frames:,.0f}",
        _number(mark.theirs.mean), spread(mark.theirs), _number(mark.ours.mean), spread(mark.ours),
        apart.verdict, f"{'+' if apart.value > 0 else ''}{_number(apart.value)}{half}",
        _number(theirs), _number(ours),
    )  # fmt: skip


def _number(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}"


def _words(theirs: Protocol, ours: Protocol) -> str:
    """A protocol in words, with ours in brackets where it is another one."""
    repeat = f"action repeat {theirs.repeat or 'not stated'}"
    if theirs.repeat != ours.repeat and ours.repeat:
        repeat += f" (ours {ours.repeat})"
    words = [repeat, f"returns of {theirs.returns or 'episodes that are not said'}"]
    if theirs.world or ours.world:
        here = f" (ours {ours.world})" if theirs.world != ours.world else ""
        words.append((theirs.world or "nothing else") + here)
    return ", ".join(words)


def _series(one: Comparison) -> list[Series]:
    frames = np.array([point.frames for point in one.points])
    end = max([frames[-1], *(other.last.theirs.frames for other in one.others)])
    usual = [other.agent for other in one.others if other.agent.usual]
    series = []
    for number, agent in enumerate(usual):
        style = f"agent{number % 8}"
        points = [point for point in agent.points if point.frames <= end]
        x = np.array([point.frames for point in points])
        series += _spread(points, x, style, one, -number * 0.004 * end)
        y = np.array([point.mean for point in points])
        series.append(Series("line", x, y, style, agent.name))
        if len(points) <= MOST_WHISKERS:
            series.append(Series("points", x, y, style))
    if one.random == one.random:
        level = np.array([one.random])
        series.append(Series("rule", np.zeros(1), level, "random", "random policy"))
    y = np.array([point.mean for point in one.points])
    lows, highs = np.array([_interval(point, one.target.top) for point in one.points]).T
    if len(one.seeds) > 1:
        series.append(Series("band", frames, lows, "ours", high=highs))
    seeds = f", {len(one.seeds)} seeds" if len(one.seeds) > 1 else ""
    series.append(Series("line", frames, y, "ours", f"ours: {one.label}{seeds}"))
    series.append(Series("points", frames, y, "ours"))
    return series


def _spread(
    points: list[Point], x: np.ndarray, style: str, one: Comparison, aside: float
) -> list[Series]:
    """The intervals of a curve: a band, or of few points bars that stand a little aside."""
    lows, highs = np.array([_interval(point, one.target.top) for point in points]).T
    if not np.isfinite(lows).any():
        return []
    if len(points) > MOST_WHISKERS:
        return [Series("band", x, lows, style, high=highs)]
    return [Series("whiskers", x + aside, lows, style, high=highs)]


def _table(one: Comparison) -> str:
    head = "".join(
        f"<th>{escape(name)}</th>" if i in WORDS else f'<th class="number">{escape(name)}</th>'
        for i, name in enumerate(HEAD)
    )
    body = []
    for other in one.others:
        name, *cells = _cells(other, one.target.top)
        verdict = other.last.difference.verdict
        columns = "".join(
            f'<td class="{verdict}">{escape(cell)}</td>' if cell == verdict
            else f'<td class="number">{escape(cell)}</td>'
            for cell in cells
        )  # fmt: skip
        body.append(f"<tr><th>{escape(name)}</th>{columns}</tr>")
    return (
        f'<div class="wide"><table class="beside"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _protocols(one: Comparison) -> str:
    """How everybody's returns came about; what differs from ours is bold."""
    ours = one.protocol
    lines = [("ours", ours, "these runs"),
             *((x.agent.name, x.agent.protocol, x.agent.source) for x in one.others)]  # fmt: skip
    world = any(protocol.world for _, protocol, _ in lines)
    names = ["", "action repeat", "returns of", *["the game"] * world, "source"]
    body = []
    for name, protocol, source in lines:
        cells = [
            f"<td><b>{escape(cell)}</b></td>" if cell != mine else f"<td>{escape(cell)}</td>"
            for cell, mine in zip(protocol, ours, strict=True)
        ]
        cells[:2] = (
            cell if known else "<td><b>not stated</b></td>"
            for cell, known in zip(cells, protocol[:2], strict=False)
        )  # fmt: skip
        row = "".join(cells if world else cells[:2])
        body.append(f"<tr><th>{escape(name)}</th>{row}<td>{escape(source)}</td></tr>")
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    return (
        "<details><summary>How these returns came about, and where they are from</summary>"
        f'<table class="protocols"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></details>"
    )
