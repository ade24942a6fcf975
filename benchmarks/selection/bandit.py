"""Which arm to pull next, and how well that goes when returns are drawn from recorded ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from benchmarks.selection.process import Belief, Pulls, apart, judge, merge, scaled

BOLDNESS = 5.0
"""Standard deviations above the mean that the upper bound of an arm lies at."""
FIRST = 5
"""Pulls at random where nothing else is known of the arms."""
A_OPS, INDEPENDENT, UNIFORM = "A-OPS", "independent arms", "uniform"
METHODS = (A_OPS, INDEPENDENT, UNIFORM)


class Arms(NamedTuple):
    """What is known of K policies before any is tried.

    Attributes:
        distances: Of their actions ``[K, K]``.
        values: What each is expected to return, which counts as one return ``[K]``; None where
            nobody says.
        seed: Of the pulls at random.
    """

    distances: np.ndarray
    values: np.ndarray | None
    seed: int

    @property
    def first(self) -> list[int]:
        """Arms that are pulled at random first, each once; none with values."""
        amount = 0 if self.values is not None else min(FIRST, len(self.distances))
        order = np.random.default_rng(self.seed).permutation(len(self.distances))
        return order[:amount].tolist()

    def known(self, arms: list[int], returns: list[float]) -> Pulls:
        """Merges returns with the values."""
        amount = len(self.distances)
        if self.values is None:
            return merge(arms, returns, amount)
        return merge([*range(amount), *arms], [*self.values, *returns], amount)

    def belief(self, arms: list[int], returns: list[float]) -> Belief:
        """Returns what is known of each arm after some pulls, at least one without values."""
        known = self.known(arms, returns)
        return judge(scaled(self.distances), known, self.values is None)[0]

    def next(self, arms: list[int], returns: list[float]) -> int:
        """Returns the arm to pull after these."""
        if len(arms) < len(self.first):
            return self.first[len(arms)]
        return int(np.argmax(upper(self.belief(arms, returns))))


def upper(belief: Belief) -> np.ndarray:
    """Returns the upper confidence bound of each arm: where it is highest, most may be won."""
    return belief.mean + BOLDNESS * belief.std


def simulate(
    method: str,
    distances: np.ndarray,
    bank: np.ndarray,
    values: np.ndarray | None,
    episodes: int,
    seed: int,
) -> np.ndarray:
    """Lets a method choose in R bandits at once; returns its choice after every pull ``[R, T]``.

    The baselines have what A-OPS has, values, process and noise, but for what arms say about each
    other: "independent arms" pulls by the same bound, "uniform" all arms in turn, in a random
    order. All choose the arm with the largest mean.

    Args:
        method: One of METHODS.
        distances: ``[R, K, K]``.
        bank: Returns to draw from, with replacement ``[R, K, N]``.
        values: As of ``Arms``, ``[R, K]``; None for none.
        episodes: Pulls, T.
        seed: Of the draws. Arms have another order in each bandit, which decides what is equal.
    """
    rng = np.random.default_rng(seed)
    repeats, amount, size = bank.shape
    rows = np.arange(repeats)
    order = rng.permuted(np.tile(np.arange(amount), (repeats, 1)), axis=1)
    bank = bank[rows[:, None], order]
    distances = distances[rows[:, None, None], order[:, :, None], order[:, None]]
    known = np.stack([scaled(one) for one in distances])
    if method != A_OPS:
        known = np.broadcast_to(apart(amount), known.shape)
    arms = np.zeros((repeats, 0), np.int64)
    returns = np.zeros((repeats, 0))
    if values is not None:
        arms = np.tile(np.arange(amount), (repeats, 1))
        returns = values[rows[:, None], order]
    chosen, best = np.zeros((repeats, episodes), np.int64), np.zeros((repeats, amount))
    if values is not None:
        before = [merge(a, r, amount) for a, r in zip(arms, returns, strict=True)]
        pulls = Pulls(*map(np.stack, zip(*before, strict=True)))
        best = upper(judge(known, pulls, priors=False)[0])
    for pull in range(episodes):
        if method == UNIFORM or (values is None and pull < min(FIRST, amount)):
            arm = np.full(repeats, pull % amount)  # Of a random order.
        else:
            arm = best.argmax(1)
        drawn = bank[rows, arm, rng.integers(size, size=repeats)]
        arms = np.concatenate([arms, arm[:, None]], 1)
        returns = np.concatenate([returns, drawn[:, None]], 1)
        merged = [merge(a, r, amount) for a, r in zip(arms, returns, strict=True)]
        pulls = Pulls(*map(np.stack, zip(*merged, strict=True)))
        belief, _ = judge(known, pulls, values is None)
        best = upper(belief)
        chosen[:, pull] = order[rows, belief.mean.argmax(1)]
    return chosen


def regret(truth: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Returns the simple regret ``[R, T]``: what the best arm is worth above the chosen one.

    Args:
        truth: What each arm is worth ``[R, K]``.
        chosen: Arms ``[R, T]``.
    """
    return truth.max(1)[:, None] - np.take_along_axis(truth, chosen, 1)
