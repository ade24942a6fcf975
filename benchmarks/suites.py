"""The benchmarks: their tasks, their protocols, and the references that scores are measured by."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Literal

from benchmarks.rwrl.points import POINTS, RWRL_TASKS
from common.published.tables import column, read_scores


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How scores came about; scores of different protocols do not rank together.

    Attributes:
        frames: Simulator steps of training, action repeat included; None where unknown.
        returns: Whether episodes of evaluations or of training were averaged.
        sticky: Probability with which Atari repeats the previous action; None elsewhere.
        actions: Whether Atari offers "all" 18 actions or the "minimal" set; None elsewhere.
        inputs: What the agent sees.
        challenges: Options of ``env.challenge`` that are on, such as "delay.actions 3"; of the
            suite "rwrl" those of every task are its own.
    """

    frames: int | None
    returns: Literal["evaluation", "training"] | None
    sticky: float | None = None
    actions: Literal["all", "minimal"] | None = None
    inputs: Literal["pixels", "state"] = "pixels"
    challenges: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Says it in a line, such as "200M frames, sticky 0.25, 18 actions, evaluation"."""
        words = [f"{self.frames / 1e6:g}M frames" if self.frames else "frames unknown"]
        if self.sticky is not None:
            words.append(f"sticky {self.sticky:g}")
        if self.actions is not None:
            words.append("18 actions" if self.actions == "all" else "minimal actions")
        words.append(self.inputs)
        words += self.challenges
        words.append(f"{self.returns} returns" if self.returns else "returns unknown")
        return ", ".join(words)


@dataclasses.dataclass(frozen=True)
class Suite:
    """One benchmark.

    Attributes:
        name: "atari", "atari100k", "dmc", "dmc_proprio" or "rwrl".
        tasks: Task of the command line by the name that tables use, in their order:
            ``{"Pong": "atari_pong", ...}``.
        protocol: The benchmark's own.
        configs: Presets with which it is run.
        low: Score that counts as 0, by name (a random policy's).
        gamer: Score that counts as 1, by name; of the control suite 1000.
        record: The human world record, by name; empty where there is none.
        options: Further words of the train command, by name, where there are any.
    """

    name: str
    tasks: Mapping[str, str]
    protocol: Protocol
    configs: tuple[str, ...]
    low: Mapping[str, float]
    gamer: Mapping[str, float]
    record: Mapping[str, float]
    options: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


@functools.cache
def suite(name: str) -> Suite:
    """Returns a benchmark by its name, one of ``SUITES``."""
    return SUITES[name]()


def _atari(name: str, protocol: Protocol) -> Suite:
    rows = read_scores(f"{name}_scores.csv")
    records = {game: row for game, row in rows.items() if "human_record" in row}
    return Suite(
        name,
        {game: f"atari_{row['rom']}" for game, row in rows.items()},
        protocol,
        (name,),
        column(rows, "random"),
        column(rows, "human_gamer"),
        column(records, "human_record"),
    )


def _dmc(name: str, preset: str, inputs: Literal["pixels", "state"]) -> Suite:
    rows = read_scores("dmc_scores.csv")
    return Suite(
        name,
        {task: f"dmc_{task}" for task in rows},
        Protocol(1_000_000, "evaluation", inputs=inputs),
        (preset,),
        dict.fromkeys(rows, 0.0),
        dict.fromkeys(rows, 1000.0),
        {},
    )


def _rwrl() -> Suite:
    points = {f"{task}.{point}": (task, point) for task in RWRL_TASKS for point in POINTS}
    return Suite(
        "rwrl",
        {name: f"rwrl_{task}" for name, (task, _) in points.items()},
        Protocol(1_000_000, "evaluation", inputs="state"),
        ("dmc_proprio",),
        dict.fromkeys(points, 0.0),
        dict.fromkeys(points, 1000.0),
        {},
        {name: POINTS[point].words for name, (_, point) in points.items()},
    )


SUITES = {
    "atari": lambda: _atari("atari", Protocol(200_000_000, "evaluation", 0.25, "all")),
    "atari100k": lambda: _atari("atari100k", Protocol(400_000, "evaluation", 0.0, "minimal")),
    "dmc": lambda: _dmc("dmc", "dmc_vision", "pixels"),
    "dmc_proprio": lambda: _dmc("dmc_proprio", "dmc_proprio", "state"),
    "rwrl": _rwrl,
}
"""Builds each benchmark."""
