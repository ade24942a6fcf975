"""Which windows a replay draws, and the batch that is made of them.

"steps" draws uniformly over all window starts. "episodes" is DreamerV2's rule: an episode
uniformly, then one of its ``n - length + 1`` starts uniformly; with ``prioritize_ends`` the
range of starts is extended by ``length`` and clipped, so that the last window has probability
``(length + 1) / (n + 1)``. An episode of fewer rows than a window is drawn from its first row
and continues into what follows (or, the newest of a stream, reaches back into what preceded).

The newest episode of a stream counts less as long as it runs: by its length over the mean of
the ended ones, at most 1. It has no end yet that could be prioritized.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from common.replay.config import ReplayConfig
from common.replay.stream import Piece, Stream
from common.rows import Specs


class Windows(NamedTuple):
    """Windows that were drawn; ``gather`` copies their rows, at any time later.

    Attributes:
        pieces: Where the rows of each window lie, in order.
        length: T, rows of a window.
        before: State of the sampler before they were drawn.
        latents: What is kept of the latent states of the rows before them, by name ``[B, ...]``.
    """

    pieces: Sequence[Sequence[Piece]]
    length: int
    before: dict[str, Any]
    latents: Mapping[str, np.ndarray]

    def part(self, index: int, amount: int) -> Windows:
        """Returns one of ``amount`` equal parts of them, in their order."""
        size = len(self.pieces) // amount
        own = slice(index * size, (index + 1) * size)
        latents = {key: value[own] for key, value in self.latents.items()}
        return self._replace(pieces=self.pieces[own], latents=latents)


def draw(
    config: ReplayConfig,
    rng: np.random.Generator,
    streams: Sequence[Stream],
    batch: int,
    length: int,
) -> list[tuple[Stream, int]]:
    """Draws windows with replacement, each as its stream and its first row there.

    Args:
        config: The rule.
        rng: Draws.
        streams: Those that hold a window, at least one.
        batch: B, number of windows.
        length: T, rows of a window.
    """
    if config.sampling == "steps":
        return _draw_steps(rng, streams, batch, length)
    return _draw_episodes(rng, streams, batch, length, length if config.prioritize_ends else 0)


def gather(windows: Windows, specs: Specs) -> dict[str, np.ndarray]:
    """Copies windows into fresh arrays ``[B, T, ...]``.

    Where nothing is known of the rows before them, ``is_first[:, 0]`` is set.

    Args:
        windows: What was drawn.
        specs: ``{key: (shape, dtype)}`` of one row, without latent states.
    """
    result = {}
    for key, (shape, dtype) in specs.items():
        result[key] = np.empty((len(windows.pieces), windows.length, *shape), dtype)
        for part, rows in _parts(windows.pieces, key, result[key]):
            part[:] = rows
    if not windows.latents:
        result["is_first"][:, 0] = True
    return result | windows.latents


def look_up(picks: Sequence[tuple[Stream, int]], specs: Specs) -> dict[str, np.ndarray]:
    """Copies entries of single rows, each given by its stream and its number, ``[B, ...]``."""
    result = {key: np.empty((len(picks), *shape), dtype) for key, (shape, dtype) in specs.items()}
    for index, (stream, row) in enumerate(picks):
        arrays, position, _ = stream.window(row, 1)[0]
        for key, values in result.items():
            values[index] = arrays[key][position]
    return result


def write_back(windows: Windows, values: Mapping[str, np.ndarray]) -> None:
    """Writes entries ``[B, T, ...]`` over those of the windows' rows."""
    for key, array in values.items():
        for part, rows in _parts(windows.pieces, key, array):
            rows[:] = part


def _draw_steps(
    rng: np.random.Generator, streams: Sequence[Stream], batch: int, length: int
) -> list[tuple[Stream, int]]:
    ends = list(itertools.accumulate(stream.windows(length) for stream in streams))
    picks = []
    for number in rng.integers(ends[-1], size=batch).tolist():
        which = bisect.bisect_right(ends, number)
        start = number - ends[which] + streams[which].windows(length)
        picks.append((streams[which], streams[which].begin + start))
    return picks


def _draw_episodes(
    rng: np.random.Generator, streams: Sequence[Stream], batch: int, length: int, extra: int
) -> list[tuple[Stream, int]]:
    ended = [len(stream.episodes) - bool(stream.running) for stream in streams]
    rows = sum(len(stream) - stream.running for stream in streams)
    running = [stream.running for stream in streams]
    usual = rows / sum(ended) if any(ended) else max(running)
    # One for every ended episode, then the share of the one that runs.
    shares = [count + min(1, n / usual) for count, n in zip(ended, running, strict=True)]
    ends = list(itertools.accumulate(shares, initial=0))
    picks = []
    for number in (rng.random(batch) * ends[-1]).tolist():
        which = min(bisect.bisect_right(ends, number), len(streams)) - 1
        stream, index = streams[which], int(number - ends[which])
        index = min(index, len(stream.episodes) - 1)
        first, end = stream.episode(index)
        last = end - length
        if last > first:
            more = extra if index < ended[which] else 0
            first = min(first + int(rng.integers(last - first + 1 + more)), last)
        picks.append((stream, min(first, stream.end - length)))
    return picks


def _parts(
    windows: Sequence[Sequence[Piece]], key: str, batch: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs each part of an array ``[B, T, ...]`` with the replay's rows that belong there."""
    for window, sequence in zip(windows, batch, strict=True):
        position = 0
        for arrays, low, high in window:
            yield sequence[position : position + high - low], arrays[key][low:high]
            position += high - low
