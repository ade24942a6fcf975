"""What the page shows, computed once: tables, charts and files are made from it.

Letters: S seeds, X positions along an axis.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from benchmarks.scores import metrics
from benchmarks.scores.aggregate import Aggregates, TaskScore, aggregate, scored, task_scores
from benchmarks.scores.assemble import LATE, SHORT
from benchmarks.scores.tables import AgentScores, Curve
from benchmarks.suites import Protocol, Suite

_UNKNOWN = "unknown"
_MOST_PROFILE = 8.0
_PROFILE_POINTS = 81
_PROFILE_SAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class Summary:
    """A learning curve over its seeds.

    A seed's last return stands until its next one, also after it stopped, so that the
    curve ends where the final score does.

    Attributes:
        frames: Simulator steps ``[X]``.
        mean: Mean over the seeds that have begun ``[X]``.
        low: The lowest of them ``[X]``; equal to the mean where only that is known.
        high: The highest of them ``[X]``; likewise.
        runs: Curves behind it; 1 where only the mean is known.
        early: How many of them stop before the last frames.
    """

    frames: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    runs: int
    early: int


@dataclasses.dataclass(frozen=True)
class Profile:
    """Share of runs that score above each threshold, averaged over tasks.

    Attributes:
        share: The share ``[X]``.
        low: Where its 95% interval begins ``[X]``; None where seeds are not known one by one.
        high: Where it ends ``[X]``; None likewise.
    """

    share: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Profiles:
    """Performance profiles of all agents on one scale.

    Attributes:
        scale: What counts as 1, such as "gamer".
        thresholds: Normalised scores ``[X]``.
        by_agent: The profile of each agent that has scores.
    """

    scale: str
    thresholds: np.ndarray
    by_agent: dict[str, Profile]


@dataclasses.dataclass(frozen=True)
class Result:
    """One agent as the page shows it.

    Attributes:
        agent: Its scores.
        aggregates: What follows from them.
        tasks: A row for each task that it has, by name.
        curves: Its learning curves, by task.
        differences: How its protocol differs from the benchmark's, or what of it is unknown;
            empty where it is the same.
        focus: Whether the page shows it in detail, the others beside it.
        color: Number of its colour.
    """

    agent: AgentScores
    aggregates: Aggregates
    tasks: dict[str, TaskScore]
    curves: dict[str, Summary]
    differences: tuple[str, ...]
    focus: bool
    color: int

    @property
    def name(self) -> str:
        """Name of the agent."""
        return self.agent.name

    @property
    def apart(self) -> bool:
        """Whether it does not rank with the others: another protocol, or tasks missing."""
        return bool(self.differences or self.aggregates.missing)

    @property
    def resampled(self) -> bool:
        """Whether all its scores are known seed by seed, so that they can be resampled."""
        return all(map(self.agent.per_seed, self.tasks))

    @property
    def remark(self) -> str:
        """Two words on its protocol, for labels; "" where it is the benchmark's."""
        if not self.differences:
            return ""
        known = [words for words in self.differences if _UNKNOWN not in words]
        return "other protocol" if known else "protocol not fully known"

    @property
    def label(self) -> str:
        """Its name, with what a reader of a chart must know."""
        return f"{self.name} ({self.remark})" if self.remark else self.name


def evaluate(
    agents: Sequence[AgentScores], suite: Suite, samples: int, seed: int = 0
) -> list[Result]:
    """Computes everything that the page says about agents.

    Args:
        agents: The agents.
        suite: The benchmark.
        samples: Resamples of the bootstrap; 0 for no intervals.
        seed: Seed of the bootstrap.

    Returns:
        Those that rank with each other first; among them those in focus first.
    """
    focus = {agent.name for agent in agents if not agent.published} or _best_known(agents, suite)
    results = []
    for color, agent in enumerate(sorted(agents, key=lambda agent: agent.name not in focus)):
        curves = {task: agent.curves[task] for task in suite.tasks if task in agent.curves}
        budget = max(suite.protocol.frames, agent.protocol.frames or 0) * LATE
        rows = task_scores(agent, suite, samples if agent.name in focus else 0, seed)
        results.append(
            Result(
                agent=agent,
                aggregates=aggregate(agent, suite, samples, seed),
                tasks={row.task: row for row in rows},
                curves={task: summarize(curve, budget) for task, curve in curves.items()},
                differences=differences(agent.protocol, suite.protocol),
                focus=agent.name in focus,
                color=color,
            )
        )
    return sorted(results, key=lambda result: result.apart)


def _best_known(agents: Sequence[AgentScores], suite: Suite) -> set[str]:
    """The published agent to show in detail where there is no other one."""
    best = max(
        agents,
        key=lambda agent: (
            bool(agent.scores) and all(map(agent.per_seed, scored(agent, suite))),
            agent.protocol == suite.protocol,
        ),
        default=None,
    )
    return {best.name} if best else set()


