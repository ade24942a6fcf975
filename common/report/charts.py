"""Charts as inline SVG: no library in the page, and colours that follow its style sheet."""

from __future__ import annotations

import dataclasses
import html
import itertools
import math
from collections.abc import Sequence

import numpy as np

_ids = itertools.count()
_REACH = 6
"""Pixels by which a point at an end of the horizontal axis reaches beyond it."""


@dataclasses.dataclass(frozen=True)
class Series:
    """One thing to draw.

    Attributes:
        kind: "line", "dots", "points" (larger, with values on hover), "band" (between
            ``y`` and ``high``), "whiskers" (the same, at each position alone) or "rule" (a
            dashed level ``y[0]``).
        x: Positions ``[P]``; unused by "rule".
        y: Values ``[P]``; entries that are not finite interrupt a line.
        style: CSS class, which gives the colour.
        label: Entry of the legend; "" for none.
        high: Upper values of a band or of whiskers ``[P]``.
    """

    kind: str
    x: np.ndarray
    y: np.ndarray
    style: str
    label: str = ""
    high: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Frame:
    """Size of a chart in pixels, and the margins that its labels need."""

    width: int
    height: int
    left: int = 58
    right: int = 16
    top: int = 10
    bottom: int = 40


@dataclasses.dataclass(frozen=True)
class _Axes:
    frame: Frame
    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        frame = self.frame
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        inner_width = frame.width - frame.left - frame.right
        inner_height = frame.height - frame.top - frame.bottom
        return frame.left + across * inner_width, frame.top + (1 - up) * inner_height


def chart(
    series: Sequence[Series],
    frame: Frame,
    x_label: str,
    y_label: str = "",
    robust: bool = False,
    name: str = "",
) -> str:
    """Draws series on common axes.

    Args:
        series: What to draw, from the back to the front.
        frame: Size and margins.
        x_label: Name and unit of the horizontal axis.
        y_label: Name and unit of the vertical axis.
        robust: Cut the vertical axis at the 1st and 99th percentile, so that a single
            spike does not flatten the rest.
        name: What it shows, for readers who hear the page; "" for the label of an axis.

    Returns:
        An ``<svg>`` element; "" where no finite value is there to draw.
    """
    x, y = _limits(series, robust)
    if x is None or y is None:
        return ""
    ticks = nice_ticks(*y, 5 if frame.height > 200 else 3)
    axes = _Axes(frame, x, (min(y[0], ticks[0]), max(y[1], ticks[-1])))
    clip = f"clip{next(_ids)}"
    parts = [
        f'<svg viewBox="0 0 {frame.width} {frame.height}" role="img" '
        f'aria-label="{html.escape(name or y_label or x_label)}">',
        _grid(axes, ticks, x_label, y_label),
        f'<clipPath id="{clip}"><rect x="{frame.left - _REACH}" y="{frame.top}" '
        f'width="{frame.width - frame.left - frame.right + 2 * _REACH}" '
        f'height="{frame.height - frame.top - frame.bottom}"/></clipPath>',
        f'<g clip-path="url(#{clip})">',
        *(_draw(one, axes) for one in series),
        "</g></svg>",
    ]
    return "".join(parts)


def legend(series: Sequence[Series]) -> str:
    """Names the labelled series beside a swatch of their colour."""
    items = [
        f'<li><span class="swatch {one.kind} {one.style}"></span>{html.escape(one.label)}</li>'
        for one in series
        if one.label
    ]
    return f'<ul class="legend">{"".join(items)}</ul>'


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Returns the mean over the ``window`` newest finite values at each position."""
    finite = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    ends = np.arange(1, len(values) + 1)
    begins = np.maximum(ends - window, 0)
    amounts = counts[ends] - counts[begins]
    means = (sums[ends] - sums[begins]) / np.maximum(amounts, 1)
    return np.where(amounts > 0, means, np.nan)


def thin(frames: np.ndarray, values: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Averages neighbours until at most ``most`` points are left, which a chart can show.

    Args:
        frames: Positions ``[P]``.
        values: Values there ``[P]``.
        most: Points to keep.
    """
    amount = -(-len(frames) // most)
    if amount <= 1:
        return frames, values
    starts = np.arange(0, len(frames), amount)
    counts = np.diff([*starts, len(frames)])
    return np.add.reduceat(frames, starts) / counts, np.add.reduceat(values, starts) / counts


def nice_ticks(low: float, high: float, amount: int) -> list[float]:
    """Returns about ``amount`` multiples of 1, 2 or 5 times a power of ten within a range."""
    raw = (high - low) / max(amount, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)] or [low, high]


def short(value: float) -> str:
    """Returns a number for an axis: ``1.5M``, ``20k``, ``300``, ``0.25``, ``1e-05``."""
    size = abs(value)
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            divisor = 1e3 if suffix == "k" else limit
            return f"{value / divisor:.4g}{suffix}"
    return f"{0.0 if size < 1e-12 else value:.4g}"


