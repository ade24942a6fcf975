"""Works on one job: starts its train command, and again where it failed.

Every launcher does its work by this class, whatever decides where and when.
"""

from __future__ import annotations

import os
import shlex
import socket
from collections.abc import Mapping
from typing import Literal

from benchmarks.jobs import record as records
from benchmarks.jobs import states
from benchmarks.jobs.plan import Job, Plan
from common.errors import MISTAKE, STOPPED
from common.launch.process import Command, surroundings

Outcome = Literal["done", "failed", "stopped", "held"]


class Work:
    """One job in progress."""

    def __init__(
        self, plan: Plan, job: Job, retries: int, environment: Mapping[str, str] | None = None
    ):
        """Starts nothing yet.

        Args:
            plan: The job list.
            job: The job.
            retries: How often to start again after a failure.
            environment: Variables for the run beside those of this process.
        """
        self._plan, self._job, self._retries = plan, job, retries
        self._environment = surroundings(environment)
        self._command = Command()

    def run(self) -> Outcome:
        """Makes attempts until the run is complete, or failed once too often, or stopped.

        Returns:
            How it ended; "held" where another process works on the job.
        """
        plan, job = self._plan, self._job
        with records.hold(plan.log(job)) as log:
            if log is None:
                return "held"
            record = records.read(plan.record(job))
            if record.attempts and not record.attempts[-1].outcome:
                record.end("lost")
                record.write(plan.record(job))
            while not self._command.stopping:
                if self._finished():
                    return "done"
                if record.failed:
                    return "failed"
                self._attempt(record, log)
                if record.attempts[-1].outcome == "stopped":
                    break
            return "stopped"

    def stop(self) -> None:
        """Tells the run to write a checkpoint and end; makes no further attempt."""
        self._command.stop()

    def join(self) -> None:
        """Waits for the end of a stopped run, also inside a signal's handler."""
        self._command.join()

    def _attempt(self, record: records.Record, log: int) -> None:
        """Runs the train command once and records it."""
        plan, path = self._plan, self._plan.record(self._job)
        attempt = record.begin(socket.gethostname())
        record.write(path)
        command = plan.command(self._job)
        head = f"--- attempt {len(record.attempts)} at {attempt.started} on {attempt.host}"
        os.write(log, f"{head}\n{shlex.join(command)}\n".encode())
        attempt.pid = self._command.start(command, self._environment, log)
        try:
            record.write(path)
            self._close(record, self._command.wait())
        except BaseException:  # A launcher that gives the machine back raises from a handler.
            self.stop()
            self._close(record, self._command.wait())
            raise

    def _close(self, record: records.Record, code: int) -> None:
        """Records how an attempt ended."""
        if code == 0 and self._finished():
            record.end("done", code)
        elif code in (0, STOPPED) or self._command.stopping:
            record.end("stopped", code)
        else:
            record.end("failed", code)
            record.failures += 1
            record.failed = code == MISTAKE or record.failures > self._retries
        record.write(self._plan.record(self._job))

    def _finished(self) -> bool:
        return all(states.finished(self._plan, job) for job in self._plan.crew(self._job))
