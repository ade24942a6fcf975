"""A trial as Ray Tune works on it: a train command in a run folder, watched by its log."""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.jobs import record as records
from common.errors import MISTAKE, STOPPED
from common.launch.process import Command, surroundings
from common.logging.jsonl import read_jsonl
from common.published.statistics import area
from common.run.folder import METRICS

SCORE = "eval/return_mean"
PATIENCE = 2.0
"""Seconds after which a step returns without an evaluation, so that a stop is heard."""
_LOOK_EVERY = 0.2


def evaluations(folder: pathlib.Path) -> list[tuple[int, float]]:
    """Returns frames and mean return of every evaluation of a run so far, in order."""
    path = folder / METRICS
    if not path.is_file():
        return []
    found = {int(row["frames"]): row[SCORE] for row in read_jsonl(path) if SCORE in row}
    return sorted((frames, score) for frames, score in found.items() if math.isfinite(score))


def area_so_far(points: list[tuple[int, float]]) -> float:
    """Returns the area under evaluations over its width; of a single one its return."""
    if not points:
        return math.nan
    frames, scores = zip(*points, strict=True)
    return area(frames, scores) if len(points) > 1 else scores[0]


class Run:
    """A run that is started or gone on with, or, where it has ended before, only read.

    What it tells is a report: the frames, area and score of one more evaluation each time, and in
    the end "ended": "done" or "failed", with the "fault".
    """

    def __init__(
        self,
        words: list[str],
        folder: pathlib.Path,
        environment: Mapping[str, str],
        ended_at: int | None = None,
    ):
        """Starts the command, unless it has ended.

        Args:
            words: The train command.
            folder: Its run folder.
            environment: Variables of the run beside those of this process.
            ended_at: Frames at which it ended before; None where it goes on.
        """
        self._words, self._folder = words, folder
        self._environment, self._ended_at = surroundings(environment), ended_at
        self._log = folder.parent.parent / "logs" / f"{folder.name}.log"
        self._told, self._points, self._stamp = 0, [], None
        self._code: int | None = None
        self._command = Command()
        self._open = contextlib.ExitStack()
        self._started = False
        if ended_at is None:
            self._log.parent.mkdir(exist_ok=True)
            self._start()

    def next(self) -> dict[str, Any]:
        """Waits a short while for one more evaluation or the end; returns the report."""
        end = time.monotonic() + PATIENCE
        while True:
            over = self._over()
            self._look()
            if self._told < len(self._points):
                self._told += 1
                break
            if over or time.monotonic() > end:
                break
            time.sleep(_LOOK_EVERY)
        return self._report(over and self._told == len(self._points))

    def stop(self) -> None:
        """Has it write a checkpoint and end, and waits for that."""
        if self._started:
            self._command.stop()
            self._close(self._command.wait())
        self._open.close()

    def _start(self) -> None:
        """Starts the command where nobody else works on the run.

        That is a run whose search was killed: it is told to stop, and this one waits for it.
        """
        path = self._log.with_suffix(".json")
        file = self._open.enter_context(records.hold(self._log))
        record = records.read(path)
        if file is None:
            self._open.close()
            last = next(reversed(record.attempts), None)
            if last and last.pid and last.host == socket.gethostname() and not last.outcome:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(last.pid, signal.SIGTERM)
            return
        if record.attempts and not record.attempts[-1].outcome:
            record.end("lost")
        attempt = record.begin(socket.gethostname())
        attempt.pid = self._command.start(self._words, self._environment, file)
        self._started = True
        record.write(path)
        self._record, self._path = record, path

    def _over(self) -> bool:
        if self._ended_at is not None or self._code is not None:
            return True
        if not self._started:
            self._start()
            return False
        code = self._command.poll()
        if code is not None:
            self._close(code)
        return code is not None

    def _close(self, code: int) -> None:
        if self._code is None:
            self._code = code
            self._record.end({0: "done", STOPPED: "stopped"}.get(code, "failed"), code)
            self._record.write(self._path)
        self._open.close()

    def _look(self) -> None:
        """Reads the log where it has changed."""
        try:
            found = os.stat(self._folder / METRICS)
        except FileNotFoundError:
            return
        if (stamp := (found.st_mtime_ns, found.st_size)) != self._stamp:
            limit = math.inf if self._ended_at is None else self._ended_at
            points = evaluations(self._folder)
            self._points = [point for point in points if point[0] <= limit]
            self._told, self._stamp = min(self._told, len(self._points)), stamp

    def _report(self, over: bool) -> dict[str, Any]:
        points = self._points[: self._told]
        frames, score = points[-1] if points else (0, math.nan)
        ended, fault = "", ""
        if over and self._ended_at is not None:
            ended = "done"
        elif over:
            ended = "failed" if self._code or not points else "done"
            fault = self._fault() if ended == "failed" else ""
        return {
            "frames": frames, "score": score, "area": area_so_far(points), "ended": ended,
            "fault": fault, "done": bool(ended),
        }  # fmt: skip

    def _fault(self) -> str:
        lines = [*_last_lines(self._log)]
        said = lines[-1] if lines else "it printed nothing"
        if self._code == 0:
            said = "it was never evaluated"
        mistake = "" if self._code in (0, MISTAKE) else f"exit code {self._code}: "
        return f"{mistake}{said[:300]}"


def _last_lines(path: pathlib.Path) -> Iterator[str]:
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
        yield from (
            line for line in file.read().decode(errors="replace").splitlines() if line.strip()
        )
