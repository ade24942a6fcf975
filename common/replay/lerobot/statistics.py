"""Mean, deviation and bounds of every feature, by which LeRobot's policies normalise."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass
class _Sums:
    """Of one feature, over all frames so far."""

    picture: bool
    low: Any = np.inf
    high: Any = -np.inf
    total: Any = 0.0
    squares: Any = 0.0
    amount: int = 0
    frames: int = 0


class Statistics:
    """Adds up episodes; pictures by channel on the scale of 0 to 1, all else by entry."""

    def __init__(self) -> None:
        """Begins with nothing."""
        self._sums: dict[str, _Sums] = {}

    def add(self, name: str, values: np.ndarray) -> None:
        """Takes the values of an episode's frames ``[T, ...]``; uint8 are pictures."""
        sums = self._sums.setdefault(name, _Sums(values.dtype == np.uint8))
        last = values.shape[-1] if sums.picture else values[0].size
        flat = values.reshape(-1, last) / (255.0 if sums.picture else 1.0)
        sums.low = np.minimum(sums.low, flat.min(0))
        sums.high = np.maximum(sums.high, flat.max(0))
        sums.total, sums.squares = sums.total + flat.sum(0), sums.squares + (flat**2).sum(0)
        sums.amount, sums.frames = sums.amount + len(flat), sums.frames + len(values)

    def result(self) -> dict[str, dict[str, Any]]:
        """Returns them as ``meta/stats.json`` holds them."""
        found = {}
        for name, sums in self._sums.items():
            mean = sums.total / sums.amount
            deviation = np.sqrt(np.maximum(sums.squares / sums.amount - mean**2, 0))
            shape = (-1, 1, 1) if sums.picture else (-1,)
            parts = {"min": sums.low, "max": sums.high, "mean": mean, "std": deviation}
            found[name] = {key: np.reshape(x, shape).tolist() for key, x in parts.items()}
            found[name]["count"] = [sums.frames]
        return found
