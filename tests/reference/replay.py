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
    streams: Sequence[Sequence[bool]],
    length: int,
    prioritize_ends: bool,
    ended: Sequence[bool],
) -> dict[Start, float]:
    """Returns the probability of every window's start under DreamerV2's rule.

    The newest episode of a stream that has not ended counts by its length over the mean length
    of those that have, at most as one of them, and has no end to prioritize.
    """
    usable = [(n, s) for n, s in enumerate(streams) if len(s) >= length]
    whole, running = [], []
    for number, stream in usable:
        for begin, end in episodes(stream):
            runs = end == len(stream) and not ended[number]
            (running if runs else whole).append((number, begin, end))
    lengths = [end - begin for _, begin, end in whole or running]
    usual = sum(lengths) / len(lengths) if whole else max(lengths)
    weights = [1.0] * len(whole) + [min(1, (end - begin) / usual) for _, begin, end in running]
    result: dict[Start, float] = {}
    for (number, begin, end), weight in zip(whole + running, weights, strict=True):
        last = end - begin - length
        extra = length if prioritize_ends and last > 0 and (number, begin, end) in whole else 0
        if last < 0:
            draws = [min(begin, len(streams[number]) - length)]
        else:
            draws = [begin + min(draw, last) for draw in range(last + 1 + extra)]
        for start in draws:
            key = (number, start)
            result[key] = result.get(key, 0) + weight / sum(weights) / len(draws)
    return result
