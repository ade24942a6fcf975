"""What the numbers of a data set look like, so that models see them on one scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from common.replay.episodes import Episode
from common.tokens.steps import Steps, pad, predicted
from common.types import Array

MARGIN = 0.05
"""Room beyond the least and the largest value, as a share of the distance between both."""


class Scale(NamedTuple):
    """Statistics of a row's D observation entries and, behind them, the reward ``[D + 1]``.

    Entries that never change, or that no body has, count as standard ones: mean as it is
    (0 where there is none), deviation 1.

    Attributes:
        low: Least values, with some room below.
        high: Largest values, with some room above.
        mean: Means.
        std: Standard deviations.
        change: Root of the mean square change from one row to the next.
    """

    low: Array
    high: Array
    mean: Array
    std: Array
    change: Array

    def units(self, rows: Array) -> Array:
        """Maps ``low`` to -1 and ``high`` to 1 ``[..., D + 1]``."""
        return 2 * (rows - self.low) / (self.high - self.low) - 1

    def from_units(self, units: Array) -> Array:
        """Undoes ``units``."""
        return self.low + (units + 1) / 2 * (self.high - self.low)

    def standard(self, rows: Array) -> Array:
        """Takes off the mean and divides by the deviation ``[..., D + 1]``."""
        return (rows - self.mean) / self.std

    def from_standard(self, rows: Array) -> Array:
        """Undoes ``standard``."""
        return self.mean + rows * self.std


def measure(
    bodies: Mapping[str, Sequence[Episode]], observation_size: int, action_size: int
) -> Scale:
    """Measures all rows of some bodies together, each entry over the bodies that have it.

    First rows of episodes count for observations; they have no reward.

    Args:
        bodies: Episodes by task name.
        observation_size: Observation entries of the largest body, D.
        action_size: Action entries of the largest body, A.
    """
    rows, changes = [], []
    for episodes in bodies.values():
        for episode in episodes:
            steps = one_episode(episode, observation_size, action_size)
            row = np.asarray(predicted(steps)[0], np.float64)
            row[0, -1] = np.nan
            row[:, :-1][:, ~np.asarray(steps.has_observation[0])] = np.nan
            rows.append(row)
            changes.append(np.diff(row, axis=0))
    rows, changes = np.concatenate(rows), np.concatenate(changes)
    known = np.isfinite(rows).any(0)
    rows[:, ~known], changes[:, ~known] = 0.0, 0.0
    low, high = np.nanmin(rows, 0), np.nanmax(rows, 0)
    changes_at_all = high - low > 1e-6
    room = np.where(changes_at_all, MARGIN * (high - low), 1.0)
    std = np.where(changes_at_all, np.nanstd(rows, 0), 1.0)
    change = np.sqrt(np.nanmean(np.square(changes), 0))
    change = np.where(change > 1e-6, change, 1.0)
    values = low - room, high + room, np.nanmean(rows, 0), std, change
    return Scale(*(value.astype(np.float32) for value in values))


def one_episode(episode: Episode, observation_size: int, action_size: int) -> Steps:
    """Returns an episode ``[T, ...]`` as steps ``[1, T]`` of the model's sizes."""
    return pad({key: value[None] for key, value in episode.items()}, observation_size, action_size)
