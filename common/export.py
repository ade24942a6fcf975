"""One file that holds a trained agent: parameters, configuration and spaces.

An export is a ``.npz`` without pickled objects. ``meta`` holds JSON: the agent's name,
its configuration, and the flat observation and action specs; every other entry is one
parameter, named by its path in the nested parameters.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from common.agent import EXPLORER, NORMALISERS, SMALL_ACTOR
from common.config import to_dict
from common.errors import UserError
from common.files import replacing
from common.npz import read_npz
from common.spaces import ActionPart, ActionSpec, ObservationSpec, TaskSpec
from common.trained import located
from common.types import Params

EXPORT = "export.npz"
"""Name of the export inside a run folder."""
_META = "meta"
_SEPARATOR = "|"
_LATER = ("critic",)
"""What version 0.1 left out; whoever needs it says so."""
_DAMAGE = (
    ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
)  # fmt: skip


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
        params: Nested mappings of arrays, as ``Agent.params`` returns them; what only explores is
            left out.

    Raises:
        common.files.WriteError: The disk is full, or the folder may not be written.
    """
    meta = {"agent": agent, "config": to_dict(config)} | specs_to_json(observations, actions)
    arrays = {_META: np.frombuffer(json.dumps(meta).encode(), np.uint8)}
    params = {name: value for name, value in params.items() if name != EXPLORER}
    arrays |= {_SEPARATOR.join(keys): np.asarray(leaf) for keys, leaf in _leaves(params)}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def read_export(path: str | pathlib.Path) -> Exported:
    """Reads an export, the one in a run folder, or one that came with the package, "zoo:NAME".

    Raises:
        UserError: There is none, or it is damaged, or a parameter is not finite.
    """
    path = located(path)
    if path.is_dir():
        path = path / EXPORT
    if not path.exists():
        raise UserError(
            f"there is no trained agent at {path}; expected a run folder with {EXPORT}, which "
            "training writes at every checkpoint, or an exported file"
        )
    try:
        arrays = read_npz(path)
        meta = json.loads(arrays.pop(_META).tobytes())
        observations, actions = specs_from_json(meta)
        _check_specs(observations, actions)
        exported = Exported(
            str(meta["agent"]), dict(meta["config"]), observations, actions,
            _nested({name: _widened(array) for name, array in arrays.items()}),
        )  # fmt: skip
    except _DAMAGE as error:
        words = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path} is damaged or no export ({words}); export it again") from error
    for name, array in arrays.items():
        if not _finite(array):
            raise UserError(
                f"{path} holds numbers in {name!r} that are not finite; no agent can act with "
                "them: export it again, from a checkpoint before it diverged"
            )
    return exported._replace(params=_upgraded(exported.params))


def specs_to_json(
    observations: Mapping[str, ObservationSpec], actions: ActionSpec
) -> dict[str, Any]:
    """Returns plain lists and numbers that ``specs_from_json`` turns back."""
    return {
        "observations": {key: dataclasses.asdict(spec) for key, spec in observations.items()},
        "actions": [dataclasses.asdict(part) for part in actions.parts],
    }


def specs_from_json(data: Mapping[str, Any]) -> tuple[dict[str, ObservationSpec], ActionSpec]:
    """The inverse of ``specs_to_json``."""
    observations = {}
    for key, fields in data["observations"].items():
        spec = ObservationSpec(**_with_tuples(fields))
        tasks = tuple(TaskSpec(*task) for task in spec.tasks)
        observations[key] = dataclasses.replace(spec, tasks=tasks)
    parts = [_with_tuples(part) for part in data["actions"]]
    for part in parts:
        if "dtype" not in part and part["path"] and isinstance(part["path"][-1], int):
            # Version 0.1 left out the shape of a MultiDiscrete, which had one axis.
            part["shape"] = (sum(p["path"][:-1] == part["path"][:-1] for p in parts),)
    return observations, ActionSpec(tuple(ActionPart(**part) for part in parts))


