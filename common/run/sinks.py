"""Where a run's metrics and videos go."""

from __future__ import annotations

import pathlib

from common.logging import JsonlSink, Logger, Sink, TensorBoardSink, TerminalSink, VideoSink
from common.run import folder


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
        JsonlSink(logdir / folder.METRICS, clock),
        TensorBoardSink(logdir / folder.TENSORBOARD, fps),
        VideoSink(logdir / folder.VIDEOS, fps),
        TerminalSink(total, clock=clock),
    ]


def open_logger(logdir: pathlib.Path, *sinks: Sink, clock: str = "frames") -> Logger:
    """Returns the log of a run folder; an earlier session's lines are kept.

    Args:
        logdir: The run folder, made if missing.
        sinks: Where to write, for instance ``*default_sinks(logdir, frames)``.
        clock: "frames" or "updates".
    """
    return Logger(logdir / folder.SCORES, logdir / folder.METRICS, *sinks, clock=clock)
