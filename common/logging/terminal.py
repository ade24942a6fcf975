"""The progress line."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from rich.console import Console
from rich.text import Text

_FIELDS = (
    ("return", "episode/return", "{:.1f}"),
    ("length", "episode/length", "{:.0f}"),
    ("eval", "eval/return_mean", "{:.1f}"),
    ("frames/s", "time/frames_per_s", "{:,.1f}"),
    ("updates/s", "time/updates_per_s", "{:,.2f}"),
)


class TerminalSink:
    """Prints one line per log interval from the newest value of each metric."""

    def __init__(self, total: int, console: Console | None = None, clock: str = "frames") -> None:
        """Creates the sink.

        Args:
            total: Length of the whole run by its clock, for the share done and the time left.
            console: Where to print; standard output by default, in colour on a terminal.
            clock: "frames" or "updates". A write with their speed ends a log interval and
                prints a line.
        """
        self._total, self._clock = total, clock
        self._trigger = f"time/{clock}_per_s"
        self._console = console or Console(soft_wrap=True, highlight=False)
        self._newest: dict[str, float] = {}

    def scalars(self, frames: int, scalars: Mapping[str, float]) -> None:
        """Remembers the values; prints where they end a log interval."""
        self._newest.update({name: float(value) for name, value in scalars.items()})
        if self._trigger in scalars:
            line = progress_line(self._newest, frames, self._total, self._clock)
            self._console.print(line, soft_wrap=True)

    def video(self, frames: int, name: str, video: np.ndarray) -> None:
        """Prints nothing."""

    def rewind(self, frames: int) -> None:
        """Does nothing."""

    def flush(self) -> None:
        """Does nothing: lines are printed at once."""

    def close(self) -> None:
        """Does nothing."""


def progress_line(newest: Mapping[str, float], now: int, total: int, clock: str = "frames") -> Text:
    """Returns the line of a moment of a run.

    Args:
        newest: The newest value of each metric.
        now: The run's clock.
        total: Length of the whole run by its clock.
        clock: "frames" or "updates".
    """
    parts = [(clock, f"{now:,} ({now / total if total else 1.0:.1%})")]
    for label, name, form in _FIELDS:
        if name in newest:
            parts.append((label, form.format(newest[name])))
    speed = newest.get(f"time/{clock}_per_s", math.nan)
    parts.append(("eta", format_seconds(max(0, total - now) / speed if speed > 0 else math.nan)))
    line = Text()
    for label, value in parts:
        line.append("  " if line else "").append(f"{label} ", "dim").append(value, "bold")
    return line


def format_seconds(seconds: float) -> str:
    """Returns ``h:mm:ss``; "?" where the time is not known."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
