"""Episodes in HDF5 files as D4RL has them (arXiv:2004.07219): one long array for each entry.

Row i holds ``observations[i]``, the action ``actions[i]`` chosen there, and what it led to:
``rewards[i]``, ``terminals[i]`` (the task ended), ``timeouts[i]`` (the recording of this episode
ended) and, in some files, ``next_observations[i]``. An episode ends with a row that either marks.

Where there are no ``next_observations``, nobody knows what the last action of an episode led to.
After a timeout, or at the end of the file, that transition is left out. Where the task ended it is
kept, since its reward and the end itself count, with the observation before it once more; whoever
reads the log is told.
"""

from __future__ import annotations

import contextlib
import pathlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from common.errors import UserError
from common.npz import EXPANSION, SMALL
from common.replay.logs.transitions import Transitions

_NEEDED = ("observations", "actions", "rewards", "terminals")
_ENDS = ("terminals", "timeouts")
_NEXT = "next_observations"


class D4RL:
    """The arrays of a file."""

    def __init__(self, path: pathlib.Path):
        """Opens a file and finds where its episodes end.

        Raises:
            UserError: h5py is not installed; or the file is none, lacks an array, has arrays of
                different lengths or none that marks an end.
        """
        self._path = path
        self._file = _open(path)
        with self._one_line():
            found = {name: self._find(name) for name in _NEEDED}
            for name in ("timeouts", _NEXT):
                if name in self._file:
                    found[name] = self._find(name)
            self._arrays, rows = found, len(found["rewards"])
            for name, value in _leaves(found):
                self._check(name, value, rows)
            shapes = (
                _shapes(found["observations"]),
                _shapes(found.get(_NEXT, found["observations"])),
            )
            if shapes[0] != shapes[1]:
                raise UserError(
                    f"{path}: 'observations' have the shape {shapes[0]} in a row, "
                    f"'next_observations' {shapes[1]}; expected the same"
                )
            marks = {name: found[name][:].ravel() for name in _ENDS if name in found}
        self._terminal = marks["terminals"] != 0
        ends = sum(mark != 0 for mark in marks.values()) > 0
        if not ends.any():
            raise UserError(
                f"{path}: {' and '.join(marks)} mark no end of an episode; expected 'timeouts' "
                "that mark where each one was cut"
            )
        self._ends = np.flatnonzero(ends)
        self._rows = rows

    @property
    def _limits(self) -> list[tuple[int, int, bool]]:
        """Begin, end and whether the end is marked, of every episode."""
        ends = [int(end) + 1 for end in self._ends]
        parts = [(begin, end, True) for begin, end in zip([0, *ends], ends, strict=False)]
        return parts + ([(ends[-1], self._rows, False)] if ends[-1] < self._rows else [])

    @property
    def amount(self) -> int:
        """Episodes, before those without a whole transition are left out."""
        return len(self._limits)

    def episodes(self) -> Iterator[tuple[str, Callable[[], Transitions]]]:
        """Yields the name of every episode and what reads it."""
        if _NEXT not in self._arrays and self._terminal.any():
            warnings.warn(
                f"{self._path} has no next_observations: where the task ended, the last "
                "observation of the episode stands twice",
                stacklevel=2,
            )
        for number, (begin, end, marked) in enumerate(self._limits):
            # Of a lone action without a result nothing is left.
            if _NEXT in self._arrays or end - begin > 1 or self._terminal[end - 1]:
                read = lambda parts=(begin, end, marked): self._read(*parts)  # noqa: E731
                yield f"episode {number} of {self._path}", read

    def _read(self, begin: int, end: int, marked: bool) -> Transitions:
        with self._one_line():
            part = {name: _slice(value, begin, end) for name, value in self._arrays.items()}
        terminal = bool(self._terminal[end - 1])
        seen, actions, rewards = part["observations"], part["actions"], part["rewards"].ravel()
        if _NEXT in part:
            seen = _joined(seen, part[_NEXT])
        elif terminal:
            seen = _joined(seen, seen)
        else:
            actions, rewards = _slice(actions, 0, -1), rewards[:-1]
        return Transitions(seen, actions, rewards, marked, terminal)

    def _find(self, name: str) -> Any:
        """An array of the file, or a nested dict of those of a group."""
        if name not in self._file:
            there = ", ".join(sorted(self._file)) or "nothing"
            hint = ""
            if any(key.startswith("episode_") for key in self._file):
                hint = "; a Minari dataset is named: minari:<name>"
            raise UserError(f"{self._path} has no {name!r}, but {there}{hint}")
        return _tree(self._file[name])

    def _check(self, name: str, value: Any, rows: int) -> None:
        if value.ndim == 0 or len(value) != rows:
            found = len(value) if value.ndim else "no"
            raise UserError(f"{self._path}: {name!r} has {found} rows, 'rewards' has {rows}")
        if value.dtype.kind not in "biuf":
            raise UserError(f"{self._path}: {name!r} holds {value.dtype}, expected numbers")
        size = value.size * value.dtype.itemsize
        if size > max(SMALL, EXPANSION * self._path.stat().st_size):
            raise UserError(f"{self._path}: {name!r} would become {size:,} bytes; store it plainly")

    @contextlib.contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError, KeyError) as error:
            words = " ".join(str(error).split())
            raise UserError(f"cannot read {self._path}: {words}") from error


def _open(path: pathlib.Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"h5py is not installed here ({error}); run pip install h5py") from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        words = " ".join(str(error).split())
        raise UserError(f"{path} is no HDF5 file, or damaged: {words}") from error


def _tree(found: Any) -> Any:
    """A group as a nested dict of its arrays."""
    return {key: _tree(found[key]) for key in found} if hasattr(found, "keys") else found


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}/")
        else:
            yield prefix + key, value


def _slice(tree: Any, begin: int, end: int) -> Any:
    if isinstance(tree, dict):
        return {key: _slice(value, begin, end) for key, value in tree.items()}
    return tree[begin:end]


def _shapes(tree: Any) -> Any:
    """The shape of one observation, by name where they are several."""
    if isinstance(tree, dict):
        return {key: _shapes(value) for key, value in tree.items()}
    return tree.shape[1:]


def _joined(seen: Any, following: Any) -> Any:
    """Observations of every row, and the last one of those that followed."""
    if isinstance(seen, dict):
        return {key: _joined(value, following[key]) for key, value in seen.items()}
    return np.concatenate([seen, following[-1:]])
