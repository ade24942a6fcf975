"""One object that hands metrics and videos to every place where they are kept."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from common.logging.jsonl import METRICS, SCORES, JsonlFile, JsonlSink, read_jsonl
from common.logging.tensorboard import TensorBoardSink
from common.logging.terminal import TerminalSink
from common.logging.video import VideoSink

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


def default_sinks(
    logdir: pathlib.Path, total: int, fps: int = 20, clock: str = "frames"
) -> list[Sink]:
    """Returns JSON lines, TensorBoard, video files and the progress line.

    Args:
        logdir: The run folder.
        total: Length of the run by its clock.
        fps: Pictures of a video in a second.
        clock: "frames" or "updates".
    """
    return [
        JsonlSink(logdir, clock),
        TensorBoardSink(logdir, fps),
        VideoSink(logdir, fps),
        TerminalSink(total, clock=clock),
    ]


class Logger:
    """Writes to all sinks, and every finished episode to ``scores.jsonl``."""

    def __init__(self, logdir: pathlib.Path, *sinks: Sink, clock: str = "frames") -> None:
        """Opens the files of a run folder; an earlier session's lines are kept.

        Args:
            logdir: The run folder, made if missing.
            sinks: Where to write, for instance ``*default_sinks(logdir, frames)``.
            clock: What the numbers below called frames are: "frames", simulator steps with
                action repeat included, or "updates".
        """
        self._logdir = pathlib.Path(logdir)
        self._sinks = sinks
        self._clock = clock
        self._scores = JsonlFile(self._logdir / SCORES, clock)
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
        self._scores.flush()

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
        self._scores.flush()
        for sink in self._sinks:
            sink.flush()

    def close(self) -> None:
        """Closes every sink."""
        self._scores.close()
        for sink in self._sinks:
            sink.close()

    def _earlier_seconds(self) -> float:
        path = self._logdir / METRICS
        if not path.exists():
            return 0.0
        return max(
            (record.get(ELAPSED, 0.0) for record in read_jsonl(path, self._clock)), default=0.0
        )
