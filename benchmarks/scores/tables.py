"""What scoring, reporting and running exchange: the scores of one agent over many tasks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from benchmarks.suites import Protocol


@dataclasses.dataclass(frozen=True)
class Curve:
    """Learning curves of one task.

    Attributes:
        frames: Simulator steps ``[X]``, rising.
        returns: Raw return of each seed there ``[S, X]``; NaN where a seed has none.
    """

    frames: np.ndarray
    returns: np.ndarray


@dataclasses.dataclass(frozen=True)
class AgentScores:
    """The scores of one agent, ours or another's.

    Attributes:
        name: Name of the agent.
        protocol: How the scores came about.
        source: Where they come from: a publication, a file or a folder of runs.
        scores: Raw final scores of the seeds ``[S]``, by name of the task; where only the
            mean over seeds is known it is one entry.
        seeds: Seeds behind each task's scores: the length of the entry, more where only
            their mean is known, 0 where even their number is not.
        curves: Learning curves by name of the task; empty where there are none.
        notes: What a reader must know: missing games, seeds that stopped early and the like.
        published: Whether it is one of the shipped references.
    """

    name: str
    protocol: Protocol
    source: str
    scores: Mapping[str, np.ndarray]
    seeds: Mapping[str, int]
    curves: Mapping[str, Curve] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    published: bool = False

    def per_seed(self, task: str) -> bool:
        """Whether a task's score is known seed by seed, so that it can be resampled."""
        return len(self.scores[task]) > 1
