"""JSON lines: the record of a run that everything else can be rebuilt from.

Every line is one object ``{clock: int, name: number, ...}``; the clock of a run is "frames",
or "updates" where it learned from episodes that were there already. JSON has no word for a
value that is not finite: NaN and the infinities are written as ``null``, and read back
as NaN.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import pathlib
import warnings
from collections.abc import Iterator, Mapping

import numpy as np

from common.files import cannot_write, replacing


class JsonlFile:
    """A file of JSON lines that grows; a half line left by a kill is cut off first.

    Every line is handed to the operating system at once, so that a killed run keeps it.
    """

    def __init__(self, path: pathlib.Path, clock: str = "frames") -> None:
        """Opens the file.

        Raises:
            common.files.WriteError: It cannot be opened or made.
        """
        self._path, self._clock = path, clock
        self._file = self._opened()

    def write(self, now: int, scalars: Mapping[str, float]) -> None:
        """Appends one line, with values as numbers or null.

        Raises:
            common.files.WriteError: It could not be written; no half of it stays.
        """
        record: dict[str, float | int | None] = {self._clock: int(now)}
        for name, value in scalars.items():
            number = float(value)
            record[name] = number if math.isfinite(number) else None
        line = memoryview(json.dumps(record, allow_nan=False).encode() + b"\n")
        end = self._file.seek(0, os.SEEK_END)
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(end)
            raise cannot_write(self._path, error) from error

    def rewind(self, now: int) -> None:
        """Drops the lines after ``now``: a resumed run writes them again.

        Damaged lines are dropped too, after one warning that counts them.

        Raises:
            common.files.WriteError: The shorter file could not be written; the old one stays.
        """
        damaged = 0
        with replacing(self._path) as temporary:
            with self._path.open("rb") as source, temporary.open("wb") as target:
                for line in source:
                    record = _record(line, self._clock)
                    damaged += not record
                    if record and record[self._clock] <= now:
                        target.write(line)
        self._file.close()
        self._file = self._opened()
        _warn(self._path, damaged)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _opened(self) -> io.FileIO:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _end_last_line(self._path, self._clock)
            return self._path.open("ab", buffering=0)
        except OSError as error:
            raise cannot_write(self._path, error) from error


class JsonlSink:
    """Writes scalars as lines of a file; videos have their own files."""

    def __init__(self, path: pathlib.Path, clock: str = "frames") -> None:
        self._file = JsonlFile(pathlib.Path(path), clock)

    def scalars(self, frames: int, scalars: Mapping[str, float]) -> None:
        """Appends one line."""
        self._file.write(frames, scalars)

    def video(self, frames: int, name: str, video: np.ndarray) -> None:
        """Writes nothing."""

    def rewind(self, frames: int) -> None:
        """Drops the lines after ``frames``."""
        self._file.rewind(frames)

    def flush(self) -> None:
        """Does nothing: every line is handed over at once."""

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_jsonl(path: pathlib.Path, clock: str = "frames") -> Iterator[dict[str, float]]:
    """Yields the lines of a file as dicts, null as NaN.

    Lines of another clock are left out. So are damaged ones, after one warning that counts
    them, and the last one where it is half written.
    """
    damaged = 0
    for record in scan_jsonl(path, clock):
        damaged += record is None
        if record:
            yield record
    _warn(path, damaged)


def scan_jsonl(path: pathlib.Path, clock: str = "frames") -> Iterator[dict[str, float] | None]:
    """Yields ``read_jsonl``'s dicts, {} for a line of another clock, None for a damaged one."""
    with pathlib.Path(path).open("rb") as file:
        for line in file:
            record = _record(line, clock)
            if record is not None or line.endswith(b"\n"):
                yield record


def _record(line: bytes, clock: str) -> dict[str, float] | None:
    """Returns what a line holds, null as NaN; {} of another clock, None of a damaged one."""
    try:
        record = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    values = {name: math.nan if value is None else value for name, value in record.items()}
    if not all(map(_is_number, values.values())):
        return None
    if clock not in values:
        return {}
    return values if math.isfinite(values[clock]) else None


def _is_number(value: object) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**63)


def _warn(path: pathlib.Path, damaged: int) -> None:
    if damaged:
        lines = f"{damaged} damaged line{'s' if damaged > 1 else ''}"
        warnings.warn(f"{lines} of {path} left out; the others are used", stacklevel=3)


def _end_last_line(path: pathlib.Path, clock: str) -> None:
    """Cuts the last line off where it is half written; ends it where only its end is missing."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        complete = content.rfind(b"\n") + 1
        if complete == len(content):
            return
        if _record(content[complete:], clock) is None:
            file.truncate(complete)
        else:
            file.write(b"\n")
