"""Lines of progress while a launcher works: every start and end, and a summary."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence

from benchmarks.jobs import record as records
from benchmarks.jobs import states
from benchmarks.jobs.plan import Job, Plan

SUMMARY_EVERY = 60.0
STOP_SIGNALS = signal.SIGTERM, signal.SIGINT


@contextlib.contextmanager
def stop_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Calls a function on the first SIGTERM or Ctrl-C; a second one ends the process.

    The jobs have heard of the first one by then, and end by themselves.
    """
    previous = {name: signal.getsignal(name) for name in STOP_SIGNALS}

    def restore() -> None:
        for name, handler in previous.items():
            signal.signal(name, handler)

    def handle(*_: object) -> None:
        restore()
        print("stopping: the jobs write their checkpoints ...", flush=True)
        stop()

    for name in STOP_SIGNALS:
        signal.signal(name, handle)
    try:
        yield
    finally:
        restore()


class Watch:
    """Prints what changed since it last looked; it reads the records only.

    It sees what any process does to the jobs, on this machine or on another.
    """

    def __init__(self, plan: Plan, jobs: Sequence[Job], retries: int):
        """Takes what is recorded by now as known.

        Args:
            plan: The job list.
            jobs: Those to watch.
            retries: How often a job is started again, for the words of a failure.
        """
        self._plan, self._jobs, self._retries = plan, jobs, retries
        self._changed = {job: self._stamp(job) for job in jobs}
        self._said = {job: len(self._events(job)) for job in jobs}
        self._summed = time.monotonic()

    def look(self) -> None:
        """Prints new events, and the summary where its time has come."""
        for job in self._jobs:
            stamp = self._stamp(job)
            if stamp == self._changed[job]:
                continue
            self._changed[job] = stamp
            events = self._events(job)
            for event in events[self._said[job] :]:
                print(event, flush=True)
            self._said[job] = len(events)
        if time.monotonic() - self._summed > SUMMARY_EVERY:
            self.summarize()

    def summarize(self) -> None:
        """Prints how far everything is."""
        found = [states.progress(self._plan, job) for job in self._jobs]
        print(states.summary(self._plan, found), flush=True)
        self._summed = time.monotonic()

    def _stamp(self, job: Job) -> int:
        try:
            return os.stat(self._plan.record(job)).st_mtime_ns
        except FileNotFoundError:
            return 0

    def _events(self, job: Job) -> list[str]:
        """Returns everything that happened to a job, in order."""
        record, lines = records.read(self._plan.record(job)), []
        name = self._plan.name(job)
        for number, attempt in enumerate(record.attempts, 1):
            lines.append(f"started: {name}, attempt {number}, on {attempt.host}")
            if not attempt.outcome:
                continue
            if attempt.outcome != "failed":
                lines.append(f"{attempt.outcome}: {name}")
            elif number == len(record.attempts) and record.failed:
                lines.append(states.failure(self._plan, job))
            else:
                lines.append(f"failed: {name}, exit code {attempt.exit}; trying again")
        return lines
