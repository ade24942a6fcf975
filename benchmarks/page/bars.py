"""Aggregates as bars with intervals, in inline SVG."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.page.results import Result
from benchmarks.page.style import color_class
from benchmarks.scores.bootstrap import Interval
from common.report.charts import nice_ticks, short
from common.report.html import escape

APART = "Protocol other or unknown, or tasks missing: not ranked"
LOWER_IS_BETTER = ("optimality gap",)
HATCH = (
    '<svg class="definitions" aria-hidden="true"><defs><pattern id="hatch" width="7" height="7" '
    'patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><path d="M0 0V7"/></pattern>'
    "</defs></svg>"
)
"""The pattern over the bars of agents that stand apart; the page needs it once."""
_WIDTH, _LEFT, _RIGHT = 400, 8, 12
_LONGEST_NAME = 24
_ROW, _GROUP, _BAR = 36, 26, 12


def bars(name: str, results: Sequence[Result]) -> str:
    """Draws one aggregate of all agents.

    Args:
        name: Name of the aggregate.
        results: The agents, those that stand apart last.

    Returns:
        A ``<figure>``; "" where no agent has the aggregate.
    """
    shown = [result for result in results if name in result.aggregates.values]
    if not shown:
        return ""
    ends = [end for one in shown for end in one.aggregates.values[name] if end is not None]
    low, high = min(0.0, *ends), max(0.0, *ends)
    scale = (_WIDTH - _LEFT - _RIGHT) / ((high - low) or 1.0)
    parts, y, others = [], 0.0, False
    for result in shown:
        if result.apart and not others:
            others = True
            parts.append(f'<text x="{_LEFT}" y="{y + 18}" class="group">{APART}</text>')
            y += _GROUP
        parts.append(_row(result, result.aggregates.values[name], y, low, scale))
        y += _ROW
    for tick in nice_ticks(low, high or 1.0, 5):
        x = _LEFT + (tick - low) * scale
        parts.append(f'<text x="{x:.1f}" y="{y + 14}" class="mid">{short(tick)}</text>')
    lower = " lower is better" if name in LOWER_IS_BETTER else ""
    caption = f"<figcaption><b>{escape(name[0].upper() + name[1:])}</b>{lower}</figcaption>"
    return (
        f'<figure>{caption}<svg viewBox="0 0 {_WIDTH} {y + 18:.0f}" role="img" '
        f'aria-label="{escape(name)}">{"".join(parts)}</svg></figure>'
    )


def number(value: Interval) -> str:
    """An aggregate in words: the point, and the interval where it is known."""
    if value.low is None:
        return f"{value.point:.2f}"
    return f"{value.point:.2f} ({value.low:.2f} to {value.high:.2f})"


def coverage(result: Result) -> str:
    """Says how many tasks are behind an agent's aggregates; "" where it is all."""
    absent = len(result.aggregates.missing)
    return f"{len(result.tasks)} of {len(result.tasks) + absent} tasks" if absent else ""


def _row(result: Result, value: Interval, y: float, low: float, scale: float) -> str:
    incomplete = coverage(result)
    words = f' <tspan class="missing">{incomplete}</tspan>' if incomplete else ""
    name, whole = result.name, ""
    if len(name) > _LONGEST_NAME:
        name, whole = f"{name[: _LONGEST_NAME - 1]}…", f"<title>{escape(name)}</title>"
    zero, end = (_LEFT + (x - low) * scale for x in (0.0, value.point))
    style = f"{color_class(result.color)}{' other' if result.apart else ''}"
    box = f'x="{min(zero, end):.1f}" y="{y + 18}" width="{abs(end - zero):.1f}" height="{_BAR}"'
    parts = [
        f'<text x="{_LEFT}" y="{y + 13}" class="name">{whole}{escape(name)}{words}</text>',
        f'<text x="{_WIDTH - _RIGHT}" y="{y + 13}" class="end">{number(value)}</text>',
        f'<rect class="bar {style}" {box}/>',
    ]
    if result.apart:
        parts.append(f'<rect class="hatch" {box}/>')
    parts.append(f'<path class="zero" d="M{zero:.1f} {y + 16}v{_BAR + 4}"/>')
    if value.low is not None and value.high is not None:
        left, right = (_LEFT + (x - low) * scale for x in (value.low, value.high))
        middle = y + 18 + _BAR / 2
        parts.append(
            f'<path class="whisker" d="M{left:.1f} {middle - 4}v8m0-4H{right:.1f}m0-4v8"/>'
        )
    return "".join(parts)
