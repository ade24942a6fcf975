"""One object that hands metrics and videos to every place where they are kept."""

from __future__ import annotations

import math
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from common.logging.jsonl import JsonlFile, scan_jsonl

ELAPSED = "time/elapsed_s"
"""Wall-clock seconds of the run, summed over its sessions; the logger adds it."""


class Sink(Protocol):
    """A place where metrics and videos go; add your own to ``Logger``."""

    def scalars(self, frames: int, scalars: Mapping[str, float]) -> None:
        """Takes the metrics measured at ``frames``."""

    def video(self, frames: int, name: str, video: np.ndarray) -> None:
        """Takes a video ``[T, H, W, C]`` uint8."""

    def rewind(self, frames: int) -> None:
        """Forgets, where it can, what came after ``frames``."""

    def flush(self) -> None:
        """Writes what waits."""

    def close(self) -> None:
        """Flushes and lets go of files."""


class Logger:
    """Writes to all sinks, and every finished episode to a file of its own."""

    def __init__(
        self,
        scores: pathlib.Path,
        metrics: pathlib.Path,
        *sinks: Sink,
        lent: Sequence[Sink] = (),
        clock: str = "frames",
    ) -> None:
        """Opens the file of scores; an earlier session's lines are kept.

        Args:
            scores: File of the finished episodes; made if missing, with its folder.
            metrics: File of a ``JsonlSink``, which says how long earlier sessions took; need
                not exist.
            sinks: Where to write.
            lent: Where to write too; ``close`` flushes these, and whoever made them closes them.
            clock: What the numbers below called frames are: "frames", simulator steps with
                action repeat included, or "updates".
        """
        self._metrics = pathlib.Path(metrics)
        self._own, self._lent = sinks, lent
        self._sinks = (*sinks, *lent)
        self._clock = clock
        self._scores = JsonlFile(pathlib.Path(scores), clock)
        self._start = time.monotonic() - self._earlier_seconds()

    def write(self, frames: int, scalars: Mapping[str, float]) -> None:
        """Records metrics.

        Args:
            frames: Simulator steps so far, action repeat included.
            scalars: ``{"group/name": value}``; any scalar that ``float`` takes.
        """
        values = {name: float(value) for name, value in scalars.items()}
        values[ELAPSED] = time.monotonic() - self._start
        for sink in self._sinks:
            sink.scalars(frames, values)

    def score(self, frames: int, scalars: Mapping[str, float]) -> None:
        """Records one finished training episode: its "return", "length" and the like."""
        self._scores.write(frames, scalars)

    def video(self, frames: int, name: str, video: np.ndarray) -> None:
        """Records a video.

        Args:
            frames: Simulator steps so far.
            name: Such as "eval/policy" or "open_loop/image".
            video: ``[T, H, W, C]`` uint8 with one or three channels.
        """
        for sink in self._sinks:
            sink.video(frames, name, video)

    def rewind(self, frames: int) -> None:
        """Forgets what came after ``frames``; for a run resumed from an older checkpoint."""
        self._scores.rewind(frames)
        for sink in self._sinks:
            sink.rewind(frames)
        self._start = time.monotonic() - self._earlier_seconds()

    def flush(self) -> None:
        """Writes what waits, in every sink."""
        for sink in self._sinks:
            sink.flush()

    def close(self) -> None:
        """Closes every sink but those that are lent."""
        self._scores.close()
        for sink in self._own:
            sink.close()
        for sink in self._lent:
            sink.flush()

    def _earlier_seconds(self) -> float:
        if not self._metrics.exists():
            return 0.0
        records = scan_jsonl(self._metrics, self._clock)  # Who rewinds warns of damaged lines.
        seconds = (record.get(ELAPSED, 0.0) for record in records if record)
        return max((value for value in seconds if math.isfinite(value)), default=0.0)
