"""What was tried: a search's question and its trials, from which a killed search goes on."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any, Literal

from benchmarks.lines import append_line
from benchmarks.tune.space import Dimension
from common.errors import UserError
from common.files import cannot_write, replacing
from common.run import folder as run_folder

QUESTION, TRIALS = "search.json", "trials.jsonl"
REDUCTION = 3
"""Of so many trials that come to a rung one goes on."""
State = Literal["running", "done", "stopped", "failed"]


@dataclasses.dataclass(frozen=True)
class Question:
    """What is searched; a folder holds the answer to one question.

    Attributes:
        agent: "dreamer" or "planet".
        configs: Presets of every trial.
        task: The task.
        seed: Seed of every run.
        options: Further words of every train command.
        space: What is searched over.
        frames: Length of a run that is not stopped.
        grace: Frames before which none is stopped.
    """

    agent: str
    configs: tuple[str, ...]
    task: str
    seed: int
    options: tuple[str, ...]
    space: tuple[Dimension, ...]
    frames: int
    grace: int


@dataclasses.dataclass
class Trial:
    """One run.

    Attributes:
        number: From 0 on; the name of its folder.
        values: Value of every option that is searched over.
        state: "running" (or waiting to go on), "done", "stopped" early, or "failed".
        frames: Those of its newest evaluation, or at which it was stopped.
        area: Area under its evaluations up to there, over its width; NaN before any.
        score: Its newest evaluation's mean return; NaN before any.
        fault: Why it failed.
    """

    number: int
    values: dict[str, Any]
    state: State = "running"
    frames: int = 0
    area: float = math.nan
    score: float = math.nan
    fault: str = ""


def ranked(trials: Mapping[int, Trial]) -> list[Trial]:
    """Returns the trials with an area, best first.

    Those that went to the end come first, by area; then those that went farther. Areas up to
    different frames do not compare.
    """
    known = [one for one in trials.values() if math.isfinite(one.area) and one.state != "failed"]
    return sorted(known, key=lambda one: (one.state != "done", -one.frames, -one.area))


class Record:
    """The files of a search.

    Attributes:
        logdir: Folder of the search.
        trials: What is known of each, by number.
    """

    def __init__(self, logdir: pathlib.Path, question: Question):
        """Reads what is there, or makes the folder; a half line that a kill has left is cut off.

        Raises:
            UserError: The folder holds another search or something else, cannot be written, or
                another process searches in it.
        """
        self.logdir, self.trials = logdir, {}
        asked = json.loads(json.dumps(dataclasses.asdict(question)))
        path = logdir / QUESTION
        self._lock = run_folder.Lock(logdir)
        if logdir.exists() and not logdir.is_dir():
            raise UserError(f"--logdir {logdir} is a file; choose a folder")
        if logdir.is_dir() and not path.exists() and any(logdir.iterdir()):
            raise UserError(f"{logdir} holds something else; choose another --logdir")
        known = _read_question(path) if path.exists() else None
        if known is not None and known != asked:
            name = next(name for name in asked if known.get(name) != asked[name])
            raise UserError(
                f"{logdir} holds a search with {name} {_short(known.get(name))}, not "
                f"{_short(asked[name])}; repeat its options, or choose another --logdir"
            )
        run_folder.make(logdir / "trials")
        self._lock.acquire()
        if known is None:
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(asked, indent=1) + "\n")
        self._path = logdir / TRIALS
        self._open(question)

    def folder(self, number: int) -> pathlib.Path:
        """Returns the run folder of a trial."""
        return self.logdir / "trials" / f"{number:03d}"

    def begin(self, number: int, values: Mapping[str, Any]) -> None:
        """Keeps what a new trial tries."""
        self._write({"trial": number, "values": dict(values)})

    def end(self, trial: Trial) -> None:
        """Keeps how a trial ended."""
        line = dataclasses.asdict(trial)
        for name in ("area", "score"):
            line[name] = None if math.isnan(line[name]) else line[name]
        self._write({"trial": line.pop("number"), **line})

    def close(self) -> None:
        """Closes the file, and lets others search in the folder."""
        self._file.close()
        self._lock.release()

    def _open(self, question: Question) -> None:
        try:
            content = self._path.read_bytes() if self._path.exists() else b""
            content = content[: content.rfind(b"\n") + 1]
            for line in content.splitlines():
                self._take(json.loads(line))
            names = {one.path for one in question.space}
            for number, trial in self.trials.items():
                if not names == set(trial.values) or number not in range(len(self.trials)):
                    raise ValueError(number)
            self._file = self._path.open("r+b" if content else "wb")
            self._file.truncate(len(content))
            self._file.seek(len(content))
        except OSError as error:
            raise cannot_write(self._path, error) from error
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise UserError(f"{self._path} is damaged; choose another --logdir") from error

    def _take(self, line: Mapping[str, Any]) -> None:
        values = dict(line)
        for name in ("area", "score"):
            values[name] = math.nan if values.get(name) is None else float(values[name])
        one = Trial(int(values.pop("trial")), dict(values.pop("values")), **values)
        self.trials[one.number] = one

    def _write(self, line: Mapping[str, Any]) -> None:
        append_line(self._file, self._path, line)
        self._take(line)


def _read_question(path: pathlib.Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    except (OSError, RecursionError, ValueError):
        pass
    raise UserError(f"{path} is damaged; choose another --logdir")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
