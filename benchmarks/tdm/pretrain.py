"""The generalists: one model and two policies that learn on all members of a family.

"tdm" learns the dynamics from all episodes, "policy" clones the behaviour of the same
episodes, and "policy-best" that of the better half of each member's episodes only, so that
the comparison does not rest on clones of bad behaviour.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks.tdm.clone import Cloned, make_clone
from benchmarks.tdm.contenders import Fitted
from benchmarks.tdm.presets import Family, Preset
from benchmarks.tdm.scale import Scale
from benchmarks.tdm.trial import contender, fitted_words, learn
from benchmarks.tdm.work import Cell, Work, load
from common.errors import UserError
from common.replay.bodies import Bodies
from common.replay.episodes import Episode
from planet.model import PlannedModel

POLICIES = ("policy", "policy-best")
METHODS = ("tdm", *POLICIES)
"""Names of the generalists."""


def cells(preset: Preset, seeds: Sequence[int], methods: Sequence[str] = METHODS) -> list[Cell]:
    """Every family, generalist and seed."""
    return [
        Cell("pretrain", family.base, method, -1, seed)
        for family in preset.families
        for method in methods
        for seed in seeds
    ]


def compute(work: Work, cell: Cell) -> dict[str, Any]:
    """Fits a generalist and keeps its weights beside the records."""
    family = next(one for one in work.preset.families if one.base == cell.task)
    episodes = training(work, family)
    if cell.method == "policy-best":
        episodes = {task: better_half(some) for task, some in episodes.items()}
    name = "generalist" if cell.method == "tdm" else "policy"
    model = generalist(work, family, cell.method)
    progress = learn(work, model, name, episodes, cell)
    path = weights_path(work, family, cell.method, cell.seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    leaves = jax.tree.leaves(progress.fitted)
    with path.open("wb") as file:
        np.savez(file, **{f"{number:04d}": np.asarray(x) for number, x in enumerate(leaves)})
    return fitted_words(progress)


def training(work: Work, family: Family) -> dict[str, list[Episode]]:
    """Episodes of every member that generalists learn from."""
    return {task: load(work, task).training for task in family.training}


def better_half(episodes: Sequence[Episode]) -> list[Episode]:
    """The episodes of the higher returns; of an odd number the larger half."""
    order = np.argsort([-episode["reward"].sum() for episode in episodes], kind="stable")
    return [episodes[number] for number in order[: (len(episodes) + 1) // 2]]


def sizes(work: Work, family: Family) -> tuple[int, int]:
    """Observation and action entries of the largest member."""
    bodies = Bodies(training(work, family))
    return bodies.observation_size, bodies.action_size


def generalist(work: Work, family: Family, method: str) -> PlannedModel | Cloned:
    """Returns a generalist by its name, in the sizes of its family."""
    if method == "tdm":
        return contender(work.preset, "tdm", sizes(work, family))
    return make_clone(work.preset.tdm, work.preset.context, *sizes(work, family))


def weights_path(work: Work, family: Family, method: str, seed: int) -> pathlib.Path:
    """Where the weights of a generalist lie."""
    return work.results / "weights" / f"{family.base}-{method}-{seed}.npz"


def read_weights(work: Work, family: Family, method: str, seed: int) -> Fitted:
    """Returns the parameters of a finished generalist.

    Raises:
        UserError: Its file is missing.
    """
    path = weights_path(work, family, method, seed)
    if not path.is_file():
        record = Cell("pretrain", family.base, method, -1, seed).path(work.results)
        raise UserError(f"{path} is missing; remove {record}, so that it is learned again")
    model = generalist(work, family, method)
    scale = Scale(*(0 for _ in Scale._fields))
    shapes = Fitted(jax.eval_shape(model.init, jax.random.key(0)), scale)
    with np.load(path, allow_pickle=False) as arrays:
        leaves = [arrays[name] for name in sorted(arrays)]
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def targets(preset: Preset) -> Mapping[str, Family]:
    """Every held-out task, and its family."""
    return {task: family for family in preset.families for task in family.targets}
