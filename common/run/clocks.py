"""When things are due, and how fast they went."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

SECONDS = "time/seconds/"
"""Beginning of the names of metrics that say how long a run did what since the last ones."""


class Every:
    """Is due whenever a counter has passed another multiple of the interval.

    An interval of 0 is never due.
    """

    def __init__(self, interval: int, start: int = 0):
        """Starts at a counter's value, which is not due itself."""
        self._interval = interval
        self._passed = start // interval if interval else 0

    def due(self, counter: int) -> bool:
        """Whether a multiple lies between the last call's counter and this one."""
        if not self._interval:
            return False
        passed = counter // self._interval
        due, self._passed = passed > self._passed, passed
        return due


class Ratio:
    """Turns agent steps into updates at a fixed ratio, without drift."""

    def __init__(self, updates_per_step: float, first: int = 0):
        """Nothing is due until ``due`` is asked; then ``first`` updates are, at once."""
        self._ratio = updates_per_step
        self._first = first
        self._start: int | None = None
        self._done = 0

    def due(self, steps: int) -> bool:
        """Whether one more update is due after ``steps``; the caller then makes it."""
        if self._start is None:
            self._start = steps
        # The small number keeps 3 x (1 / 3) from being rounded down to 0.
        total = self._first + int((steps - self._start) * self._ratio + 1e-6)
        due = self._done < total
        self._done += due
        return due

    def state(self) -> list[int | None]:
        """Returns what ``load`` continues from."""
        return [self._start, self._done]

    def load(self, state: list[int | None]) -> None:
        """Continues from ``state``."""
        self._start, self._done = state[0], state[1] or 0


class Silence:
    """Notices when nothing has been printed for a while."""

    def __init__(self, seconds: float = 10.0):
        """Starts now."""
        self._seconds = seconds
        self._begin = time.monotonic()

    def broken(self) -> None:
        """Starts anew: something was printed."""
        self._begin = time.monotonic()

    def too_long(self) -> bool:
        """Whether it is time to print something; if so, starts anew."""
        if time.monotonic() - self._begin < self._seconds:
            return False
        self.broken()
        return True


class Stopwatch:
    """Where the time of a thread goes, in parts of which one is counted at a time.

    What begins inside of another part is not counted there, and "rest" is what is in none.
    """

    def __init__(self) -> None:
        """Starts with the rest."""
        self._seconds: dict[str, float] = {}
        self._inside, self._known = ["rest"], set[str]()
        self._mark = time.perf_counter()

    @contextlib.contextmanager
    def part(self, name: str, first: str = "") -> Iterator[None]:
        """Counts what happens inside.

        Args:
            name: Of the part.
            first: Name of another part, to which the first time of this one counts.
        """
        chosen = name if name in self._known or not first else first
        self._known.add(name)
        self._count()
        self._inside.append(chosen)
        try:
            yield
        finally:
            self._count()
            self._inside.pop()

    def take(self) -> dict[str, float]:
        """Returns the seconds of every part since the last call, as metrics, and starts anew."""
        self._count()
        taken, self._seconds = self._seconds, {}
        return {SECONDS + name: value for name, value in taken.items()}

    def _count(self) -> None:
        now, name = time.perf_counter(), self._inside[-1]
        self._seconds[name] = self._seconds.get(name, 0.0) + now - self._mark
        self._mark = now


@contextlib.contextmanager
def announced(what: str) -> Iterator[None]:
    """Prints that something slow begins, and how long it took."""
    print(f"{what} ... ", end="", flush=True)
    begin = time.monotonic()
    try:
        yield
    finally:
        print(f"{time.monotonic() - begin:.1f} s", flush=True)


class Meter:
    """Averages metrics and measures speed between two lines of the log."""

    def __init__(self, frames: int, updates: int):
        """Starts measuring at these counters."""
        self._values: dict[str, list[Any]] = {}
        self._mark = time.monotonic(), frames, updates

    def add(self, metrics: Mapping[str, Any]) -> None:
        """Takes scalars, on the device or not; fetches nothing yet."""
        for name, value in metrics.items():
            self._values.setdefault(name, []).append(value)

    def take(self, frames: int, updates: int) -> dict[str, float]:
        """Returns averages and speeds since the last call, and starts anew."""
        import jax  # Who only reads what was logged needs none.

        now = time.monotonic()
        begin, old_frames, old_updates = self._mark
        # One transfer for everything: each single fetch would wait for the device.
        values = jax.device_get(self._values)
        averages = {name: float(np.mean(value)) for name, value in values.items()}
        seconds = max(now - begin, 1e-9)
        averages["time/frames_per_s"] = (frames - old_frames) / seconds
        averages["time/updates_per_s"] = (updates - old_updates) / seconds
        averages["time/updates"] = float(updates)
        self._values = {}
        self._mark = now, frames, updates
        return averages
