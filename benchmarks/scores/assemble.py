"""Runs of one agent, each a learning curve, made into its scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from benchmarks.scores.tables import AgentScores, Curve
from benchmarks.suites import Protocol, Suite

LATE = 1.001
"""An evaluation counts as made at the end of the budget when it is this little behind it:
several environments in parallel step a few frames over it."""
SHORT = 0.99
"""A run that ends before this part of its budget is a short one."""

TOGETHER = 1e-4
"""Evaluations of several seeds this part of the budget apart share a place on their curve."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One seed in one task.

    Attributes:
        task: Name of the task in tables.
        seed: The seed.
        frames: Simulator steps of its evaluations, rising.
        returns: Their returns.
    """

    task: str
    seed: int
    frames: Sequence[int]
    returns: Sequence[float]


def assemble(
    name: str, source: str, protocol: Protocol, runs: Sequence[Run], suite: Suite
) -> AgentScores:
    """Makes the scores of an agent from its runs.

    The score of a run is its last return within the benchmark's frames. A run that
    stopped early counts with its last return, and is noted.

    Args:
        name: Name of the agent.
        source: Where the runs come from.
        protocol: How they came about; its frames are what the runs are meant to reach.
        runs: The runs, no two of a task with the same seed.
        suite: The benchmark.
    """
    budget = min(x for x in (suite.protocol.frames, protocol.frames) if x is not None)
    scores, curves, unscored, short = {}, {}, [], []
    for task in suite.tasks:
        seeds = sorted((run for run in runs if run.task == task), key=lambda run: run.seed)
        finals = [_final(run, suite.protocol.frames * LATE) for run in seeds]
        without = [str(run.seed) for run, x in zip(seeds, finals, strict=True) if x is None]
        if without:
            unscored.append(f"{task} seed {', '.join(without)}")
        known = [final for final in finals if final is not None]
        if not known:
            continue
        scores[task] = np.array([value for _, value in known])
        curves[task] = _curve(seeds, suite.protocol.frames * TOGETHER)
        early = [frames for frames, _ in known if frames < SHORT * budget]
        if early:
            reached = " to ".join(dict.fromkeys([_frames(min(early)), _frames(max(early))]))
            short.append(f"{task} {len(early)} of {len(seeds)} seeds at {reached}")
    notes = []
    if unscored:
        notes.append(f"no score within {_frames(budget)} frames: {'; '.join(unscored)}")
    if short:
        notes.append(
            f"stopped before {_frames(budget)} frames and counted with their last score: "
            + ", ".join(short)
        )
    seeds = {task: len(values) for task, values in scores.items()}
    return AgentScores(name, protocol, source, scores, seeds, curves, tuple(notes))


def _final(run: Run, frames: float) -> tuple[int, float] | None:
    """Frames and return of the last evaluation within a number of frames."""
    within = [pair for pair in zip(run.frames, run.returns, strict=True) if pair[0] <= frames]
    return within[-1] if within else None


def _curve(runs: Sequence[Run], tolerance: float) -> Curve:
    places: list[int] = []
    columns: list[list[float]] = []
    points = (
        (x, i, y)
        for i, run in enumerate(runs)
        for x, y in zip(run.frames, run.returns, strict=True)
    )
    for frames, index, value in sorted(points):
        if not places or frames - places[-1] > tolerance:
            places.append(frames)
            columns.append([np.nan] * len(runs))
        columns[-1][index] = value
    return Curve(np.array(places), np.array(columns).T)


def _frames(number: float) -> str:
    return f"{number / 1e6:.3g}M"
