"""Dark rooms: an agent knows where it is, and not where the goal is.

A square of ``SIDE`` cells, episodes of ``STEPS`` steps that begin in the middle, and a reward of 1
for each step that ends on the goal (after Laskin et al., 2023, who call it Dark Room). Many rooms
step side by side, in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

SIDE, STEPS = 9, 20
CELLS = SIDE**2
MOVES = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
"""What the actions do: stay, and four directions; a wall stops."""
ACTIONS = len(MOVES)
MIDDLE = CELLS // 2

Choose = Callable[[np.ndarray], np.ndarray]
"""Actions ``[N]`` for cells ``[N]``."""
Learn = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], None]
"""Told of cells, actions, rewards and next cells, all ``[N]``."""


class Episode(NamedTuple):
    """An episode in each of N rooms.

    Attributes:
        cells: Before each step ``[N, STEPS]``.
        actions: ``[N, STEPS]``.
        rewards: That followed ``[N, STEPS]``.
    """

    cells: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray


def step(
    cells: np.ndarray, actions: np.ndarray, goals: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the next cells and the rewards ``[N]``."""
    place = np.stack([cells // SIDE, cells % SIDE], -1) + MOVES[actions]
    place = np.clip(place, 0, SIDE - 1)
    after = place[:, 0] * SIDE + place[:, 1]
    return after, (after == goals).astype(np.float32)


def play(goals: np.ndarray, choose: Choose, learn: Learn = lambda *transition: None) -> Episode:
    """Plays an episode in each room.

    Args:
        goals: Cells ``[N]``.
        choose: Who acts.
        learn: Told of every step.
    """
    cells, rows = np.full(len(goals), MIDDLE), []
    for _ in range(STEPS):
        actions = choose(cells)
        after, rewards = step(cells, actions, goals)
        learn(cells, actions, rewards, after)
        rows.append((cells, actions, rewards))
        cells = after
    return Episode(*(np.stack(x, 1) for x in zip(*rows, strict=True)))


def split_goals(held_out: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns goals to learn from, and others to be evaluated on; the middle is neither."""
    goals = np.delete(np.arange(CELLS), MIDDLE)
    goals = np.random.default_rng(seed).permutation(goals)
    return np.sort(goals[held_out:]), np.sort(goals[:held_out])
