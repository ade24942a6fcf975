"""Rows that name their stream and time."""

from __future__ import annotations

import numpy as np

from common.replay import Replay, ReplayConfig

SPECS = {
    "image": ((4, 4, 3), np.uint8),
    "id": ((2,), np.float32),
    "action": ((1,), np.float32),
    "reward": ((), np.float32),
    "is_first": ((), bool),
    "is_last": ((), bool),
    "is_terminal": ((), bool),
}


class Streams:
    """Rows that name their stream and time, with episodes of given lengths.

    All rows are terminal where a mark is set, so that they can be told from others.
    """

    def __init__(self, num_envs, lengths, mark=False):
        self.mark = mark
        self.flags = [[] for _ in range(num_envs)]
        self._lengths = lengths
        self._left = [0] * num_envs
        self._drawn = 0

    @property
    def ended(self):
        """Whether the newest episode of each stream has ended."""
        return [left == 0 for left in self._left]

    def step(self):
        num_envs = len(self.flags)
        rows = {key: np.zeros((num_envs, *shape), dtype) for key, (shape, dtype) in SPECS.items()}
        for n, flags in enumerate(self.flags):
            first = self._left[n] == 0
            if first:
                self._left[n] = self._lengths[self._drawn % len(self._lengths)]
                self._drawn += 1
            self._left[n] -= 1
            rows["id"][n] = n, len(flags)
            rows["image"][n] = len(flags) % 256
            rows["reward"][n] = 0 if first else len(flags)
            rows["is_first"][n] = first
            rows["is_last"][n] = self._left[n] == 0
            rows["is_terminal"][n] = self.mark
            flags.append(first)
        return rows


def fill(num_envs=1, lengths=(7,), steps=60, directory=None, **options):
    config = ReplayConfig(**{"capacity": 10_000, "length": 5, **options})
    replay = Replay(config, directory, SPECS, num_envs, seed=0)
    streams = Streams(num_envs, lengths)
    for _ in range(steps):
        replay.add(streams.step())
    return replay, streams
