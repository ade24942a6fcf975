"""Newly collected windows, which are learned from before any other: each once, the oldest first.

DreamerV3's "online queue" (arXiv:2301.04104): the rows of an environment are cut into windows one
after another, and each waits from the moment it is complete until a batch takes it. Nothing is
stored for this but where each environment's next window begins.
"""

from __future__ import annotations

from collections.abc import Sequence

from common.replay.stream import Stream


class Fresh:
    """Where the next window of every environment begins."""

    def __init__(self, rows: int, stride: int, num_envs: int):
        """Begins with the first row of every environment.

        Args:
            rows: Rows of a window.
            stride: Rows from the beginning of a window to that of the next.
            num_envs: Environments, N.
        """
        self._rows, self._stride = rows, stride
        self._next = [0] * num_envs

    def take(self, streams: Sequence[Stream], most: int) -> list[tuple[Stream, int]]:
        """Returns complete windows that nothing took yet, each as its stream and its first row.

        Those whose rows were dropped meanwhile are passed over.

        Args:
            streams: Of the N environments.
            most: How many at most.
        """
        picks: list[tuple[Stream, int]] = []
        while len(picks) < most:
            begun = zip(self._next, streams, strict=True)
            waiting = [
                (row, env)
                for env, (row, stream) in enumerate(begun)
                if row + self._rows <= stream.end
            ]
            if not waiting:
                break
            row, env = min(waiting)
            self._next[env] += self._stride
            if row >= streams[env].begin:
                picks.append((streams[env], row))
        return picks

    def state(self) -> list[int]:
        """Returns what ``load`` continues from."""
        return list(self._next)

    def load(self, state: Sequence[int]) -> None:
        """Continues from ``state``."""
        self._next[: len(state)] = state[: len(self._next)]
