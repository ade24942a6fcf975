"""Experiment 3: a body that the generalist never saw, and dynamics against policy.

No figure of "generalist", "policy" and "policy-best" has seen an episode of the target;
"specialist" learned from all of them, and "random" acts at random.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from benchmarks.tdm import play, pretrain, specialist
from benchmarks.tdm.presets import Preset
from benchmarks.tdm.trial import EPISODE_SEED, judge, rounded
from benchmarks.tdm.work import Cell, Work, load

METHODS = ("generalist", *pretrain.POLICIES, "specialist", "random")


def cells(preset: Preset, seeds: Sequence[int]) -> list[Cell]:
    """Every held-out task, method and seed."""
    return [
        Cell("zero-shot", task, method, -1 if method == "specialist" else 0, seed)
        for task in pretrain.targets(preset)
        for method in METHODS
        for seed in seeds
    ]


def compute(work: Work, cell: Cell) -> dict[str, Any]:
    """Measures one method on a held-out body."""
    if cell.method in ("specialist", "random"):
        method = "tdm" if cell.method == "specialist" else "random"
        return specialist.compute(work, cell._replace(method=method))
    split = load(work, cell.task)
    family = pretrain.targets(work.preset)[cell.task]
    name = "tdm" if cell.method == "generalist" else cell.method
    model = pretrain.generalist(work, family, name)
    fitted = pretrain.read_weights(work, family, name, cell.seed)
    if cell.method == "generalist":
        return judge(work, model, fitted, cell, split, pretrain.sizes(work, family))
    begin = time.monotonic()
    returns = play.returns(
        cell.task,
        work.preset.env(cell.task),
        work.preset.episodes,
        EPISODE_SEED + cell.seed,
        lambda actions: play.cloning(model, actions),
        fitted,
    )
    return {
        "returns": rounded(returns),
        "best_return": work.preset.best_return,
        "play_seconds": round(time.monotonic() - begin, 2),
    }
