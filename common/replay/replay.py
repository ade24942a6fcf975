"""The replay: rows of several environments in, windows of rows out."""

from __future__ import annotations

import itertools
import pathlib
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from common.errors import UserError
from common.files import cannot_write, keep_on_disk, make_folder
from common.replay.beside import Beside, beside, remove, remove_leftovers
from common.replay.chunks import (
    FOREIGN,
    ChunkFile,
    list_chunks,
    read_chunk,
    read_newest,
    write_chunk,
)
from common.replay.config import ReplayConfig
from common.replay.foreign import check_episodes
from common.replay.fresh import Fresh
from common.replay.memory import estimate, row_bytes
from common.replay.sampling import Windows, draw, gather, look_up, write_back
from common.replay.share import WHOLE, Share
from common.replay.stream import Chunk, Stream
from common.rows import Specs, given, without_latents
from common.spaces import ActionSpec

CHUNK_ROWS = 1024
"""Rows in a full chunk of a large replay."""

_MIN_CHUNKS = 8
"""Chunks that each environment can fill before the first is dropped."""


class Replay:
    """First-in first-out memory over the endless row streams of ``N`` environments.

    A window is ``length`` consecutive rows of one stream. It may cross episodes, whose
    first rows have ``is_first``, so episodes shorter than a window are used and never
    dropped; unfinished episodes are used too. No window crosses from one stream to
    another, nor over rows that were dropped.

    Rows are stored once, in chunks; when the limit is reached the oldest chunk is dropped,
    in memory and on disk. With a directory, full chunks are written as they fill up (see
    ``common.replay.chunks`` for the format) and a new replay takes up where the files end.
    ``add`` and ``sample`` may be called from different threads.
    """

    def __init__(
        self,
        config: ReplayConfig,
        directory: pathlib.Path | None,
        specs: Specs,
        num_envs: int,
        seed: int,
        share: Share = WHOLE,
    ) -> None:
        """Creates a replay and loads the newest rows of ``directory`` that fit.

        Args:
            config: Limits and sampling rule.
            directory: Folder of the chunk files, made if missing; None keeps all in memory.
            specs: ``{key: (shape, dtype)}`` of one row, with ``action``, ``reward`` and the
                three flags; and of latent states and notes, where the replay keeps them.
            num_envs: N, the environments that ``add`` gets rows of.
            seed: Seed of the sampler.
            share: Of several processes, which part of the environments these are; all of them use
                one folder.

        Raises:
            UserError: Limits too small for one window, files of another task.
        """
        self._share, self._numbers = share, share.streams(num_envs)
        self._config = config = share.limits(config)
        self._specs = {k: (tuple(shape), np.dtype(dtype)) for k, (shape, dtype) in specs.items()}
        self._given, self._seen = given(self._specs), without_latents(self._specs)
        self._latents = {key: x for key, x in self._specs.items() if key not in self._seen}
        self._beside = Beside(key for key in self._specs if key not in self._given)
        self._num_envs = num_envs
        self._fresh = Fresh(config.rows, config.length + config.latents, num_envs)
        self._rng = np.random.default_rng([seed, share.index] if share.index else seed)
        self._lock = threading.Lock()
        self._row_bytes = row_bytes(self._specs)
        self._limit = self._checked_limit()
        self._chunk_rows = min(CHUNK_ROWS, self._limit // (_MIN_CHUNKS * num_envs))
        self._live = [Stream() for _ in range(num_envs)]
        self._streams: list[Stream] = list(self._live)
        self._order: deque[tuple[Stream, Chunk]] = deque()
        self._allocated = 0
        self._serial = itertools.count()
        self._directory = None if directory is None else pathlib.Path(directory)
        if self._directory is not None:
            make_folder(self._directory)
            self._load(self._directory)

    def __len__(self) -> int:
        """Rows in memory."""
        return sum(len(stream) for stream in self._streams)

    @property
    def episodes(self) -> int:
        """Episodes in memory, with unfinished ones and those whose head was dropped."""
        return sum(len(stream.episodes) for stream in self._streams)

    def memory_estimate(self) -> str:
        """Returns one line for the start of a run: bytes a row, rows that fit, GiB when full."""
        bound = "memory" if self._limit < self._config.capacity else "capacity"
        return estimate(self._row_bytes, self._limit, f"replay.{bound}")

    def can_sample(self, length: int) -> bool:
        """Whether it holds a window of ``length`` rows, and as many windows as it should."""
        rows = length + bool(self._latents)
        windows = sum(stream.windows(rows) for stream in self._streams)
        return windows >= max(1, self._config.minimum)

    def add(self, rows: Mapping[str, np.ndarray]) -> None:
        """Appends one row ``[N, ...]`` per environment.

        Raises:
            ValueError: Keys, shapes or types differ from the specs.
            UserError: A full chunk could not be written.
        """
        self._check_rows(rows)
        full = []
        with self._lock:
            for index, stream in enumerate(self._live):
                chunk = stream.chunks[-1] if stream.chunks else None
                if chunk is None or chunk.size == chunk.capacity:
                    chunk = self._begin_chunk(index)
                position = chunk.size
                for key, array in chunk.arrays.items():
                    array[position] = rows[key][index] if key in rows else 0
                chunk.size += 1
                stream.mark(chunk.end - 1, bool(rows["is_first"][index]))
                if chunk.size == chunk.capacity:
                    full.append(chunk)
        for chunk in full:
            self._write(chunk)

    def draw(self, batch: int, length: int, rng: np.random.Generator | None = None) -> Windows:
        """Draws windows with replacement; ``common.replay.sampling`` says which.

        Args:
            batch: B, number of windows.
            length: T, rows of a window.
            rng: Draws; the replay's own generator by default. By another one windows are drawn
                to be looked at: they take nothing away from learning, and begin in no latent state.

        Raises:
            ValueError: No stream holds ``length`` rows yet (see ``can_sample``).
        """
        latents = self._latents if rng is None else {}
        rows = length + bool(latents)
        with self._lock:
            streams = [stream for stream in self._streams if stream.windows(rows)]
            if not streams:
                raise ValueError(f"no stream of the replay holds {rows} rows yet")
            before, picks = self._sampler(), []
            if self._config.online and rng is None:
                picks = self._fresh.take(self._live, batch)
            picks += draw(self._config, rng or self._rng, streams, batch - len(picks), rows)
            pieces = [stream.window(row + rows - length, length) for stream, row in picks]
            return Windows(pieces, length, before, look_up(picks, latents))

    def gather(self, windows: Windows) -> dict[str, np.ndarray]:
        """Returns the rows of windows as fresh arrays; see ``common.replay.sampling``."""
        # What environments gave never changes, so the copies need no lock.
        return gather(windows, self._seen)

    def sample(
        self, batch: int, length: int, rng: np.random.Generator | None = None
    ) -> dict[str, np.ndarray]:
        """``draw`` and ``gather`` in one call."""
        return self.gather(self.draw(batch, length, rng))

    def annotate(self, latents: Mapping[str, np.ndarray]) -> None:
        """Keeps latent states and notes ``[N, ...]`` with every environment's newest row."""
        for index, stream in enumerate(self._live):
            newest = stream.chunks[-1]
            self._beside.touch(newest)
            for key, values in latents.items():
                newest.arrays[key][newest.size - 1] = values[index]

    def write_back(self, windows: Windows, latents: Mapping[str, np.ndarray]) -> None:
        """Keeps newer latent states ``[B, T, ...]`` of the rows of windows."""
        write_back(windows, latents)
        self._beside.touch_windows(windows)

    def read(
        self,
        directory: pathlib.Path,
        actions: ActionSpec | None = None,
        leave_out: bool = False,
    ) -> None:
        """Takes in all rows of a folder in the episode format, which stays as it is.

        Args:
            directory: Any folder but the replay's own; it is only read.
            actions: The flat action vector of the task; None where it is not known.
            leave_out: Whether arrays that are not in ``specs`` are left out with a note.

        Raises:
            UserError: There are no files, or they are of another task, or hold what is no
                number, or do not fit.
        """
        files = list_chunks(directory)
        if not files:
            raise UserError(f"no episodes in {directory}; give a folder with .npz files")
        read = [(file, arrays) for file in files if (arrays := read_chunk(file.path)) is not None]
        read = check_episodes(read, self._seen, directory, actions, leave_out)
        with self._lock:
            rows = self._allocated + sum(len(arrays["is_first"]) for _, arrays in read)
            if rows > self._limit:
                raise UserError(
                    f"up to {directory} the data hold {rows:,} rows, {self._limit:,} fit; raise "
                    "replay.capacity or replay.memory"
                )
            self._place(read)

    def flush(self) -> None:
        """Writes every row that is not on disk yet, and what agents made of rows since.

        Raises:
            UserError: A file could not be written.
        """
        chunks = [chunk for _, chunk in self._order if self._owns(chunk)]
        unsaved = [chunk for chunk in chunks if chunk.saved != chunk.size]
        for chunk in unsaved:
            self._write(chunk)
        if self._beside.write(chunks) or unsaved:
            try:
                keep_on_disk(self._directory)
            except OSError as error:
                raise cannot_write(self._directory, error) from error

    def state(self, ahead: Windows | None = None) -> dict[str, Any]:
        """Returns the sampler's state and the rows of each stream, as JSON-able values.

        Args:
            ahead: Windows that were drawn and that nothing was learned from yet: whoever
                continues from the state draws them again.
        """
        with self._lock:
            sampler = ahead.before if ahead else self._sampler()
            return sampler | {"rows": [stream.end for stream in self._live]}

    def join(self, states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Returns the state of the replays of all processes, which any number continue from."""
        return self._share.join(states)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continues from ``state``.

        Rows that were added after it was taken are dropped, on disk too: the run that
        resumes collects them again, and its counters agree with its experience.
        """
        with self._lock:
            if sampler := self._share.sampler(state):
                self._rng.bit_generator.state = sampler["rng"]
                self._fresh.load(sampler.get("fresh", []))
            else:
                self._fresh.load([stream.end for stream in self._live])
            ends = state["rows"][self._numbers.start : self._numbers.stop]
            for stream, end in zip(self._live, ends, strict=False):
                removed = stream.truncate(end)
                for chunk in removed:
                    self._order.remove((stream, chunk))
                    self._forget(chunk)

    def clear(self) -> None:
        """Drops every row, on disk too: for a run killed before its first checkpoint."""
        with self._lock:
            while self._order:
                stream, _ = self._order.popleft()
                self._forget(stream.drop_oldest())
            self._streams = list(self._live)

    def _checked_limit(self) -> int:
        config = self._config
        limit = min(config.capacity, int(config.memory * 1e9) // self._row_bytes)
        # While the oldest chunk goes, the rest must still hold a window.
        needed = self._num_envs * (config.rows * _MIN_CHUNKS // (_MIN_CHUNKS - 1) + _MIN_CHUNKS)
        needed = max(needed, config.minimum + self._num_envs * config.rows)
        if limit < needed:
            raise UserError(
                f"the replay holds {limit} rows of {self._row_bytes} bytes, {self._num_envs} "
                f"environments with sequences of {config.rows} need {needed}; raise "
                "replay.capacity or replay.memory"
            )
        return limit

    def _sampler(self) -> dict[str, Any]:
        return {"rng": self._rng.bit_generator.state, "fresh": self._fresh.state()}

    def _check_rows(self, rows: Mapping[str, np.ndarray]) -> None:
        if rows.keys() != self._given.keys():
            raise ValueError(f"rows have {sorted(rows)}, the replay has {sorted(self._given)}")
        for key, (shape, dtype) in self._given.items():
            value = rows[key]
            if value.shape != (self._num_envs, *shape):
                raise ValueError(f"{key!r} is {value.shape}, not {(self._num_envs, *shape)}")
            if value.dtype != dtype and not np.can_cast(value.dtype, dtype, "same_kind"):
                raise ValueError(f"{key!r} is {value.dtype}, not {dtype}")

    def _begin_chunk(self, index: int) -> Chunk:
        stream = self._live[index]
        start = stream.end
        capacity = self._capacity(index, start)
        self._make_room(capacity)
        directory = self._directory or pathlib.Path()
        file = ChunkFile.named(directory, next(self._serial), self._numbers[index], start)
        self._insert(stream, Chunk.empty(file, self._specs, capacity))
        return stream.chunks[-1]

    def _capacity(self, index: int, start: int) -> int:
        """Rows from ``start`` to the stream's next boundary between chunks.

        The boundaries of the environments are staggered: they do not all write at once.
        """
        offset = self._chunk_rows * index // self._num_envs
        return self._chunk_rows - (start + offset) % self._chunk_rows

    def _insert(self, stream: Stream, chunk: Chunk) -> None:
        stream.append(chunk)
        self._order.append((stream, chunk))
        self._allocated += chunk.capacity

    def _make_room(self, rows: int) -> None:
        while self._order and self._allocated + rows > self._limit:
            stream, _ = self._order.popleft()
            self._forget(stream.drop_oldest())
            if not stream.chunks and stream not in self._live:
                self._streams.remove(stream)

    def _forget(self, chunk: Chunk) -> None:
        self._allocated -= chunk.capacity
        self._beside.written(chunk)
        if self._owns(chunk):
            remove(chunk.file.path)

    def _owns(self, chunk: Chunk) -> bool:
        """Whether it may write and delete a chunk's file; never those that another tool wrote."""
        return self._directory is not None and chunk.file.stream != FOREIGN

    def _write(self, chunk: Chunk) -> None:
        if self._owns(chunk):
            size = chunk.size
            # What lies beside is of these rows, or of others where a run was killed.
            beside(chunk.file.path).unlink(missing_ok=True)
            write_chunk(chunk.file.path, chunk.rows)
            chunk.saved = size
            self._beside.written(chunk)

    def _load(self, directory: pathlib.Path) -> None:
        remove_leftovers(directory)
        files = list_chunks(directory)
        if files:
            self._serial = itertools.count(files[-1].serial + 1)
        own = [file for file in files if self._share.owns(file.stream, self._num_envs)]
        loaded = self._beside.put(read_newest(own, self._limit, self._specs))
        latest = self._place(loaded)
        for index, number in enumerate(self._numbers):
            if number in latest:
                self._continue(index, latest[number])
        # In the order of the environments, as in a run that was never stopped.
        closed = [stream for stream in self._streams if stream not in self._live]
        self._streams = closed + self._live

    def _place(self, loaded: list[tuple[ChunkFile, dict[str, np.ndarray]]]) -> dict[int, Stream]:
        """Takes in what was read, the oldest first; returns the newest stream of each number."""
        latest: dict[int, Stream] = {}
        for file, arrays in loaded:
            chunk = Chunk(file, arrays, len(arrays["is_first"]))
            chunk.saved = chunk.size
            stream = latest.get(file.stream)
            if file.stream == FOREIGN:
                arrays["is_first"][0] = True
                start = stream.end if stream else 0
                chunk.file = ChunkFile(file.serial, file.stream, start, file.path)
            if stream is None or stream.end != chunk.file.start:
                stream = latest[file.stream] = Stream()
                self._streams.append(stream)
            self._insert(stream, chunk)
        return latest

    def _continue(self, index: int, stream: Stream) -> None:
        """Makes a loaded stream the one that environment ``index`` appends to."""
        self._live[index] = stream
        chunk = stream.chunks[-1]
        missing = self._capacity(index, chunk.file.start) - chunk.size
        if missing > 0 and self._allocated + missing <= self._limit:
            chunk.grow(chunk.size + missing)
            self._allocated += missing
