"""What agents make of rows, beside the files of chunks that are full.

A full chunk is written once; the latent states and notes of its rows go on changing, by updates
that infer them anew and by the policy, which answers to the last row when the chunk is on disk. So
they are written again with each checkpoint, where they changed: alone, as the pictures beside them
never do, in ``<name of the chunk>.latents``, a file in the same format. It is all or nothing, and
only files that agree with their chunk are read.
"""

from __future__ import annotations

import pathlib
import warnings
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from common.npz import read_npz
from common.replay.chunks import FOREIGN, ChunkFile, write_chunk
from common.replay.sampling import Windows
from common.replay.stream import Chunk

SUFFIX = ".latents"
"""Ends the files' names, in the place of ``.npz``."""


class Beside:
    """Knows which chunks have entries by an agent that their files lack."""

    def __init__(self, names: Iterable[str]):
        """Begins with none.

        Args:
            names: Of the entries that an agent makes.
        """
        self._names = tuple(names)
        self._touched: set[int] = set()

    def touch(self, chunk: Chunk) -> None:
        """Notes that entries of a chunk changed."""
        self._touched.add(id(chunk.arrays))

    def touch_windows(self, windows: Windows) -> None:
        """Notes that entries of all rows of windows changed."""
        for pieces in windows.pieces:
            self._touched.update(id(arrays) for arrays, _, _ in pieces)

    def written(self, chunk: Chunk) -> None:
        """Notes that what is on disk is what the chunk holds, or that it is dropped."""
        self._touched.discard(id(chunk.arrays))

    def write(self, chunks: Iterable[Chunk]) -> int:
        """Writes the entries of those chunks whose files lack some; returns how many these are.

        Raises:
            common.files.WriteError: The disk is full, or the folder may not be written.
        """
        touched = [chunk for chunk in chunks if id(chunk.arrays) in self._touched]
        for chunk in touched:
            rows = chunk.rows
            write_chunk(beside(chunk.file.path), {name: rows[name] for name in self._names})
            self.written(chunk)
        return len(touched)

    def put(
        self, loaded: Sequence[tuple[ChunkFile, dict[str, np.ndarray]]]
    ) -> Sequence[tuple[ChunkFile, dict[str, np.ndarray]]]:
        """Puts what lies beside chunks' files into what the files hold, and returns them.

        Args:
            loaded: The files, and what they hold.
        """
        for file, arrays in loaded:
            path = beside(file.path)
            if not self._names or file.stream == FOREIGN or not path.exists():
                continue
            try:
                newer = read_npz(path)
                _check(newer, {name: arrays[name] for name in self._names})
            except ValueError as error:
                warnings.warn(
                    f"{path} is damaged ({error}) and is left out; the latent states of "
                    f"{file.path.name} are those of when it was written",
                    stacklevel=2,
                )
            else:
                arrays.update(newer)
        return loaded


def beside(path: pathlib.Path) -> pathlib.Path:
    """Returns where the newer entries of a chunk's file lie."""
    return path.with_suffix(SUFFIX)


def remove(path: pathlib.Path) -> None:
    """Deletes a chunk's file and what lies beside it, that first: it is of no other rows."""
    beside(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def remove_leftovers(directory: pathlib.Path) -> None:
    """Deletes the unfinished files of a run that was killed, chunks and what lies beside them."""
    for suffix in (".npz", SUFFIX):
        for path in directory.glob(f".*{suffix}.tmp"):
            path.unlink(missing_ok=True)


def _check(found: Mapping[str, np.ndarray], known: Mapping[str, np.ndarray]) -> None:
    of = lambda arrays: {name: (x.shape, x.dtype) for name, x in arrays.items()}  # noqa: E731
    if of(found) != of(known):
        raise ValueError("its arrays are not those of the rows")
