"""JSON lines: the record of a run that everything else can be rebuilt from.

Every line is one object ``{clock: int, name: number, ...}``; the clock of a run is "frames",
or "updates" where it learned from episodes that were there already. JSON has no word for a
value that is not finite: NaN and the infinities are written as ``null``, and read back
as NaN.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
from collections.abc import Iterator, Mapping

import numpy as np


class JsonlFile:
    """A file of JSON lines that grows; a half line left by a kill is cut off first."""

    def __init__(self, path: pathlib.Path, clock: str = "frames") -> None:
        self._clock = clock
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        _cut_half_line(path)
        self._file = path.open("a", encoding="utf-8")

    def write(self, now: int, scalars: Mapping[str, float]) -> None:
        """Appends one line, with values as numbers or null."""
        record: dict[str, float | int | None] = {self._clock: int(now)}
        for name, value in scalars.items():
            number = float(value)
            record[name] = number if math.isfinite(number) else None
        self._file.write(json.dumps(record, allow_nan=False) + "\n")

    def rewind(self, now: int) -> None:
        """Drops the lines after ``now``: a resumed run writes them again."""
        self._file.close()
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        with self._path.open(encoding="utf-8") as source, temporary.open("w") as target:
            target.writelines(line for line in source if _time(line, self._clock) <= now)
        os.replace(temporary, self._path)
        self._file = self._path.open("a", encoding="utf-8")

    def flush(self) -> None:
        """Hands the lines to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Writes what is left and closes the file."""
        self._file.close()


class JsonlSink:
    """Writes scalars as lines of a file; videos have their own files."""

    def __init__(self, path: pathlib.Path, clock: str = "frames") -> None:
        self._file = JsonlFile(pathlib.Path(path), clock)

    def scalars(self, frames: int, scalars: Mapping[str, float]) -> None:
        """Appends one line and hands it over, so that a killed run keeps it."""
        self._file.write(frames, scalars)
        self._file.flush()

    def video(self, frames: int, name: str, video: np.ndarray) -> None:
        """Writes nothing."""

    def rewind(self, frames: int) -> None:
        """Drops the lines after ``frames``."""
        self._file.rewind(frames)

    def flush(self) -> None:
        """Hands the lines to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_jsonl(path: pathlib.Path, clock: str = "frames") -> Iterator[dict[str, float]]:
    """Yields the lines of a file as dicts, null as NaN.

    Lines cut short are left out, and those of another clock.
    """
    with pathlib.Path(path).open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and clock in record:
                yield {k: math.nan if v is None else v for k, v in record.items()}


def _time(line: str, clock: str) -> float:
    try:
        return json.loads(line)[clock]
    except (ValueError, KeyError, TypeError):
        return math.inf


def _cut_half_line(path: pathlib.Path) -> None:
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        complete = content.rfind(b"\n") + 1
        if complete != len(content):
            file.truncate(complete)