def _limits(
    series: Sequence[Series], robust: bool
) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    points = [one for one in series if one.kind != "rule"]
    x = _finite([one.x for one in points])
    y = _finite([one.y for one in series] + [one.high for one in series if one.high is not None])
    if not len(y):
        return None, None
    low, high = np.percentile(y, [1, 99]) if robust else (y.min(), y.max())
    # What differs by rounding only is a constant.
    varies = high - low > 1e-5 * abs(high)
    margin = 0.05 * (high - low) if varies else abs(high) * 0.1 or 1.0
    right = float(x.max()) if len(x) else 1.0
    left = min(0.0, float(x.min())) if len(x) else 0.0
    return (left, right if right > left else left + 1.0), (low - margin, high + margin)


def _finite(arrays: Sequence[np.ndarray]) -> np.ndarray:
    values = np.concatenate([np.zeros(0), *(np.asarray(array, float) for array in arrays)])
    return values[np.isfinite(values)]


def _grid(axes: _Axes, ticks: Sequence[float], x_label: str, y_label: str) -> str:
    frame = axes.frame
    bottom = frame.height - frame.bottom
    right = frame.width - frame.right
    parts = []
    for tick in ticks:
        y = axes.at(axes.x[0], tick)[1]
        parts.append(f'<path class="grid" d="M{frame.left} {y:.1f}H{right}"/>')
        parts.append(f'<text x="{frame.left - 6}" y="{y + 4:.1f}" class="end">{short(tick)}</text>')
    for tick in nice_ticks(*axes.x, max(2, frame.width // 130)):
        x = axes.at(tick, axes.y[0])[0]
        parts.append(f'<path class="axis" d="M{x:.1f} {bottom}v4"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 17}" class="mid">{short(tick)}</text>')
    parts.append(f'<path class="axis" d="M{frame.left} {bottom}H{right}"/>')
    middle = (frame.left + right) / 2
    if x_label:
        text = html.escape(x_label)
        parts.append(f'<text x="{middle}" y="{frame.height - 6}" class="mid">{text}</text>')
    if y_label:
        height = (frame.top + bottom) / 2
        parts.append(
            f'<text transform="translate(13 {height}) rotate(-90)" class="mid">'
            f"{html.escape(y_label)}</text>"
        )
    return "".join(parts)


def _draw(one: Series, axes: _Axes) -> str:
    if one.kind == "rule":
        y = axes.at(axes.x[0], float(one.y[0]))[1]
        end = axes.frame.width - axes.frame.right
        return f'<path class="rule {one.style}" d="M{axes.frame.left} {y:.1f}H{end}"/>'
    x, y = np.asarray(one.x, float), np.asarray(one.y, float)
    if one.kind == "band":
        return _band(x, y, np.asarray(one.high, float), one.style, axes)
    if one.kind == "whiskers":
        return _whiskers(x, y, np.asarray(one.high, float), one.style, axes)
    if one.kind == "line":
        line = f'<path class="line {one.style}" d="{_path(x, y, axes)}"/>'
        known = np.pad(np.isfinite(y), 1)
        alone = known[1:-1] & ~known[:-2] & ~known[2:]  # A line of one point is none.
        return line + _marks(dataclasses.replace(one, kind="dots", x=x[alone], y=y[alone]), axes)
    return _marks(one, axes)


def _marks(one: Series, axes: _Axes) -> str:
    """Draws dots, or points with their values on hover."""
    x, y = np.asarray(one.x, float), np.asarray(one.y, float)
    drawn = []
    for a, b in zip(x, y, strict=True):
        if np.isfinite(b):
            cx, cy = axes.at(a, b)
            shape = f'class="{one.kind} {one.style}" cx="{cx:.1f}" cy="{cy:.1f}"'
            if one.kind == "dots":
                drawn.append(f'<circle {shape} r="2"/>')
            else:
                value = f"<title>{b:,.4g} at {a:,.0f}</title>"
                drawn.append(f'<circle {shape} r="4">{value}</circle>')
    return "".join(drawn)


def _path(x: np.ndarray, y: np.ndarray, axes: _Axes) -> str:
    parts, pen = [], "M"
    for a, b in zip(x, y, strict=True):
        if not np.isfinite(b):
            pen = "M"
            continue
        px, py = axes.at(a, b)
        parts.append(f"{pen}{px:.1f} {py:.1f}")
        pen = "L"
    return "".join(parts)


def _band(x: np.ndarray, low: np.ndarray, high: np.ndarray, style: str, axes: _Axes) -> str:
    known = np.isfinite(low) & np.isfinite(high)
    x, low, high = x[known], low[known], high[known]
    if not len(x):
        return ""
    outline = _path(np.r_[x, x[::-1]], np.r_[high, low[::-1]], axes)
    return f'<path class="band {style}" d="{outline}Z"/>'


def _whiskers(x: np.ndarray, low: np.ndarray, high: np.ndarray, style: str, axes: _Axes) -> str:
    parts = []
    for place, a, b in zip(x, low, high, strict=True):
        if np.isfinite(a) and np.isfinite(b):
            (left, bottom), (_, top) = axes.at(place, a), axes.at(place, b)
            across = "".join(f"M{left - 3:.1f} {y:.1f}h6" for y in (bottom, top))
            parts.append(f"M{left:.1f} {bottom:.1f}V{top:.1f}{across}")
    return f'<path class="whiskers {style}" d="{"".join(parts)}"/>' if parts else ""
