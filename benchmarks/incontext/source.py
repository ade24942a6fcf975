"""The learner whose histories are distilled: tabular Q-learning, one table for each room.

    Q(s, a) <- Q(s, a) + rate (r + discount max_b Q(s', b) - Q(s, a))

Tables begin with values that are a little too high, so that what was not tried is tried; a few
actions are random all along.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from benchmarks.incontext.world import ACTIONS, CELLS, MIDDLE, STEPS, play, step

RATE, DISCOUNT, FIRST, CHANCE = 0.5, 0.9, 0.5, 0.05
"""Learning rate, discount, what tables begin with, and the share of random actions."""


class Histories(NamedTuple):
    """All that N learners did, ordered by training time.

    Attributes:
        cells: ``[N, episodes, STEPS]``.
        actions: ``[N, episodes, STEPS]``.
        rewards: ``[N, episodes, STEPS]``.
        goals: ``[N]``.
    """

    cells: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    goals: np.ndarray

    @property
    def returns(self) -> np.ndarray:
        """Of every episode ``[N, episodes]``."""
        return self.rewards.sum(-1)


def learn(goals: np.ndarray, episodes: int, seed: int) -> Histories:
    """Lets one learner for each goal learn from nothing; returns their histories.

    Args:
        goals: Cells ``[N]``.
        episodes: Length of the histories.
        seed: Of tables and actions.
    """
    rng, rows = np.random.default_rng(seed), np.arange(len(goals))
    table = FIRST + 1e-3 * rng.random((len(goals), CELLS, ACTIONS))  # So that none is the first.

    def choose(cells: np.ndarray) -> np.ndarray:
        best = table[rows, cells].argmax(1)
        return np.where(
            rng.random(len(goals)) < CHANCE, rng.integers(ACTIONS, size=len(goals)), best
        )

    def update(
        cells: np.ndarray, actions: np.ndarray, rewards: np.ndarray, after: np.ndarray
    ) -> None:
        target = rewards + DISCOUNT * table[rows, after].max(1)
        table[rows, cells, actions] += RATE * (target - table[rows, cells, actions])

    found = [play(goals, choose, update) for _ in range(episodes)]
    return Histories(*(np.stack(x, 1) for x in zip(*found, strict=True)), goals)


def strided(histories: Histories, stride: int, amount: int, rng: np.random.Generator) -> Histories:
    """Returns one shorter history of each learner: every ``stride``-th episode, in their order.

    What took a learner ``stride * amount`` episodes takes ``amount`` there, from a random one of
    the first ``stride`` on.
    """
    first = rng.integers(stride, size=len(histories.goals))
    which = first[:, None] + stride * np.arange(amount)
    rows = np.arange(len(first))[:, None]
    return Histories(*(x[rows, which] for x in histories[:3]), histories.goals)


def last(histories: Histories, amount: int, rng: np.random.Generator) -> Histories:
    """Returns as many episodes of each learner, drawn from the last fifth: those of an expert."""
    episodes = histories.cells.shape[1]
    which = rng.integers(episodes - episodes // 5, episodes, (len(histories.goals), amount))
    rows = np.arange(len(which))[:, None]
    return Histories(*(x[rows, which] for x in histories[:3]), histories.goals)


def draw(histories: Histories, amount: int, rng: np.random.Generator) -> Histories:
    """Returns some learners' histories, drawn with replacement."""
    chosen = rng.integers(len(histories.goals), size=amount)
    return Histories(*(x[chosen] for x in histories))


def random_return(goals: np.ndarray) -> float:
    """Returns what uniformly random actions return in an episode, exactly.

    The distribution over cells is moved on step by step.
    """
    cells = np.arange(CELLS)
    moves = [step(cells, np.full(CELLS, action), cells)[0] for action in range(ACTIONS)]
    chance, total = np.eye(CELLS)[MIDDLE], np.zeros(CELLS)
    for _ in range(STEPS):
        after = np.zeros(CELLS)
        for move in moves:
            np.add.at(after, move, chance / ACTIONS)
        chance = after
        total += chance
    return float(total[goals].mean())
