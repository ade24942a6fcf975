"""What a report shows."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Curve:
    """One metric over the run.

    Attributes:
        frames: Where on the run's clock ``[P]``.
        values: The metric there ``[P]``; NaN where it was not finite.
    """

    frames: np.ndarray
    values: np.ndarray

    @property
    def last(self) -> float:
        """The newest finite value; NaN without one."""
        finite = self.values[np.isfinite(self.values)]
        return float(finite[-1]) if len(finite) else float("nan")


@dataclasses.dataclass(frozen=True)
class RunData:
    """Everything that a report shows.

    Attributes:
        logdir: The run folder.
        metrics: Curve of every metric.
        scores: Return of every training episode.
        clock: What the run counts: "frames", simulator steps with action repeat included, or
            "updates" where it learned from episodes that were there already.
        frames: The clock so far.
        seconds: Wall-clock time of the run so far; NaN where it was not recorded.
        config: The resolved configuration, as text.
        settings: The same, as a mapping; empty where it cannot be read.
        versions: Versions and hardware.
        videos: Newest file of each name, such as ``{"eval_policy": (frames, path)}``.
    """

    logdir: pathlib.Path
    metrics: dict[str, Curve]
    scores: Curve
    clock: str
    frames: int
    seconds: float
    config: str
    settings: dict[str, Any]
    versions: dict[str, str]
    videos: dict[str, tuple[int, pathlib.Path]]
