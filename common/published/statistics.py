"""Means of few seeds: their intervals, how two of them differ, and areas under curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from common.published.curves import Point

CONFIDENCE = 0.95


class Difference(NamedTuple):
    """How far a return lies above another one.

    Attributes:
        value: The difference of the means.
        half: Half the width of its interval of 95%; NaN where no seeds say how far it may vary.
    """

    value: float
    half: float

    @property
    def verdict(self) -> str:
        """Says "ahead" or "behind", or "undecided" where the interval holds 0 or there is none."""
        if not abs(self.value) > self.half:
            return "undecided"
        return "ahead" if self.value > 0 else "behind"


def interval(point: Point) -> tuple[float, float]:
    """Returns the interval of 95% of a mean, by Student's t; NaN, NaN of less than two seeds."""
    if point.seeds < 2 or math.isnan(point.sd):
        return math.nan, math.nan
    half = _quantile(point.seeds - 1) * point.sd / math.sqrt(point.seeds)
    return point.mean - half, point.mean + half


def difference(ours: Point, theirs: Point) -> Difference:
    """Compares two means.

    Welch's interval where both have at least two seeds. Where one of them is a single training,
    it is taken to vary as much as the seeds of the other do, so that the interval asks whether
    such a training might have been one of the other's.
    """
    value = ours.mean - theirs.mean
    known = [one for one in (ours, theirs) if one.seeds > 1 and not math.isnan(one.sd)]
    if len(known) == 2:
        parts = [one.sd**2 / one.seeds for one in known]
        total = sum(parts)
        if not total:
            return Difference(value, 0.0)
        weights = (part**2 / (one.seeds - 1) for part, one in zip(parts, known, strict=True))
        return Difference(value, _quantile(total**2 / sum(weights)) * math.sqrt(total))
    if len(known) == 1 and min(ours.seeds, theirs.seeds) == 1:
        (one,) = known
        return Difference(value, _quantile(one.seeds - 1) * one.sd * math.sqrt(1 + 1 / one.seeds))
    return Difference(value, math.nan)


def area(frames: Sequence[float], returns: Sequence[float]) -> float:
    """Returns the area under a curve over its width: its mean return; NaN of less than two places.

    Args:
        frames: Places, in order.
        returns: What was reached there; between two places it is a straight line.
    """
    if len(frames) < 2:
        return math.nan
    return float(np.trapezoid(returns, frames) / (frames[-1] - frames[0]))


def _quantile(degrees: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2))
