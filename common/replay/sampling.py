"""Which windows a replay draws, and the batch that is made of them.

"steps" draws uniformly over all window starts. "episodes" is DreamerV2's rule: an episode
uniformly, then one of its ``n - length + 1`` starts uniformly; with ``prioritize_ends`` the
range of starts is extended by ``length`` and clipped, so that the last window has probability
``(length + 1) / (n + 1)``. An episode of fewer rows than a window is drawn from its first row
and continues into what follows (or, the newest of a stream, reaches back into what preceded).
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence

import numpy as np

from common.replay.config import ReplayConfig
from common.replay.stream import Piece, Stream
from common.rows import Specs


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


def gather(windows: Sequence[Sequence[Piece]], specs: Specs, length: int) -> dict[str, np.ndarray]:
    """Copies windows into fresh arrays ``[B, T, ...]``, with ``is_first[:, 0]`` set.

    Args:
        windows: The pieces of each window, in order.
        specs: ``{key: (shape, dtype)}`` of one row.
        length: T, rows of a window.
    """
    result = {}
    for key, (shape, dtype) in specs.items():
        result[key] = np.empty((len(windows), length, *shape), dtype)
        _copy(windows, key, result[key])
    result["is_first"][:, 0] = True
    return result


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
    ends = list(itertools.accumulate(len(stream.episodes) for stream in streams))
    picks = []
    for number in rng.integers(ends[-1], size=batch).tolist():
        which = bisect.bisect_right(ends, number)
        stream = streams[which]
        first, end = stream.episode(number - ends[which] + len(stream.episodes))
        last = end - length
        if last > first:
            first = min(first + int(rng.integers(last - first + 1 + extra)), last)
        picks.append((stream, min(first, stream.end - length)))
    return picks


def _copy(windows: Sequence[Sequence[Piece]], key: str, target: np.ndarray) -> None:
    """Fills ``target`` ``[B, T, ...]`` with the rows of each window."""
    for window, sequence in zip(windows, target, strict=True):
        position = 0
        for arrays, low, high in window:
            sequence[position : position + high - low] = arrays[key][low:high]
            position += high - low
