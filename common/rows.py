"""Rows of experience, and the names of their entries.

A *row* is one time step of experience. ``action[t]`` is the action that led to
``observation[t]``; ``reward[t]`` arrived with it. ``is_first`` marks the row of a
reset (its action and reward are zero), ``is_last`` the last row of an episode,
and ``is_terminal`` a last row after which the environment really ended: a time
limit sets ``is_last`` only. All other entries are observations, but for those whose
name starts with ``LOG_PREFIX``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from common.spaces import ActionSpec, ObservationSpec

Value = TypeVar("Value")

FLAGS = ("is_first", "is_last", "is_terminal")
"""Entries of type bool."""
ROW_KEYS = ("action", "reward", *FLAGS)
"""Entries that every row has; no observation may have such a name."""
LOG_PREFIX = "log/"
"""Entries of this name are for people: agents and replay never see them."""

Specs = dict[str, tuple[tuple[int, ...], Any]]
"""Shape and type of every entry of one row."""


def without_log(rows: Mapping[str, Value]) -> dict[str, Value]:
    """Returns the entries that agents and replay see."""
    return {key: value for key, value in rows.items() if not key.startswith(LOG_PREFIX)}


def row_specs(observations: Mapping[str, ObservationSpec], actions: ActionSpec) -> Specs:
    """Returns shape and type of every entry of one row."""
    specs: Specs = {key: (spec.shape, spec.dtype) for key, spec in observations.items()}
    specs |= {"action": ((actions.size,), np.float32), "reward": ((), np.float32)}
    return specs | {key: ((), bool) for key in FLAGS}
