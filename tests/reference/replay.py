"""Slow rules of the replay: which windows there are, and how likely each is.

A stream is a list of ``is_first`` flags, one per row that is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

Start = tuple[int, int]
"""Number of the stream and row in it."""


def episodes(stream: Sequence[bool]) -> list[tuple[int, int]]:
    """Returns the half-open ranges of the episodes, whatever begins at row 0 included."""
    ranges = []
    begin = 0
    for row in range(1, len(stream) + 1):
        if row == len(stream) or stream[row]:
            ranges.append((begin, row))
            begin = row
    return ranges


def steps(streams: Sequence[Sequence[bool]], length: int) -> dict[Start, float]:
    """Returns the probability of every window's start when all are equally likely."""
    starts = [
        (number, row)
        for number, stream in enumerate(streams)
        for row in range(len(stream))
        if row + length <= len(stream)
    ]
    return {start: 1 / len(starts) for start in starts}


def episode_rule(
    streams: Sequence[Sequence[bool]], length: int, prioritize_ends: bool
) -> dict[Start, float]:
    """Returns the probability of every window's start under DreamerV2's rule."""
    usable = [(n, s) for n, s in enumerate(streams) if len(s) >= length]
    amount = sum(len(episodes(stream)) for _, stream in usable)
    result: dict[Start, float] = {}
    for number, stream in usable:
        for begin, end in episodes(stream):
            last = end - begin - length
            if last < 0:
                draws = [min(begin, len(stream) - length)]
            else:
                upper = last + 1 + (length if prioritize_ends and last > 0 else 0)
                draws = [begin + min(draw, last) for draw in range(upper)]
            for start in draws:
                key = (number, start)
                result[key] = result.get(key, 0) + 1 / amount / len(draws)
    return result
