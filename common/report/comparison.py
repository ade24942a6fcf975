"""Runs of one task beside published agents: the same frames, intervals, areas, who is ahead."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from common.config import update
from common.envs import EnvConfig
from common.envs.registry import action_repeat
from common.errors import UserError
from common.published.curves import (
    Agent,
    Inputs,
    Point,
    Protocol,
    Target,
    find_target,
    published_agents,
)
from common.published.statistics import Difference, area, difference
from common.report.agents import agent_name, in_words, same_options
from common.report.data import RunData

LATE = 0.02
"""Share of its frames by which a published return may be later than a run's last evaluation."""


class Mark(NamedTuple):
    """One place of the frames where both were evaluated.

    Attributes:
        ours: Ours there, between two evaluations on a straight line.
        theirs: What was published.
    """

    ours: Point
    theirs: Point

    @property
    def difference(self) -> Difference:
        """How far ours is above theirs."""
        return difference(self.ours, self.theirs)


@dataclasses.dataclass(frozen=True)
class Beside:
    """Ours beside one published agent.

    Attributes:
        agent: The agent.
        marks: Where both are known, by frames; at least one.
    """

    agent: Agent
    marks: tuple[Mark, ...]

    @property
    def last(self) -> Mark:
        """The newest of the marks."""
        return self.marks[-1]

    def areas(self) -> tuple[float, float]:
        """Mean returns of ours and of theirs over the frames from the first mark to the last.

        Both are straight between the marks, so that neither has more places than the other.
        NaN, NaN of a single mark.
        """
        frames = [mark.theirs.frames for mark in self.marks]
        ours = area(frames, [mark.ours.mean for mark in self.marks])
        return ours, area(frames, [mark.theirs.mean for mark in self.marks])


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Runs of one agent on one task, which are seeds of one curve, beside others.

    Attributes:
        label: The agent that was run, and what tells it from others that stand beside it.
        target: The task.
        inputs: What it sees.
        seeds: Seed of every run, as text ``[S]``.
        protocol: How the runs' returns came about.
        points: Their curve, mean over seeds, from where all have begun to where one ends.
        random: Return of the random policy; NaN where it was not scored.
        others: Those who are known where the runs are, the highest return first.
        elsewhere: Published agents without a return at frames that the runs have reached.
        remarks: What a reader must know of the runs.
    """

    label: str
    target: Target
    inputs: Inputs
    seeds: tuple[str, ...]
    protocol: Protocol
    points: tuple[Point, ...]
    random: float
    others: tuple[Beside, ...]
    elsewhere: tuple[str, ...]
    remarks: tuple[str, ...]


def comparable(run: RunData) -> tuple[str, Target, Inputs]:
    """Returns who was run, on which task, and what it saw: what runs of one curve share.

    Who was run is said as ``agent_name`` says it.

    Raises:
        UserError: Nobody has published that task with that input, or the run has no evaluation.
    """
    name, env = str(run.settings.get("task", "")), run.settings.get("env")
    target = find_target(name)
    if target is None:
        what = f"the task {name!r}" if name else "this run, whose configuration names no task"
        raise UserError(f"{run.logdir}: nothing published is known of {what}")
    if run.clock != "frames":
        raise UserError(f"{run.logdir}: it learned from data and counts updates, not frames")
    env = env if isinstance(env, Mapping) else {}
    pixels, state = bool(env.get("pixels", True)), bool(env.get("state", False))
    if target.suite == "dmc" and pixels is state:
        both = "both pixels and state" if pixels else "neither pixels nor state"
        raise UserError(f"{run.logdir}: its agent sees {both}, of which nothing is published")
    if not _finite_evaluations(run)[0].size:
        raise UserError(f"{run.logdir}: there is no evaluation to compare yet")
    inputs: Inputs = "pixels" if pixels or target.suite == "atari" else "state"
    return agent_name(run.settings) or "Run", target, inputs


class Alike(NamedTuple):
    """Runs that are seeds of one curve.

    Attributes:
        runs: They differ in seeds, and in what changes nothing of what is learned.
        apart: What tells them from others of the same agent, task and input; "" for nothing.
    """

    runs: tuple[RunData, ...]
    apart: str = ""


def curves(runs: Sequence[RunData]) -> list[Alike]:
    """Sorts runs into those that are seeds of one curve, in their order.

    Raises:
        UserError: As ``comparable``.
    """
    kinds: dict[object, list[RunData]] = {}
    for run in runs:
        kinds.setdefault(comparable(run), []).append(run)
    found = []
    for alike in kinds.values():
        groups = same_options([run.settings for run in alike])
        words = in_words([alike[group[0]].settings for group in groups])
        for group, apart in zip(groups, words, strict=True):
            found.append(Alike(tuple(alike[place] for place in group), apart))
    return found


def compare(runs: Sequence[RunData], apart: str = "") -> Comparison:
    """Puts runs beside published agents.

    Args:
        runs: Runs of one agent with the same options, task and input, one for each seed.
        apart: What tells them from others that stand beside them, for their label.

    Raises:
        UserError: As ``comparable``; or they are no seeds of one curve; or no frames are shared
            by all of them.
    """
    if len(curves(runs)) > 1:
        raise UserError(
            "runs of different agents, options, tasks or inputs are no seeds of one curve"
        )
    agent, target, inputs = comparable(runs[0])
    frames, returns = _on_one_grid(runs)
    others, elsewhere = [], []
    for one in published_agents(target, inputs):
        marks = tuple(
            Mark(_point(_at(frames, returns, theirs.frames), theirs.frames), theirs)
            for theirs in one.points
            if frames[0] <= theirs.frames <= frames[-1] * (1 + LATE)
        )
        if marks:
            others.append(Beside(one, marks))
        else:
            elsewhere.append(one.name)
    random = [run.metrics["random/return_mean"].last for run in runs
              if "random/return_mean" in run.metrics]  # fmt: skip
    return Comparison(
        f"{agent} ({apart})" if apart else agent, target, inputs,
        tuple(str(run.settings.get("seed", "?")) for run in runs),
        _protocol(runs[0].settings, target),
        tuple(_point(values, place) for place, values in zip(frames, returns.T, strict=True)),
        float(np.mean(random)) if random else math.nan,
        tuple(sorted(others, key=lambda one: (-one.last.theirs.frames, -one.last.theirs.mean))),
        tuple(elsewhere),
        tuple(_remarks(runs, frames)),
    )  # fmt: skip


def _finite_evaluations(run: RunData) -> tuple[np.ndarray, np.ndarray]:
    """Frames and mean returns of the evaluations ``[V]``, the newest where one was repeated."""
    curve = run.metrics.get("eval/return_mean")
    if curve is None:
        return np.zeros(0), np.zeros(0)
    known = np.isfinite(curve.values)
    newest = dict(zip(curve.frames[known], curve.values[known], strict=True))
    frames = np.array(sorted(newest))
    return frames, np.array([newest[place] for place in frames])


def _on_one_grid(runs: Sequence[RunData]) -> tuple[np.ndarray, np.ndarray]:
    """Returns frames ``[P]`` where one was evaluated and all are known, and returns ``[S, P]``."""
    curves = [_finite_evaluations(run) for run in runs]
    first, last = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    frames = np.unique(np.concatenate([x for x, _ in curves]))
    frames = frames[(frames >= first) & (frames <= last)]
    if not len(frames):
        raise UserError("these runs have no frames in common; compare them one by one")
    return frames, np.stack([np.interp(frames, *curve) for curve in curves])


def _at(frames: np.ndarray, returns: np.ndarray, place: float) -> np.ndarray:
    return np.array([np.interp(place, frames, row) for row in returns])


def _point(values: np.ndarray, place: float) -> Point:
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return Point(float(place), float(np.mean(values)), sd, len(values))


def _protocol(settings: Mapping[str, Any], target: Target) -> Protocol:
    """How a run's returns came about, as far as its configuration says it."""
    episodes = _episodes(settings)
    amount = f"{episodes} " if isinstance(episodes, int) else ""
    several = "" if episodes == 1 else "s"
    returns = f"{amount}evaluation episode{several} by the policy's mode"
    found = settings.get("env")
    try:
        env = update(EnvConfig(), found if isinstance(found, Mapping) else {})
    except UserError:  # A folder of another version, or a damaged one.
        return Protocol("", returns)
    world = []
    if target.suite == "atari":
        world.append(f"sticky actions with probability {env.sticky:g}" if env.sticky
                     else "no sticky actions")  # fmt: skip
        world.append("all 18 actions" if env.all_actions else "those actions that the game uses")
    if env.challenge != EnvConfig().challenge:
        world.append("with challenges of env.challenge, which the others do not have")
    repeat = action_repeat(str(settings["task"]), env.action_repeat)
    return Protocol(str(repeat), returns, ", ".join(world))


def _episodes(settings: Mapping[str, Any]) -> Any:
    run = settings.get("run", {})
    return run.get("eval_episodes") if isinstance(run, Mapping) else None


def _remarks(runs: Sequence[RunData], frames: np.ndarray) -> list[str]:
    remarks = []
    seeds = [str(run.settings.get("seed", "?")) for run in runs]
    again = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if again:
        remarks.append(f"several of these runs have the seed {', '.join(again)}")
    lasts = [_finite_evaluations(run)[0][-1] for run in runs]
    if max(lasts) > frames[-1]:
        short = runs[int(np.argmin(lasts))].logdir
        remarks.append(f"the curve ends at {frames[-1]:,.0f} frames, where {short} ends")
    amounts = sorted({str(_episodes(run.settings)) for run in runs})
    if len(amounts) > 1:
        remarks.append(f"the runs differ in run.eval_episodes: {', '.join(amounts)}")
    return remarks
