"""Experiment 2: a few episodes of a body that is new, with and without experience of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.tdm import pretrain
from benchmarks.tdm.presets import Preset
from benchmarks.tdm.trial import fitted_words, judge, learn
from benchmarks.tdm.work import Cell, Work, choose, load

METHODS = ("fine-tuned", "scratch")
"""The generalist after some more updates, and the same model with new weights."""


def cells(preset: Preset, seeds: Sequence[int]) -> list[Cell]:
    """Every held-out task, number of episodes, method and seed."""
    return [
        Cell("few-shot", task, method, shots, seed)
        for task in pretrain.targets(preset)
        for shots in preset.shots
        for method in METHODS
        for seed in seeds
    ]


def compute(work: Work, cell: Cell) -> dict[str, Any]:
    """Learns from the episodes and measures what came of it.

    Both methods learn from the same episodes; the one from scratch takes the scale of its
    numbers from them, the other keeps that of the family.
    """
    family = pretrain.targets(work.preset)[cell.task]
    model, sizes = pretrain.generalist(work, family, "tdm"), pretrain.sizes(work, family)
    split = load(work, cell.task)
    episodes = {cell.task: choose(split.training, cell.shots, cell.seed)}
    if cell.method == "fine-tuned":
        start = pretrain.read_weights(work, family, "tdm", cell.seed)
        progress = learn(work, model, "fine-tuned", episodes, cell, start)
    else:
        progress = learn(work, model, "tdm", episodes, cell)
    return fitted_words(progress) | judge(work, model, progress.fitted, cell, split, sizes)
