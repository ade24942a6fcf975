"""Where a run's metrics and videos go."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from common.config import to_dict
from common.logging import JsonlSink, Logger, Sink, TensorBoardSink, TerminalSink, VideoSink
from common.logging.tracking import WandbSink, check_wandb
from common.run import folder
from common.run.config import Settings
from common.run.versions import DISTRIBUTION


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


def check_loggers(config: Settings) -> None:
    """Raises a UserError where a package that ``run.loggers`` needs is missing."""
    if "wandb" in config.run.loggers:
        check_wandb()


def chosen_sinks(logdir: pathlib.Path, agent: str, config: Settings, clock: str) -> list[Sink]:
    """Returns what ``run.loggers`` names.

    Args:
        logdir: The run folder.
        agent: Name of the agent.
        config: Its configuration.
        clock: "frames" or "updates".

    Raises:
        UserError: One of them cannot be opened.
    """
    if "wandb" not in config.run.loggers:
        return []
    values, name = {"agent": agent, **to_dict(config)}, logdir.absolute().name
    return [WandbSink(logdir / folder.WANDB, DISTRIBUTION, name, values, clock)]


def open_logger(
    logdir: pathlib.Path, *sinks: Sink, lent: Sequence[Sink] = (), clock: str = "frames"
) -> Logger:
    """Returns the log of a run folder; an earlier session's lines are kept.

    Args:
        logdir: The run folder, made if missing.
        sinks: Where to write, for instance ``*default_sinks(logdir, frames)``.
        lent: Sinks that stay open at the end.
        clock: "frames" or "updates".
    """
    return Logger(logdir / folder.SCORES, logdir / folder.METRICS, *sinks, lent=lent, clock=clock)
