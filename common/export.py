"""One file that holds a trained agent: parameters, configuration and spaces.

An export is a ``.npz`` without pickled objects. ``meta`` holds JSON: the agent's name,
its configuration, and the flat observation and action specs; every other entry is one
parameter, named by its path in the nested parameters.
"""

from __future__ import annotations

import json
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from common.agent import NORMALISERS
from common.config import to_dict
from common.errors import UserError
from common.files import replacing
from common.spaces import ActionSpec, ObservationSpec, specs_from_json, specs_to_json
from common.types import Params

EXPORT = "export.npz"
"""Name of the export inside a run folder."""
_META = "meta"
_SEPARATOR = "|"


class Exported(NamedTuple):
    """What an export holds.

    Attributes:
        agent: Name of the agent.
        config: Its configuration as nested plain values.
        observations: The flat observation.
        actions: The flat action vector.
        params: Nested parameters as NumPy arrays.
    """

    agent: str
    config: dict[str, Any]
    observations: dict[str, ObservationSpec]
    actions: ActionSpec
    params: Params


def export(
    path: pathlib.Path,
    agent: str,
    config: Any,
    observations: Mapping[str, ObservationSpec],
    actions: ActionSpec,
    params: Params,
) -> None:
    """Writes an export; the file is complete or absent.

    Args:
        path: Where to, ending in ".npz".
        agent: Name of the agent.
        config: Its configuration dataclass.
        observations: The flat observation.
        actions: The flat action vector.
        params: Nested mappings of arrays, as ``Agent.params`` returns them.

    Raises:
        common.files.WriteError: The disk is full, or the folder may not be written.
    """
    meta = {"agent": agent, "config": to_dict(config)} | specs_to_json(observations, actions)
    arrays = {_META: np.frombuffer(json.dumps(meta).encode(), np.uint8)}
    arrays |= {_SEPARATOR.join(keys): np.asarray(leaf) for keys, leaf in _leaves(params)}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def read_export(path: str | pathlib.Path) -> Exported:
    """Reads an export, or the one in a run folder.

    Raises:
        UserError: There is none, or it is damaged.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        path = path / EXPORT
    if not path.exists():
        raise UserError(
            f"there is no trained agent at {path}; expected a run folder with {EXPORT}, which "
            "training writes at every checkpoint, or an exported file"
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        meta = json.loads(arrays.pop(_META).tobytes())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged or no export ({error}); export it again") from error
    params: dict[str, Any] = {}
    for name, array in arrays.items():
        *parents, leaf = name.split(_SEPARATOR)
        inner = params
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[leaf] = array
    observations, actions = specs_from_json(meta)
    return Exported(meta["agent"], meta["config"], observations, actions, _upgraded(params))


def _upgraded(params: Params) -> Params:
    """Version 0.1 kept the statistics of vectors inside the world model's parameters."""
    statistics = params.get("world_model", {}).pop("vectors", None)
    return params if statistics is None else {**params, NORMALISERS: {"vectors": statistics}}


def _leaves(tree: Params, keys: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    if not isinstance(tree, Mapping):
        return [(keys, tree)]
    return [leaf for key, inner in tree.items() for leaf in _leaves(inner, (*keys, key))]
