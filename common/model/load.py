"""World models that were trained and exported."""

from __future__ import annotations

import pathlib

import jax

from common.agent import NORMALISERS
from common.config import update
from common.errors import UserError
from common.export import check_params, read_export
from common.model.config import WorldModelConfig
from common.model.world_model import WorldModel, world_model
from common.types import Params


def load_world_model(path: str | pathlib.Path) -> tuple[WorldModel, Params]:
    """Loads the world model of a run folder or an exported file.

    Needs neither the environment nor the replay nor the optimizer. The model keeps the
    statistics of vectors that it learned with as its own.

    Returns:
        The model and its parameters.

    Raises:
        UserError: There is no export, or it is damaged or of another version, or its agent
            learned another kind of model.
    """
    exported = read_export(path)
    if "world_model" not in exported.params:
        raise UserError(f"{path} holds no world model, but {', '.join(exported.params)}")
    values = exported.config.get("world_model")
    if not isinstance(values, dict):
        raise UserError(f"{path} does not say how its world model is built; export it again")
    config = update(WorldModelConfig(), values)
    specs = exported.observations, exported.actions
    model = world_model(config, *specs)
    wanted = {
        "world_model": jax.eval_shape(model.init, jax.random.key(0)),
        NORMALISERS: {"vectors": model.statistics},
    }
    check_params(exported.params, wanted, path)
    params = jax.tree.map(jax.numpy.asarray, exported.params)
    statistics = params.get(NORMALISERS, {}).get("vectors")
    return world_model(config, *specs, statistics), params["world_model"]
