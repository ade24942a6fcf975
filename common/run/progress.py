"""What a run tells whoever started it from Python."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple


class Progress(NamedTuple):
    """What a run has just written to its log.

    Attributes:
        kind: "metrics" at a line of the log, "evaluation" after one, "random" after the
            episodes of the random policy at the start.
        clock: What the run counts its progress by, "frames" or "updates".
        now: How far it is by its clock.
        total: Its length by its clock.
        frames: Simulator steps so far; 0 where none is made.
        updates: Updates so far.
        metrics: Scalars named ``group/name``.
    """

    kind: Literal["metrics", "evaluation", "random"]
    clock: str
    now: int
    total: int
    frames: int
    updates: int
    metrics: Mapping[str, float]


Watch = Callable[[Progress], Literal["stop"] | None]
"""Called with every ``Progress``. "stop" ends the run, as SIGTERM does; what else it returns
counts for nothing. What it raises ends the run too, and leaves ``train`` after a checkpoint."""


class Result(NamedTuple):
    """How a run ended.

    Attributes:
        finished: Whether it reached its end; else the same call goes on with it.
        frames: Simulator steps so far; 0 where none is made.
        updates: Updates so far.
        logdir: The run folder.
    """

    finished: bool
    frames: int
    updates: int
    logdir: pathlib.Path
