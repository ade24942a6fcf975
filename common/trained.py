"""Trained agents that come with the package, by name: ``zoo:cartpole_swingup``.

``common/zoo/`` holds an export of each, and ``agents.json``: where they come from, and how well
they do. ``python -m benchmarks.zoo`` adds one.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from common.errors import UserError, nearest

FOLDER = pathlib.Path(__file__).parent / "zoo"
INDEX = "agents.json"
PREFIX = "zoo:"


class Trained(NamedTuple):
    """One agent.

    Attributes:
        agent: Its program, "dreamer" or "planet".
        task: What it was trained on.
        command: That trained it.
        frames: Simulator steps that it learned from.
        curve: ``[frames, mean return]`` of every evaluation while it learned.
        episodes: Episodes of the last evaluation, with environments of seed ``seed``.
        seed: Seed of that evaluation.
        mean: Mean return of them.
        deviation: Standard deviation of them.
        least: The smallest of them.
        random: Mean return of a random policy; None where it was not played.
        milliseconds: Of one action, the median, on one core.
        machine: Where that was measured.
        versions: Lines of what it was trained with.
        challenges: Options of ``env.challenge`` that its environments had on.
    """

    agent: str
    task: str
    command: str
    frames: int
    curve: list[list[float]]
    episodes: int
    seed: int
    mean: float
    deviation: float
    least: float
    random: float | None
    milliseconds: float
    machine: str
    versions: list[str]
    challenges: Sequence[str] = ()


def trained_agents(folder: pathlib.Path = FOLDER) -> dict[str, Trained]:
    """Returns all agents by name, in the order of their names."""
    entries: Mapping[str, dict] = json.loads((folder / INDEX).read_text())
    return {name: Trained(**entries[name]) for name in sorted(entries)}


def refuse_name(*words: str) -> None:
    """Raises a UserError where ``zoo:NAME`` stands for a folder of a run."""
    for word in words:
        if word.startswith(PREFIX):
            raise UserError(
                f"--logdir {word} names a trained agent of the package, for eval, export, "
                "record --policy and load; here name a run's folder: --logdir runs/..."
            )


def located(path: str | pathlib.Path) -> pathlib.Path:
    """Returns where an agent lies: the path itself, or the export of ``zoo:NAME``.

    Raises:
        UserError: There is no agent of that name.
    """
    word = str(path)
    if not word.startswith(PREFIX):
        return pathlib.Path(path)
    name = word.removeprefix(PREFIX)
    names = trained_agents()
    if name not in names:
        raise UserError(f"'dreamer zoo' lists no trained agent {name!r}{nearest(name, names)}")
    return FOLDER / f"{name}.npz"
