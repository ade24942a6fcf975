"""The runs in some folders, read anew where their files have changed.

Nothing is written and nothing is executed. A file that leads out of the folder that was given,
by a link, is not read.
"""

from __future__ import annotations

import glob
import hashlib
import os
import pathlib
import stat
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from common.errors import UserError, nearest
from common.report.data import RunData
from common.report.read import read_run
from common.run.folder import CONFIG, METRICS, SCORES, VERSIONS, VIDEOS

MOST_RUNS = 60
"""Runs that are shown at once."""
DEEPEST = 4
"""Folders below a given one in which runs are looked for."""
_FILES = (CONFIG, METRICS, SCORES, VERSIONS)
_Signature = tuple[tuple[str, int, int, int], ...]


class Watched(NamedTuple):
    """A run as it was read last.

    Attributes:
        key: Its name in addresses.
        run: What its folder holds.
        written: When a file of it was written last, in seconds since 1970.
        remarks: What was left out.
    """

    key: str
    run: RunData
    written: float
    remarks: tuple[str, ...]


class Runs:
    """What lies in some folders."""

    def __init__(self, given: Sequence[str]):
        """Takes folders of runs, folders of such folders, or patterns like "runs/*".

        Raises:
            UserError: One of them does not exist.
        """
        self._given = [os.path.expanduser(word) for word in given]
        self._known: dict[pathlib.Path, tuple[_Signature, Watched]] = {}
        for word in self._given:
            fixed = _fixed_part(word)
            if not fixed.is_dir():
                near = [str(path) for path in fixed.parent.glob("*/")]
                hint = nearest(str(fixed), near) if near else ""
                what = "is a file, not a folder" if fixed.exists() else "does not exist"
                raise UserError(f"--logdir {word}: {fixed} {what}{hint}")

    def read(self) -> tuple[list[Watched], list[str]]:
        """Returns the runs that are there now, and remarks on what is not shown."""
        found, remarks = [], []
        for number, folder in enumerate(self._folders()):
            if number == MOST_RUNS:
                remarks.append(f"only {MOST_RUNS} runs are shown; name fewer folders")
                break
            try:
                found.append(self._read(folder))
            except (UserError, OSError) as error:  # It is just being made, or removed.
                remarks.append(f"{folder}: {error}")
        if not found:
            remarks.append(f"there is no run yet in {', '.join(self._given)}")
        present = {one.run.logdir for one in found}
        self._known = {path: one for path, one in self._known.items() if path in present}
        return found, remarks

    def _folders(self) -> Iterator[pathlib.Path]:
        """Folders of runs, each once, none outside of what was given."""
        seen = set()
        for word in self._given:
            named = sorted(glob.glob(word)) if glob.has_magic(word) else [word]
            for root in (pathlib.Path(name).resolve() for name in named):
                for folder in _runs_below(root, root, DEEPEST):
                    if folder not in seen:
                        seen.add(folder)
                        yield folder

    def _read(self, folder: pathlib.Path) -> Watched:
        signature = _signature(folder)
        known = self._known.get(folder)
        if known and known[0] == signature:
            return known[1]
        leading_out = [name for name, *_ in signature if not _inside(folder / name, folder)]
        if leading_out:
            raise UserError(f"{', '.join(leading_out)} leads out of the folder; it is not shown")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run = read_run(folder)
        newest = max((time for _, time, *_ in signature), default=0) / 1e9
        remarks = tuple(str(one.message) for one in caught)
        key = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
        watched = Watched(key, run, newest, remarks)
        self._known[folder] = (signature, watched)
        return watched


def open_video(run: RunData, name: str) -> int | None:
    """Opens a video of a run, without following a link out of its folder.

    Returns:
        A file descriptor, which the caller closes; None where there is no such file.
    """
    if name not in run.videos:
        return None
    path = run.videos[name][1]
    if not _inside(path, run.logdir):
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return descriptor


def _fixed_part(word: str) -> pathlib.Path:
    """Returns the folder that a pattern begins with; the word itself where it is none."""
    path = pathlib.Path(word)
    while glob.has_magic(str(path)) and not path.is_dir():
        path = path.parent
    return path


def _runs_below(folder: pathlib.Path, root: pathlib.Path, deep: int) -> Iterator[pathlib.Path]:
    """Yields the folder where it is a run's, else the runs' folders in it."""
    if any((folder / name).is_file() for name in (CONFIG, METRICS, SCORES)):
        yield folder
        return
    if not deep:
        return
    try:
        inside = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir())
    except OSError:  # It has vanished, or may not be read.
        return
    for path in map(pathlib.Path, inside):
        if not path.name.startswith(".") and _inside(path, root):
            yield from _runs_below(path.resolve(), root, deep - 1)


def _inside(path: pathlib.Path, root: pathlib.Path) -> bool:
    """Whether a path lies in a folder, its links followed."""
    try:
        return path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # Links in a circle.
        return False


def _signature(folder: pathlib.Path) -> _Signature:
    """Returns what tells of the files that are shown whether they are still the same."""
    names = [name for name in _FILES if (folder / name).is_file()]
    videos = folder / VIDEOS
    if videos.is_dir():
        names += [VIDEOS, *(f"{VIDEOS}/{name}" for name in sorted(os.listdir(videos)))]
    found = []
    for name in names:
        try:
            status = (folder / name).stat()
        except OSError:  # It is gone meanwhile.
            continue
        found.append((name, status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(found)
