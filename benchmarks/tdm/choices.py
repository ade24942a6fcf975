"""Which switches of the token-level model are best, by seeds that no experiment reports.

Each method is the preset's model with one switch turned; "default" is the preset's own.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from benchmarks.tdm import specialist
from benchmarks.tdm.presets import Preset
from benchmarks.tdm.work import Cell, Work

SEEDS = (0,)
"""Seeds of these cells, whatever seeds the experiments have."""
SWITCHES = {
    "tokeniser": ("uniform", "mu_law", "symlog"),
    "decode": ("mean", "sample", "argmax"),
    "order": ("parallel", "autoregressive"),
    "embedding": ("fourier", "bins"),
}
"""Values of each switch."""


def cells(preset: Preset) -> list[Cell]:
    """The default and every other value of every switch, on the first task of the preset."""
    methods = ["default"]
    for name, values in SWITCHES.items():
        methods += [value for value in values if value != getattr(preset.tdm, name)]
    return [
        Cell("choices", preset.tasks[0], method, -1, seed) for method in methods for seed in SEEDS
    ]


def compute(work: Work, cell: Cell) -> dict[str, Any]:
    """Fits and measures the model as ``specialist`` does."""
    turned = {name: cell.method for name, values in SWITCHES.items() if cell.method in values}
    tdm = dataclasses.replace(work.preset.tdm, **turned)
    other = work._replace(preset=dataclasses.replace(work.preset, tdm=tdm))
    return specialist.compute(other, cell._replace(method="tdm"))
