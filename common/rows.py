"""Rows of experience, and the names of their entries.

A *row* is one time step of experience. ``action[t]`` is the action that led to
``observation[t]``; ``reward[t]`` arrived with it. ``is_first`` marks the row of a reset
(its action and reward are zero), ``is_last`` the last row of an episode, and
``is_terminal`` a last row after which the environment really ended: a time limit sets
``is_last`` only. ``cost[t]``, where an environment counts what must not be done, arrived
with ``reward[t]``. All other entries are observations, but for those whose name starts with
``LOG_PREFIX``, ``LATENT_PREFIX`` or ``NOTE_PREFIX``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from common.errors import UserError
from common.spaces import ActionSpec, ObservationSpec, flatten_observation

Value = TypeVar("Value")

FLAGS = ("is_first", "is_last", "is_terminal")
"""Entries of type bool."""
COST = "cost"
"""What a step did that it must not, 0 or more; of environments that count it."""
ROW_KEYS = ("action", "reward", COST, *FLAGS)
"""Entries that are no observations and that no observation may be called; all rows have them, but
for the cost."""
LOG_PREFIX = "log/"
"""Entries of this name are for people: agents and replay never see them."""
LATENT_PREFIX = "latent_state/"
"""Entries of this name are an agent's own, the latent state that it inferred of the row. Where
nothing was inferred all of them are 0."""

NOTE_PREFIX = "note/"
"""Entries of this name are an agent's own too: what it found out about the row while it acted, and
sees again whenever the row is replayed. Where nothing was noted all of them are 0."""
EXPLORES = "explores"
"""Whether to explore, which the run tells agents that explore for a number of frames."""

Specs = dict[str, tuple[tuple[int, ...], Any]]
"""Shape and type of every entry of one row."""


def without_log(rows: Mapping[str, Value]) -> dict[str, Value]:
    """Returns the entries that agents and replay see."""
    return {key: value for key, value in rows.items() if not key.startswith(LOG_PREFIX)}


def without_latents(rows: Mapping[str, Value]) -> dict[str, Value]:
    """Returns all but the latent states."""
    return {key: value for key, value in rows.items() if not key.startswith(LATENT_PREFIX)}


def given(rows: Mapping[str, Value]) -> dict[str, Value]:
    """Returns what the environment gave, and nothing that an agent made of it."""
    return {
        key: value
        for key, value in rows.items()
        if not key.startswith((LATENT_PREFIX, NOTE_PREFIX))
    }


def row_specs(
    observations: Mapping[str, ObservationSpec], actions: ActionSpec, cost: bool = False
) -> Specs:
    """Returns shape and type of every entry of one row; with a cost where it is counted."""
    specs: Specs = {key: (spec.shape, spec.dtype) for key, spec in observations.items()}
    specs |= {"action": ((actions.size,), np.float32), "reward": ((), np.float32)}
    specs |= {COST: ((), np.float32)} if cost else {}
    return specs | {key: ((), bool) for key in FLAGS}


def observation_entries(
    observation: Any, specs: Mapping[str, ObservationSpec]
) -> dict[str, np.ndarray]:
    """Turns what an environment returned into what its row holds.

    Args:
        observation: An array or a (nested) dict: images ``[H, W, C]``, uint8, or ``[H, W]``
            where C is 1; choices; numbers of any shape, which become one vector.
        specs: What an agent was trained on.

    Raises:
        UserError: Something is missing, or of another kind.
    """
    flat = _named(observation, specs)
    return {key: _entry(key, np.asarray(flat[key]), spec) for key, spec in specs.items()}


def stacked_entries(
    observation: Any, specs: Mapping[str, ObservationSpec], amount: int
) -> dict[str, np.ndarray]:
    """Does the same with the observations of some environments, whose arrays are ``[N, ...]``."""
    flat = _named(observation, specs)
    result = {}
    for key, spec in specs.items():
        values = np.asarray(flat[key])
        if values.shape[:1] != (amount,):
            raise UserError(
                f"observation {key!r} has shape {values.shape}; expected one for each of the "
                f"{amount} environments"
            )
        result[key] = np.stack([_entry(key, value, spec) for value in values])
    return result


def _named(observation: Any, specs: Mapping[str, ObservationSpec]) -> dict[str, Any]:
    flat = flatten_observation(observation)
    if list(flat) == [""]:
        flat = {next(iter(specs)): flat[""]}
    missing = sorted(specs.keys() - flat.keys())
    if missing:
        raise UserError(
            f"the observation lacks {', '.join(missing)}; the agent was trained on "
            f"{', '.join(specs)}"
        )
    return flat


def _entry(key: str, array: np.ndarray, spec: ObservationSpec) -> np.ndarray:
    if spec.choices and array.size == len(spec.choices):
        return spec.one_hots(key, array)
    image = spec.kind == "image"
    alike = spec.shape in (array.shape, (*array.shape, 1)) if image else True
    if array.size != np.prod(spec.shape) or not alike:
        raise UserError(
            f"observation {key!r} has shape {array.shape}; the agent was trained on {spec.shape}"
        )
    if array.dtype != np.uint8 if image else array.dtype.kind not in "fiub":
        wanted = "uint8, from 0 to 255" if image else "numbers"
        raise UserError(f"observation {key!r} is {array.dtype}; expected {wanted}")
    if not image and not np.isfinite(array).all():
        bad = array[~np.isfinite(array)][0]
        raise UserError(f"observation {key!r} holds {bad}; expected finite numbers")
    return array.reshape(spec.shape).astype(spec.dtype)
