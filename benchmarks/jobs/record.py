"""The record of a job's attempts, and the lock that says whether one is under way.

Whoever works on a job holds a lock on its log file. The run inherits it with its output, so
that it stays locked while the run goes on, even when the launcher was killed; and the kernel
drops it with the last of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import json
import os
import pathlib
import socket
import warnings
from collections.abc import Iterable, Iterator

_TYPES = {
    "attempts": list, "failures": int, "failed": bool, "pid": int, "launcher": int,
    "exit": int | None,
}  # fmt: skip
"""Of the entries that are no text."""


@dataclasses.dataclass
class Attempt:
    """One start of a job.

    Attributes:
        started: When, as ISO 8601 with the time zone.
        host: On which machine.
        pid: Number of the process; 0 until there is one.
        ended: When it ended; empty before.
        outcome: "done", "failed", "stopped" by a signal, or "lost" where whoever started it
            was killed before the end; empty before.
        exit: The exit code; negative for a signal, None where it is not known.
        launcher: Number of the process that started it; 0 where it is not known.
    """

    started: str
    host: str
    pid: int = 0
    ended: str = ""
    outcome: str = ""
    exit: int | None = None
    launcher: int = 0


@dataclasses.dataclass
class Record:
    """All attempts of a job.

    Attributes:
        attempts: In their order.
        failures: Failed ones since the job was last given up or begun.
        failed: Whether the job was given up.
    """

    attempts: list[Attempt] = dataclasses.field(default_factory=list)
    failures: int = 0
    failed: bool = False

    def begin(self, host: str) -> Attempt:
        """Adds an attempt."""
        self.attempts.append(Attempt(_now(), host, launcher=os.getpid()))
        return self.attempts[-1]

    def end(self, outcome: str, code: int | None = None) -> None:
        """Closes the last attempt."""
        last = self.attempts[-1]
        last.ended, last.outcome, last.exit = _now(), outcome, code

    def write(self, path: pathlib.Path) -> None:
        """Writes the record; whoever is killed meanwhile leaves the old one."""
        temporary = path.with_name(f".{path.name}-{os.getpid()}")
        temporary.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")
        temporary.replace(path)


def read(path: pathlib.Path) -> Record:
    """Reads a record; an empty one where there is none, or, with a warning, a damaged one."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        record = Record([Attempt(**one) for one in values.pop("attempts")], **values)
        _check(record)
        return record
    except FileNotFoundError:
        return Record()
    except (AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError) as error:
        words = " ".join(str(error).split())
        warnings.warn(f"the record {path} is damaged and counts as empty: {words}", stacklevel=2)
        return Record()


def _check(record: Record) -> None:
    """Raises a TypeError where an entry is of another type than it is declared."""
    for part in (record, *record.attempts):
        for field in dataclasses.fields(part):
            value = getattr(part, field.name)
            wanted = _TYPES.get(field.name, str)
            if not isinstance(value, wanted):
                raise TypeError(f"{field.name} is {str(value)[:50]!r}")


def orphans(jobs: Iterable[tuple[pathlib.Path, pathlib.Path]]) -> int:
    """Counts the runs on this machine that go on although their launcher was killed.

    Args:
        jobs: The record and the log file of every job.
    """
    host = socket.gethostname()
    count = 0
    for path, log in jobs:
        if not held(log):
            continue
        last = next(reversed(read(path).attempts), None)
        if last and last.host == host and not last.outcome and not _alive(last.launcher):
            count += 1
    return count


def _alive(pid: int) -> bool:
    if not pid:  # Of a version that did not note it.
        return True
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"  # It was killed, and whoever started it has not looked yet.


def renew(record: pathlib.Path, log: pathlib.Path) -> None:
    """Gives a job that was given up its attempts again, unless somebody works on it."""
    if not read(record).failed:
        return
    with hold(log) as file:
        found = read(record)
        if file is not None and found.failed:
            found.failures, found.failed = 0, False
            found.write(record)


@contextlib.contextmanager
def hold(log: pathlib.Path) -> Iterator[int | None]:
    """Locks a job by its log file, where nobody else has.

    Yields:
        The file to write the output to; None where somebody else works on the job.
    """
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        yield file if _lock(file, fcntl.LOCK_EX) else None
    finally:
        os.close(file)


def held(log: pathlib.Path) -> bool:
    """Whether somebody works on a job."""
    try:
        file = os.open(log, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _lock(file, fcntl.LOCK_SH)
    finally:
        os.close(file)


def _lock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # A file system, often one over the network, that locks nothing.
        pass
    return True


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
