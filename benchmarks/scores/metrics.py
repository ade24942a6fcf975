"""Aggregates over the tasks of a benchmark, of scores that are normalised task by task.

Shapes: T tasks, S seeds (a number of its own in every task), ``...`` resamples or
nothing. Scores are a sequence of T arrays ``[..., S]``, one per task; aggregates are
``[...]``. No task weighs more than another for having more seeds, except in the
interquartile mean, which is defined on single runs.

The first four are those of Hafner et al. 2021, arXiv:2010.02193, section 3.1, the others
those of Agarwal et al. 2021, arXiv:2108.13264.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Scores = Sequence[np.ndarray]


def normalize(raw: Scores, low: Sequence[float], high: Sequence[float]) -> list[np.ndarray]:
    """Scales raw scores so that ``low`` becomes 0 and ``high`` becomes 1, task by task.

    Args:
        raw: Raw scores of each task ``[..., S]``.
        low: What counts as 0 in each task, a random policy's score ``[T]``.
        high: What counts as 1 in each task, the gamer's or the record ``[T]``.
    """
    return [(x - a) / (b - a) for x, a, b in zip(raw, low, high, strict=True)]


def task_means(scores: Scores) -> np.ndarray:
    """Mean over the seeds of each task ``[..., T]``."""
    return np.stack([np.mean(x, -1) for x in scores], -1)


def gamer_median(scores: Scores) -> np.ndarray:
    """Median over tasks of the mean over seeds, of scores normalised by the gamer."""
    return np.median(task_means(scores), -1)


def gamer_mean(scores: Scores) -> np.ndarray:
    """Mean over tasks of the mean over seeds, of scores normalised by the gamer."""
    return np.mean(task_means(scores), -1)


def record_mean(scores: Scores) -> np.ndarray:
    """Mean over tasks of the mean over seeds, of scores normalised by the world record."""
    return np.mean(task_means(scores), -1)


def clipped_record_mean(scores: Scores) -> np.ndarray:
    """Mean over tasks of min(x, 1), x the mean over seeds normalised by the world record.

    Seeds are averaged before the clipping, and nothing is clipped from below: so the
    published numbers were made.
    """
    return np.mean(np.minimum(task_means(scores), 1), -1)


def iqm(scores: Scores) -> np.ndarray:
    """Interquartile mean: of all runs of all tasks, the mean of the middle half.

    Of n runs the ⌊n/4⌋ lowest and the ⌊n/4⌋ highest are left out.
    """
    runs = np.concatenate(scores, -1)
    cut = runs.shape[-1] // 4
    ordered = np.partition(runs, (cut, runs.shape[-1] - cut - 1), -1)
    return np.mean(ordered[..., cut : runs.shape[-1] - cut], -1)


def optimality_gap(scores: Scores) -> np.ndarray:
    """How far runs stay below 1: the mean over tasks and seeds of max(0, 1 - x)."""
    return 1 - np.mean(task_means([np.minimum(x, 1) for x in scores]), -1)


def performance_profile(scores: Scores, thresholds: np.ndarray) -> np.ndarray:
    """Share of runs that score above each threshold, averaged over tasks.

    Args:
        scores: Normalised scores of each task ``[..., S]``.
        thresholds: Normalised scores ``[X]``.

    Returns:
        ``[..., X]``, falling from 1 to 0 along the thresholds.
    """
    thresholds = np.asarray(thresholds)
    shares = [np.mean(x[..., None, :] > thresholds[:, None], -1) for x in scores]
    return np.mean(shares, 0)


def probability_of_improvement(scores: Scores, others: Scores) -> np.ndarray:
    """Probability that a run of one agent beats a run of another on a task drawn at random.

    In each task it is the Mann-Whitney statistic over the number of pairs,
    P(x > y) + P(x = y) / 2; these are averaged over tasks.

    Args:
        scores: Scores of one agent, raw or normalised ``[..., S]`` per task.
        others: Scores of the other in the same tasks ``[..., S']`` per task.
    """
    wins = []
    for x, y in zip(scores, others, strict=True):
        more = np.mean(x[..., :, None] > y[..., None, :], (-2, -1))
        equal = np.mean(x[..., :, None] == y[..., None, :], (-2, -1))
        wins.append(more + equal / 2)
    return np.mean(wins, 0)
