"""Every episode of a selection as a line of a file, so that a killed command goes on."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np

from benchmarks.lines import append_line
from common.errors import UserError
from common.files import cannot_write

EPISODES = "episodes.jsonl"


class Record:
    """The file of a selection: the question, what is known without an episode, and episodes.

    Attributes:
        known: Distances and values, as ``know`` took them; None where nobody has said them yet.
        arms: Candidates of the episodes that choose.
        returns: Their returns.
        verified: Returns of the episodes that verify, by candidate.
    """

    def __init__(self, folder: pathlib.Path, question: Mapping[str, Any]):
        """Reads what is there; a half line that a kill has left is cut off.

        Args:
            folder: Where it lies.
            question: What is asked. A file holds the answer to one question.

        Raises:
            UserError: The file belongs to another question, or is damaged, or cannot be written.
        """
        self._path, self._question = folder / EPISODES, question
        self.known: dict[str, Any] | None = None
        self.arms: list[int] = []
        self.returns: list[float] = []
        self.verified: list[list[float]] = [[] for _ in question["candidates"]]
        try:
            content = self._path.read_bytes() if self._path.exists() else b""
            content = content[: content.rfind(b"\n") + 1]
            self._read(content.splitlines(), question)
            self._file = self._path.open("r+b" if content else "wb")
            self._file.truncate(len(content))
            self._file.seek(len(content))
        except OSError as error:
            raise cannot_write(self._path, error) from error
        except (KeyError, IndexError, TypeError, json.JSONDecodeError) as error:
            remedy = "delete it, or choose another --out"
            raise UserError(f"{self._path} is damaged; {remedy}") from error

    @property
    def distances(self) -> np.ndarray:
        """Distances of the candidates ``[K, K]``."""
        return np.array(self.known["distances"])

    @property
    def values(self) -> np.ndarray | None:
        """What each candidate is expected to return ``[K]``; None where nobody says."""
        values = self.known["values"]
        return None if values is None else np.array(values)

    def know(self, known: Mapping[str, Any]) -> None:
        """Keeps what is known without an episode: "distances" and "values"."""
        self._write({"question": self._question, "known": known})

    def add(self, arm: int, value: float) -> None:
        """Keeps an episode that chooses."""
        self._write({"arm": arm, "return": value})

    def verify(self, arm: int, returns: Sequence[float]) -> None:
        """Keeps episodes that verify."""
        self._write({"arm": arm, "verified": list(returns)})

    def summary(self) -> dict[str, Any]:
        """Returns all of it, for a file that people read."""
        return {
            "distances": np.round(self.distances, 4).tolist(),
            "values": None if self.values is None else np.round(self.values, 2).tolist(),
            "arms": self.arms,
            "returns": np.round(self.returns, 3).tolist(),
            "verified": [np.round(one, 3).tolist() for one in self.verified],
        }

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the file."""
        self._file.close()

    def _read(self, lines: Sequence[bytes], question: Mapping[str, Any]) -> None:
        for number, line in enumerate(map(json.loads, lines)):
            if not number:
                self._check(line["question"], question)
            self._take(line)

    def _take(self, line: Mapping[str, Any]) -> None:
        if "known" in line:
            self.known = dict(line["known"])
        elif "verified" in line:
            self.verified[line["arm"]] += line["verified"]
        elif "return" in line:
            self.arms.append(line["arm"])
            self.returns.append(line["return"])

    def _write(self, line: Mapping[str, Any]) -> None:
        append_line(self._file, self._path, line)
        self._take(line)

    def _check(self, asked: Mapping[str, Any], question: Mapping[str, Any]) -> None:
        for name, value in question.items():
            if asked[name] == value:
                continue
            what = f"other {name.replace('_', '-')}"
            if name == "candidates" and [x for x, _ in asked[name]] == [x for x, _ in value]:
                changed = [b[0] for a, b in zip(asked[name], value, strict=True) if a != b]
                what = f"another {changed[0]}, which has learned since"
            raise UserError(f"{self._path} was begun with {what}; choose another --out")
