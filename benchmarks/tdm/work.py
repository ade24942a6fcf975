"""One part of an experiment, its data and its file: what makes a run resumable."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.tdm.presets import Preset
from common.dynamics.s5 import S5Config
from common.errors import UserError
from common.replay.episodes import Episode, read_bodies


class Cell(NamedTuple):
    """One number of a table, before seeds are averaged.

    Attributes:
        experiment: "collect", "choices", "pretrain", "specialist", "few-shot" or "zero-shot".
        task: The task that is played, or the base of a family.
        method: What is tried.
        shots: Episodes of the task that were learned from; -1 for all of them.
        seed: The seed.
    """

    experiment: str
    task: str
    method: str
    shots: int
    seed: int

    def __str__(self) -> str:
        """Says it in a few words."""
        shots = "" if self.shots < 0 else f", {self.shots} episodes"
        return f"{self.experiment}: {self.task}, {self.method}{shots}, seed {self.seed}"

    def path(self, results: pathlib.Path) -> pathlib.Path:
        """The file of its record."""
        shots = "all" if self.shots < 0 else str(self.shots)
        method = re.sub(r"[/:]", "_", self.method)  # Some systems and tools refuse a colon.
        name = f"{self.task}-{method}-{shots}-{self.seed}.json"
        return results / "cells" / self.experiment / name


class Work(NamedTuple):
    """Where everything lies.

    Attributes:
        preset: All numbers.
        data: The collection of episodes.
        results: The folder of results.
    """

    preset: Preset
    data: pathlib.Path
    results: pathlib.Path


Record = dict[str, Any]
"""What is kept of a cell: its five fields, name and digest of the preset, and what was measured."""


LATER: dict[str, Any] = {
    "likelihood": "auto",
    "discount_repeat": 0,
    "bins": 255,
    "unimix": 0.0,
    "cell_layers": 1,
    "prior_layers": 1,
    "posterior_layers": 1,
    "absolute": False,
    "init": "glorot",
    "dyn_scale": 0.0,
    "rep_scale": 0.0,
    "score": "unit_normal",
    "convolutions": "valid",
    "multipliers": (2, 3, 4, 4),
    "kernel": 5,
    "blocks": 8,
    "outer": False,
    "soft_discount": True,
    "decoder_scale": 1.0,
    "elites": 0,
    "std": 1.0,
    "refit_std": False,
    "min_std": 0.0,
    "draw": False,
    "discount": 0.0,
    "value": False,
    "caution": 0.0,
    "policy_candidates": 0,
    "explore": False,
    "s5": dataclasses.asdict(S5Config()),
    "predict_cost": False,
    "cost_scale": 1.0,
}
"""Options that are younger than recorded figures, with the value at which they change nothing."""


def settings(preset: Preset) -> str:
    """A digest of every number that figures depend on; seeds are not among them."""
    values = _without_later(dataclasses.asdict(dataclasses.replace(preset, seeds=())))
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def _without_later(values: Any) -> Any:
    if not isinstance(values, dict):
        return values
    same = {name for name, value in LATER.items() if values.get(name) == value}
    return {name: _without_later(x) for name, x in values.items() if name not in same}


def read_record(work: Work, cell: Cell) -> Record | None:
    """Returns the record of a finished cell; None where there is none yet.

    Raises:
        UserError: It was made with other settings, or is damaged.
    """
    path = cell.path(work.results)
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); remove it") from error
    if record.get("settings") != settings(work.preset):
        raise UserError(
            f"{path} was made with other settings than preset {work.preset.name!r} has now; "
            "choose another --results"
        )
    return record


def write_record(work: Work, cell: Cell, found: Mapping[str, Any]) -> None:
    """Writes the record of a finished cell, all or nothing."""
    path = cell.path(work.results)
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = settings(work.preset)
    record = {**cell._asdict(), "preset": work.preset.name, "settings": digest, **found}
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(temporary, path)


def read_all(results: pathlib.Path) -> list[Record]:
    """Returns the records of all finished cells.

    Raises:
        UserError: There are none, or not all are of the same settings.
    """
    paths = sorted((results / "cells").glob("*/*.json"))
    if not paths:
        raise UserError(f"no results in {results}; run 'specialist' or 'experiments' first")
    records = [json.loads(path.read_text()) for path in paths]
    if len({record["settings"] for record in records}) > 1:
        raise UserError(f"the results in {results} are of different settings; keep those apart")
    return records


class Split(NamedTuple):
    """Episodes of one task.

    Attributes:
        training: To learn from.
        held_back: To measure errors on.
    """

    training: list[Episode]
    held_back: list[Episode]


def load(work: Work, task: str) -> Split:
    """Returns the episodes of a task, in an order that does not depend on the seed.

    Raises:
        UserError: The data has too few episodes of it.
    """
    bodies = _read(work.data)
    if task not in bodies:
        raise UserError(f"{work.data} has no episodes of {task}; collect them first")
    episodes, back = bodies[task], work.preset.held_back
    if len(episodes) <= back:
        raise UserError(
            f"{work.data} has {len(episodes)} episodes of {task}; expected more than the "
            f"{back} that are held back"
        )
    order = np.random.default_rng(0).permutation(len(episodes))
    mixed = [episodes[number] for number in order]
    return Split(mixed[back:], mixed[:back])


def choose(episodes: Sequence[Episode], shots: int, seed: int) -> list[Episode]:
    """Draws a few episodes; those of fewer shots are among those of more.

    Raises:
        UserError: There are not so many.
    """
    if shots > len(episodes):
        raise UserError(f"{shots} episodes of the target are wanted; the data has {len(episodes)}")
    order = np.random.default_rng(seed).permutation(len(episodes))
    return [episodes[number] for number in order[:shots]]


@functools.lru_cache(maxsize=1)
def _read(data: pathlib.Path) -> dict[str, list[Episode]]:
    return read_bodies(data)
