"""Collects the data of the experiments, one task and policy at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.tdm.collect import collect
from benchmarks.tdm.options import Options
from benchmarks.tdm.presets import Preset
from benchmarks.tdm.work import Cell, Work

SEED = 0
"""Seed of the data, the same for all seeds of the experiments."""


def cells(preset: Preset, tasks: Sequence[str]) -> list[Cell]:
    """Every task and policy; ``shots`` is the number of episodes."""
    return [
        Cell("collect", task, policy, episodes, SEED)
        for task in dict.fromkeys(tasks)
        for policy, episodes in preset.policies.items()
    ]


def compute(work: Work, cell: Cell) -> dict[str, Any]:
    """Collects the episodes that are missing."""
    preset = work.preset
    options = Options(
        (cell.task,),
        (cell.method,),
        cell.shots,
        cell.seed,
        work.data,
        preset.env(cell.task),
        preset.collector,
        preset.training,
    )
    return {"returns": collect(options)[0]["returns"]}
