"""World models that somebody's own code learned, in a file."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from common.agent import NORMALISERS
from common.checks import Options
from common.errors import UserError
from common.export import export
from common.model.config import WorldModelConfig
from common.model.vectors import Statistics, are_counted, vector_functions
from common.model.world_model import WorldModel
from common.types import Params

NAME = "world_model"
"""Of the model in the file's configuration and parameters, and of a file without an agent."""


@dataclasses.dataclass(frozen=True)
class FileConfig(Options):
    """The configuration in a file that holds no agent.

    Attributes:
        world_model: The world model.
    """

    world_model: WorldModelConfig = WorldModelConfig()


def save_world_model(
    path: str | pathlib.Path,
    model: WorldModel,
    params: Params,
    statistics: Statistics | None = None,
) -> None:
    """Writes a world model to one file, which ``load_world_model`` reads.

    The file is complete or absent; its folder is made. It holds no pickled objects, and not the
    model's functions, which follow from what it was built from.

    Args:
        path: Where to; the usual ending is ".npz".
        model: The model.
        params: Its parameters, as ``model.init`` returned them and an optimizer changed them.
        statistics: Of vectors, of a model that standardises, as ``model.track`` returned them;
            None for ``model.statistics``.

    Raises:
        UserError: The parameters or the statistics are not those of such a model, or not
            finite, or the model standardises and there are no statistics yet, or the file
            cannot be written.
    """
    statistics = model.statistics if statistics is None else statistics
    vectors = vector_functions(model.config.vector_transform, model.observations)
    _check("params", params, jax.eval_shape(model.init, jax.random.key(0)))
    _check("statistics", statistics, vectors.init())
    if statistics and not are_counted(statistics):
        raise UserError(
            "the statistics are those of no batch: call model.track before each loss, and pass "
            "what it returned as statistics=..."
        )
    weights = {NAME: params} | ({NORMALISERS: {"vectors": statistics}} if statistics else {})
    weights = jax.tree.map(lambda x: np.asarray(x, np.float32), weights)
    path = pathlib.Path(path).expanduser()
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file in it, such as {path / 'model.npz'}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        export(path, NAME, FileConfig(model.config), model.observations, model.actions, weights)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose another path") from error


def _check(name: str, found: Any, wanted: Any) -> None:
    """Raises a UserError where arrays are not those of the model, or not finite."""
    found, wanted = _flat(name, found), _flat(name, wanted)
    for path in dict.fromkeys([*wanted, *found]):
        if path not in found or path not in wanted:
            fault = "is missing" if path in wanted else "is none of this model's"
            raise UserError(f"{path} {fault}; expected {name} as the model makes them")
        shape, right = np.shape(found[path]), wanted[path].shape
        if shape != right:
            raise UserError(f"{path} has shape {shape}; expected {right}, as the model makes it")
        if not np.isfinite(np.asarray(found[path], np.float32)).all():
            raise UserError(f"{path} holds a NaN or an infinity; save what learned before that")


def _flat(path: str, tree: Any) -> dict[str, Any]:
    if not isinstance(tree, Mapping):
        return {path: tree}
    return {k: x for key, inner in tree.items() for k, x in _flat(f"{path}.{key}", inner).items()}
