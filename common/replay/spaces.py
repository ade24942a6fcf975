"""Spaces of what was recorded, from the description that lies beside the episodes."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from common.errors import UserError
from common.export import specs_from_json
from common.spaces import ActionPart, ActionSpec


def recorded_actions(record: Mapping[str, Any], source: pathlib.Path) -> ActionSpec:
    """Returns the flat action vector that a record describes under "actions".

    Args:
        record: As ``common.run.recorded`` writes it, with what ``specs_to_json`` returns.
        source: Its file, for the message.

    Raises:
        UserError: It describes none.
    """
    try:
        actions = specs_from_json({"observations": {}, "actions": record["actions"]})[1]
        action_space(actions)  # Whatever is wrong with it shows here.
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        words = " ".join(str(error).split())
        raise UserError(f"{source} is damaged ({words}); restore it, or delete it") from error
    return actions


def action_space(spec: ActionSpec) -> gymnasium.Space:
    """Returns the space that ``common.spaces.action_spec`` describes by this: its inverse."""
    places: dict[tuple[str, ...], list[ActionPart]] = {}
    for part in spec.parts:
        places.setdefault(part.place, []).append(part)
    whole: dict[str, Any] = {}
    for place, parts in places.items():
        *outer, last = ("", *place)
        inner = whole
        for key in outer:
            inner = inner.setdefault(key, {})
        inner[last] = _leaf(parts)
    return _as_space(whole[""])


def _leaf(parts: list[ActionPart]) -> gymnasium.Space:
    first, kind = parts[0], np.dtype(parts[0].dtype)
    if first.path != first.place:
        sizes, starts = ([getattr(p, n) for p in parts] for n in ("size", "start"))
        shaped = (np.reshape(np.array(x, kind), first.shape) for x in (sizes, starts))
        nvec, start = shaped
        return gymnasium.spaces.MultiDiscrete(nvec, kind.type, start=start)
    if first.kind == "categorical":
        return gymnasium.spaces.Discrete(first.size, start=first.start, dtype=kind.type)
    low, high = (np.reshape(np.array(x, kind), first.shape) for x in (first.low, first.high))
    return gymnasium.spaces.Box(low, high, first.shape, kind.type)


def _as_space(tree: Any) -> gymnasium.Space:
    if not isinstance(tree, dict):
        return tree
    return gymnasium.spaces.Dict({key: _as_space(child) for key, child in tree.items()})