def check_params(found: Params, expected: Params, source: str | pathlib.Path) -> None:
    """Compares parameters with those that the configuration of the same file asks for.

    Args:
        found: Nested mappings of arrays.
        expected: Nested mappings of anything with a shape and a type. What is no parameter, or
            only explores, may be missing in ``found``; and whole parts beside a small actor.
        source: The file, for the message.

    Raises:
        UserError: A parameter is missing, or has another shape or type of numbers.
    """
    there = {_SEPARATOR.join(keys): leaf for keys, leaf in _leaves(found)}
    alone = SMALL_ACTOR in found and SMALL_ACTOR in expected
    for keys, leaf in _leaves(expected):
        name = _SEPARATOR.join(keys)
        if name not in there:
            left_out = keys[0] not in found and (keys[0] in _LATER or alone)
            if keys[0] in (NORMALISERS, EXPLORER) or left_out:
                continue
            fault = f"lacks the parameter {name!r} of its configuration"
        else:
            wanted, got = (f"{_kind(x)} {tuple(x.shape)}" for x in (leaf, there[name]))
            if wanted == got:
                continue
            fault = f"holds {name!r} as {got}, its configuration asks for {wanted}"
        raise UserError(f"{source} {fault}; it is damaged, or of another version: export it again")


def _kind(array: Any) -> str:
    return {"b": "bool", "i": "integer", "u": "integer"}.get(np.dtype(array.dtype).kind, "float")


def _finite(array: np.ndarray) -> bool:
    if array.dtype.kind != "f":
        return True
    with np.errstate(over="ignore"):  # It will be computed with as float32.
        return bool(np.isfinite(array.astype(np.float32)).all())


def _nested(arrays: Mapping[str, np.ndarray]) -> Params:
    params: dict[str, Any] = {}
    for name, array in arrays.items():
        *parents, leaf = name.split(_SEPARATOR)
        inner = params
        for parent in parents:
            inner = inner.setdefault(parent, {})
        if leaf in inner:
            raise ValueError(f"{name!r} is a parameter and holds others")
        inner[leaf] = array
    return params


def _check_specs(observations: Mapping[str, ObservationSpec], actions: ActionSpec) -> None:
    """Raises a ValueError where the flat observation or action cannot be one."""
    for key, spec in observations.items():
        rank = {"image": 3, "vector": 1}.get(spec.kind)
        if len(spec.shape) != rank or not _counts(spec.shape) or not _counts(spec.choices):
            raise ValueError(f"observation {key!r} cannot be {spec}")
        if spec.choices and (sum(spec.choices),) != spec.shape or not _whole(spec.starts):
            raise ValueError(f"observation {key!r} cannot be {spec}")
        if spec.tasks and not _tasks_fit(spec, actions.size):
            raise ValueError(f"observation {key!r} cannot be of {spec.tasks}")
    if not observations or not actions.parts:
        raise ValueError("it names no observation or no action")
    for part in actions.parts:
        good = part.kind in ("continuous", "categorical") and _counts((part.size,))
        if good and part.kind == "continuous":
            bounds = np.array([part.low, part.high], np.float64)
            good = bounds.shape == (2, part.size) and np.isfinite(bounds).all()
            good = good and _counts(part.shape) and math.prod(part.shape) == part.size
        if not good or not _whole((part.start,)):
            raise ValueError(f"an action cannot be {part}")


def _tasks_fit(spec: ObservationSpec, actions: int) -> bool:
    sizes, steps = ([task[i] for task in spec.tasks] for i in (1, 2))
    whole = _counts(sizes) and _whole(steps) and max(sizes) <= actions and min(steps) >= 0
    return whole and spec.choices == (len(sizes),) == spec.shape


def _whole(numbers: Sequence[Any]) -> bool:
    return all(type(number) is int for number in numbers)


def _counts(numbers: Sequence[Any]) -> bool:
    return _whole(numbers) and all(number > 0 for number in numbers)


def _widened(array: np.ndarray) -> np.ndarray:
    """Small files hold numbers of 16 bits, with which nobody computes."""
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _upgraded(params: Params) -> Params:
    """Version 0.1 kept the statistics of vectors inside the world model's parameters."""
    model = params.get("world_model", {})
    statistics = model.pop("vectors", None) if isinstance(model, dict) else None
    return params if statistics is None else {**params, NORMALISERS: {"vectors": statistics}}


def _leaves(tree: Params, keys: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    if not isinstance(tree, Mapping):
        return [(keys, tree)]
    return [leaf for key, inner in tree.items() for leaf in _leaves(inner, (*keys, key))]


def _with_tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
