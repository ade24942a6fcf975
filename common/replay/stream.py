"""The rows of one environment: chunks that follow one another without a gap."""

from __future__ import annotations

import bisect
from collections.abc import Mapping

import numpy as np

from common.replay.chunks import ChunkFile
from common.rows import Specs

Piece = tuple[Mapping[str, np.ndarray], int, int]
"""Arrays of one chunk and the half-open range of rows in it."""


class Chunk:
    """A block of consecutive rows that is filled once and never changed after.

    Attributes:
        file: Its place on disk (also its identity when nothing is written).
        arrays: One array ``[capacity, ...]`` per key.
        size: Rows filled.
        saved: Rows that the file on disk holds; 0 where it holds others than these.
    """

    __slots__ = ("arrays", "file", "saved", "size")

    def __init__(self, file: ChunkFile, arrays: dict[str, np.ndarray], size: int) -> None:
        self.file = file
        self.arrays = arrays
        self.size = size
        self.saved = 0

    @staticmethod
    def empty(file: ChunkFile, specs: Specs, capacity: int) -> Chunk:
        """Returns a chunk with room for ``capacity`` rows."""
        arrays = {key: np.empty((capacity, *shape), dtype) for key, (shape, dtype) in specs.items()}
        return Chunk(file, arrays, 0)

    @property
    def capacity(self) -> int:
        """Rows that fit."""
        return len(self.arrays["is_first"])

    @property
    def end(self) -> int:
        """Stream row after the last one filled."""
        return self.file.start + self.size

    @property
    def rows(self) -> dict[str, np.ndarray]:
        """The filled part of every array."""
        return {key: value[: self.size] for key, value in self.arrays.items()}

    def grow(self, capacity: int) -> None:
        """Moves the rows into arrays with more room."""
        old = self.rows
        for key, value in old.items():
            self.arrays[key] = np.empty((capacity, *value.shape[1:]), value.dtype)
            self.arrays[key][: self.size] = value


class Stream:
    """Chunks without a gap between them, with the episodes that they hold.

    Rows carry numbers that grow for ever: dropping old rows moves ``begin``.

    Attributes:
        chunks: From the oldest to the newest.
        episodes: First row of every episode, ascending. The first entry is ``begin``,
            also where the head of its episode was dropped.
    """

    __slots__ = ("_starts", "chunks", "episodes")

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.episodes: list[int] = []
        self._starts: list[int] = []

    @property
    def begin(self) -> int:
        """Number of the oldest row."""
        return self.chunks[0].file.start if self.chunks else 0

    @property
    def end(self) -> int:
        """Number after the newest row."""
        return self.chunks[-1].end if self.chunks else 0

    def __len__(self) -> int:
        return self.end - self.begin

    @property
    def running(self) -> int:
        """Rows of the newest episode where it has not ended; 0 where it has."""
        newest = self.chunks[-1] if self.chunks else None
        if newest is None or not newest.size or newest.arrays["is_last"][newest.size - 1]:
            return 0
        return self.end - self.episodes[-1]

    def windows(self, length: int) -> int:
        """Number of windows of ``length`` rows."""
        return max(0, len(self) - length + 1)

    def episode(self, index: int) -> tuple[int, int]:
        """Returns the half-open range of row numbers of an episode."""
        bounds = self.episodes[index : index + 2]
        return bounds[0], bounds[1] if len(bounds) == 2 else self.end

    def append(self, chunk: Chunk) -> None:
        """Adds a chunk that starts at ``end``; its filled rows are indexed."""
        self.chunks.append(chunk)
        self._starts.append(chunk.file.start)
        if chunk.size:
            first_rows = chunk.rows["is_first"].copy()
            first_rows[0] |= not self.episodes
            self.episodes.extend((chunk.file.start + np.flatnonzero(first_rows)).tolist())

    def mark(self, row: int, is_first: bool) -> None:
        """Notes that the newest row was filled."""
        if is_first or not self.episodes:
            self.episodes.append(row)

    def drop_oldest(self) -> Chunk:
        """Removes and returns the oldest chunk; an episode may lose its head."""
        chunk = self.chunks.pop(0)
        self._starts.pop(0)
        if not self.chunks:
            self.episodes.clear()
            return chunk
        current = bisect.bisect_right(self.episodes, self.begin) - 1
        del self.episodes[:current]
        self.episodes[0] = max(self.episodes[0], self.begin)
        return chunk

    def truncate(self, end: int) -> list[Chunk]:
        """Forgets all rows from number ``end`` on; returns the chunks that went empty."""
        removed = []
        while self.chunks and self.chunks[-1].file.start >= end:
            removed.append(self.chunks.pop())
            self._starts.pop()
        if self.chunks and self.end > end:
            newest = self.chunks[-1]
            newest.size = end - newest.file.start
            newest.saved = newest.saved if newest.saved <= newest.size else 0
        del self.episodes[bisect.bisect_left(self.episodes, self.end) :]
        return removed

    def window(self, row: int, length: int) -> list[Piece]:
        """Returns where the rows ``row .. row + length`` lie, chunk by chunk."""
        pieces: list[Piece] = []
        index = bisect.bisect_right(self._starts, row) - 1
        while length:
            chunk = self.chunks[index]
            low = row - chunk.file.start
            high = min(low + length, chunk.size)
            pieces.append((chunk.arrays, low, high))
            row, length, index = row + high - low, length - (high - low), index + 1
        return pieces
