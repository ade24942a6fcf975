"""Experiment 1: a model of one body, against other models on the same data, and chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.tdm import trial
from benchmarks.tdm.presets import Preset
from benchmarks.tdm.trial import act_randomly, contender, fitted_words, judge, learn
from benchmarks.tdm.work import Cell, Work, load
from common.replay.bodies import Bodies

METHODS = (*trial.METHODS, "random")


def cells(preset: Preset, seeds: Sequence[int]) -> list[Cell]:
    """Every task, contender and seed."""
    return [
        Cell("specialist", task, method, -1, seed)
        for task in preset.tasks
        for method in METHODS
        for seed in seeds
    ]


def compute(work: Work, cell: Cell) -> dict[str, Any]:
    """Fits the contender on the task's data and measures it."""
    split = load(work, cell.task)
    if cell.method == "random":
        return act_randomly(work, cell, split)
    episodes = {cell.task: split.training}
    bodies = Bodies(episodes)
    sizes = bodies.observation_size, bodies.action_size
    model = contender(work.preset, cell.method, sizes)
    progress = learn(work, model, cell.method, episodes, cell)
    return fitted_words(progress) | judge(work, model, progress.fitted, cell, split, sizes)
