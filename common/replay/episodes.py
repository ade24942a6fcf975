"""Whole episodes as arrays: read from any folder in the episode format, and written to one.

A *collection* holds the episodes of several bodies, ``<data>/<task>/<policy>/*.npz``: the
name of the first folder is the task's, that of the second says who acted. Folders without
``.npz`` files are passed over, so that other things may lie beside them.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Iterator

import numpy as np

from common.errors import UserError
from common.replay.chunks import (
    FOREIGN,
    ChunkFile,
    bounded,
    check_chunk,
    list_chunks,
    read_chunk,
    write_chunk,
)
from common.rows import given

Episode = dict[str, np.ndarray]
"""One episode, or a part of one: arrays ``[T, ...]`` by the keys of a row, ``is_first`` in the
first row and nowhere else. See ``common.replay.chunks``."""

LEAST_ROWS = 2
"""An episode of fewer rows holds no step."""


def read_episodes(folder: str | pathlib.Path) -> list[Episode]:
    """Reads the episodes of a folder in the episode format, one stream after another.

    Where the oldest rows of a stream were dropped or a file is damaged, the remaining part
    of the episode is returned; its first row then becomes one of a reset: ``is_first``, with
    action and reward 0. Episodes of fewer than two rows are left out.

    Args:
        folder: Of ``.npz`` files; the ``replay`` folder of a run too.

    Raises:
        UserError: The folder does not exist or holds no ``.npz`` file, or two files of a
            stream disagree.
    """
    files = sorted(list_chunks(folder), key=lambda file: (file.stream, file.start, file))
    if not files:
        raise UserError(f"no episodes in {folder}; give a folder with .npz files")
    return [_begun(one) for one in _split(files) if len(one["is_first"]) >= LEAST_ROWS]


def write_episodes(folder: str | pathlib.Path, episodes: Iterable[Episode]) -> None:
    """Writes one file for each episode, ``0000.npz`` and so on, after those that are there.

    Args:
        folder: Where to; made where it is missing.
        episodes: Each is whole in memory; a file is complete or absent.

    Raises:
        UserError: The disk is full or the folder may not be written.
    """
    folder = pathlib.Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror}; choose another") from error
    numbers = [int(path.stem) for path in folder.glob("*.npz") if path.stem.isdecimal()]
    for number, episode in enumerate(episodes, max(numbers, default=-1) + 1):
        write_chunk(folder / f"{number:04d}.npz", episode)


def read_bodies(data: str | pathlib.Path) -> dict[str, list[Episode]]:
    """Reads a collection: the episodes of every task name, all policies together.

    Args:
        data: Its folder.

    Returns:
        Lists of episodes by task name, in alphabetical order of tasks and policies.

    Raises:
        UserError: The folder holds no such episodes, or two episodes of a task have
            different keys or shapes.
    """
    bodies: dict[str, list[Episode]] = {}
    for folder in sorted({path.parent for path in pathlib.Path(data).glob("*/*/*.npz")}):
        found = read_episodes(folder)
        bodies[folder.parent.name] = bodies.get(folder.parent.name, []) + found
    if not bodies:
        hint = "give a folder that holds <task>/<policy>/*.npz"
        raise UserError(f"no collection of episodes in {data}; {hint}")
    for task, episodes in bodies.items():
        _check_same(task, episodes)
    return bodies


def _check_same(task: str, episodes: list[Episode]) -> None:
    shapes = [{key: value.shape[1:] for key, value in episode.items()} for episode in episodes]
    for other in shapes[1:]:
        for key in sorted(shapes[0].keys() | other.keys()):
            first, second = shapes[0].get(key, "none"), other.get(key, "none")
            if first != second:
                raise UserError(
                    f"episodes of {task} differ: {key!r} is {first} in one and {second} in "
                    "another; collect them with the same environment options"
                )


def _begun(episode: Episode) -> Episode:
    if not episode["is_first"][0]:
        for key in ("action", "reward"):
            episode[key][0] = 0
        episode["is_first"][0] = True
    return episode


def _split(files: list[ChunkFile]) -> Iterator[Episode]:
    parts: list[Episode] = []
    position = (FOREIGN, 0)
    for file in files:
        arrays = read_chunk(file.path)
        if arrays is None:
            continue
        arrays = bounded(file, given(arrays))
        if parts:
            specs = {key: (value.shape[1:], value.dtype) for key, value in parts[0].items()}
            check_chunk(file.path, arrays, specs)
        joined = file.stream != FOREIGN and position == (file.stream, file.start)
        if parts and not joined:
            yield _join(parts)
            parts = []
        rows = len(arrays["is_first"])
        starts = [int(row) for row in np.flatnonzero(arrays["is_first"])]
        for begin, end in zip([0, *starts], [*starts, rows], strict=True):
            if parts and arrays["is_first"][begin]:
                yield _join(parts)
                parts = []
            if end > begin:
                parts.append({key: value[begin:end] for key, value in arrays.items()})
        position = (file.stream, file.start + rows)
    if parts:
        yield _join(parts)


def _join(parts: list[Episode]) -> Episode:
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
