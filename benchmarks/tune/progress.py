"""What a search says while it goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.tune.record import Question, Record, Trial, ranked
from benchmarks.tune.space import words
from common.logging import format_seconds

SUMMARY_EVERY = 60.0


class Watch:
    """Lines of progress: every start and end, and now and then how far all is."""

    def __init__(
        self, record: Record, question: Question, amount: int, changed: Callable[[], None]
    ):
        """Begins to count time.

        Args:
            record: What was tried.
            question: What is searched.
            amount: Trials in the end.
            changed: Called after every end.
        """
        self._record, self._question, self._changed = record, question, changed
        self._amount, self._begin, self._said = amount, time.monotonic(), time.monotonic()
        self._before = self._share()

    def begin(self, trial: Trial) -> None:
        """Says that a trial begins, or goes on."""
        verb = "goes on" if trial.frames else "starts"
        print(f"trial {trial.number} {verb}: {describe(trial.values)}", flush=True)

    def end(self, trial: Trial) -> None:
        """Says how a trial ended, and how far all is."""
        why = f", {trial.fault}" if trial.fault else f" at {trial.frames:,} frames"
        found = "" if math.isnan(trial.area) else f", area {trial.area:.4g}"
        print(f"trial {trial.number} {trial.state}{why}{found}; {self._summary()}", flush=True)
        self._changed()

    def look(self) -> None:
        """Says how far all is, where that was not said for long."""
        if time.monotonic() - self._said > SUMMARY_EVERY:
            print(self._summary(), flush=True)

    def _share(self) -> float:
        """Trials' worth of work so far."""
        frames = self._question.frames
        return sum(
            min(one.frames / frames, 1) if one.state == "running" else 1
            for one in self._record.trials.values()
        )

    def _summary(self) -> str:
        self._said = time.monotonic()
        share, seconds = self._share(), self._said - self._begin
        speed = (share - self._before) / seconds if seconds else 0
        left = (self._amount - share) / speed if speed > 0 else math.nan
        trials = self._record.trials
        ended = sum(one.state != "running" for one in trials.values())
        best = ranked(trials)
        words = f", best trial {best[0].number} with area {best[0].area:.4g}" if best else ""
        return f"{ended} of {self._amount} trials ended{words}, {format_seconds(left)} left"


def describe(values: Mapping[str, Any]) -> str:
    """Returns the values of a trial in one line, numbers with four digits."""
    return ", ".join(f"{path} {brief(value)}" for path, value in values.items())


def brief(value: Any) -> str:
    """Returns a value for people: numbers with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else words(value)