def differences(protocol: Protocol, own: Protocol) -> tuple[str, ...]:
    """Says in words how a protocol differs from the benchmark's own."""
    words = []
    if protocol.frames != own.frames:
        frames = f"{protocol.frames / 1e6:g}M" if protocol.frames else _UNKNOWN
        words.append(f"frames {frames} instead of {own.frames / 1e6:g}M")
    if protocol.returns != own.returns:
        words.append(f"{protocol.returns or _UNKNOWN} returns instead of {own.returns}")
    if protocol.sticky != own.sticky:
        words.append(f"sticky actions {_known(protocol.sticky)} instead of {_known(own.sticky)}")
    if protocol.actions != own.actions:
        words.append(f"action set {_known(protocol.actions)} instead of {_known(own.actions)}")
    if protocol.inputs != own.inputs:
        words.append(f"{protocol.inputs} instead of {own.inputs}")
    words += [f"challenge: {one}" for one in protocol.challenges]
    return tuple(words)


def _known(value: float | str | None) -> str:
    return _UNKNOWN if value is None else str(value)


def summarize(curve: Curve, budget: float = math.inf) -> Summary:
    """Averages a learning curve over its seeds, up to a number of frames."""
    within = np.asarray(curve.frames) <= budget
    returns = np.asarray(curve.returns, float)[:, within]
    steps = np.asarray(curve.frames, float)[within]
    finite = np.isfinite(returns)
    begun = np.flatnonzero(finite.any(0))
    if not len(begun):
        empty = np.zeros(0)
        return Summary(empty, empty, empty, empty, len(returns), len(returns))
    newest = np.maximum.accumulate(np.where(finite, np.arange(finite.shape[1]), 0), 1)
    held = np.take_along_axis(returns, newest, 1)[:, begun[0] : begun[-1] + 1]
    frames = steps[begun[0] : begun[-1] + 1]
    ends = steps[newest[:, -1]]
    early = int(np.sum((ends < SHORT * frames[-1]) | ~finite.any(1)))
    mean, low, high = np.nanmean(held, 0), np.nanmin(held, 0), np.nanmax(held, 0)
    return Summary(frames, mean, low, high, len(returns), early)


def profiles(
    results: Sequence[Result], suite: Suite, samples: int, seed: int = 0
) -> list[Profiles]:
    """Performance profiles on every scale that the benchmark has.

    Args:
        results: The agents.
        suite: The benchmark.
        samples: Resamples of the bootstrap; 0 for no intervals.
        seed: Seed of the bootstrap.
    """
    scales = {scale_name(suite): suite.gamer} | ({"record": suite.record} if suite.record else {})
    drawn = []
    for scale, reference in scales.items():
        scores = {}
        for result in results:
            tasks = list(result.tasks)
            raw = [np.asarray(result.agent.scores[task]) for task in tasks]
            low, high = ([of[task] for task in tasks] for of in (suite.low, reference))
            if tasks:
                scores[result.name] = metrics.normalize(raw, low, high)
        thresholds = np.linspace(0, _upper(list(scores.values())), _PROFILE_POINTS)
        known = {result.name for result in results if result.resampled and samples}
        by_agent = {
            name: _profile(values, thresholds, min(samples, _PROFILE_SAMPLES), seed)
            if name in known
            else Profile(metrics.performance_profile(values, thresholds))
            for name, values in scores.items()
        }
        drawn.append(Profiles(scale, thresholds, by_agent))
    return drawn


def scale_name(suite: Suite) -> str:
    """What a normalised score of 1 is: the "gamer", or the best possible "return" of 1000."""
    return "return of 1000" if suite.name.startswith("dmc") else "gamer"


def _upper(scores: Sequence[Sequence[np.ndarray]]) -> float:
    values = np.concatenate([np.zeros(1), *(task for agent in scores for task in agent)])
    return float(np.clip(math.ceil(np.quantile(values, 0.9)), 1, _MOST_PROFILE))


def _profile(
    scores: Sequence[np.ndarray], thresholds: np.ndarray, samples: int, seed: int
) -> Profile:
    """A profile with pointwise intervals by the bootstrap over seeds.

    How many of S redrawn seeds lie above a threshold is binomial, so that no seed need be
    drawn.
    """
    generator = np.random.default_rng(seed)
    total = np.zeros((samples, len(thresholds)))
    for values in scores:
        share = metrics.performance_profile([values], thresholds)
        total += generator.binomial(len(values), share, total.shape) / len(values)
    low, high = np.quantile(total / len(scores), (0.025, 0.975), axis=0)
    return Profile(metrics.performance_profile(scores, thresholds), low, high)
