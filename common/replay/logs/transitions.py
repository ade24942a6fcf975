"""What every format of logs comes down to, and how rows are made of it.

An episode of T transitions has T + 1 observations o, and T actions a and rewards r, where a[t] is
chosen on o[t] and leads to o[t + 1] with r[t]. A row here holds the action that *led to* it, so
that a[t] and r[t] belong to row t + 1, and row 0 has zeros:

    ==============  =======  ===========  ===========  =====  =============
    row             0        1            2            ...    T
    ==============  =======  ===========  ===========  =====  =============
    observation     o[0]     o[1]         o[2]         ...    o[T]
    action, reward  0        a[0], r[0]   a[1], r[1]   ...    a[T-1], r[T-1]
    ``is_last``     no       no           no           ...    ended
    ==============  =======  ===========  ===========  =====  =============

Actions are in the units of the environment's action space there, and in [-1, 1] or one-hot here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from common.errors import UserError
from common.replay.episodes import Episode
from common.replay.foreign import ROUNDING, check_episode
from common.rows import row_specs
from common.spaces import ActionPart, ActionSpec, ObservationSpec, flatten_observation


class Transitions(NamedTuple):
    """One episode, or a part of one that begins with a reset.

    Attributes:
        observations: An array ``[T + 1, ...]``, or a nested dict of such.
        actions: ``[T, ...]`` as the environment takes them, or a nested dict.
        rewards: ``[T]``.
        ended: Whether the episode ended after them, rather than its recording.
        terminal: Whether nothing follows, since the task itself ended.
    """

    observations: Any
    actions: Any
    rewards: np.ndarray
    ended: bool
    terminal: bool


def checked_episode(
    source: str,
    read: Callable[[], Transitions],
    observations: Mapping[str, ObservationSpec],
    actions: ActionSpec,
    clip: bool = False,
) -> Episode:
    """Reads one episode as rows of a task, and holds it against the rows that the task has.

    Args:
        source: The log and which of its episodes, for the message.
        read: Returns the episode; it may raise a LookupError, TypeError or ValueError.
        observations: What the task shows.
        actions: The task's flat action vector.
        clip: As of ``flat_actions``.

    Raises:
        UserError: The episode does not hold what it should, in one line.
    """
    try:
        episode = to_rows(read(), observations, actions, clip)
    except (LookupError, TypeError, ValueError) as error:
        words = " ".join(str(error).split())
        raise UserError(f"{source} does not hold what the spaces say: {words}") from error
    return check_episode(episode, row_specs(observations, actions), source, actions=actions)


def to_rows(
    found: Transitions,
    observations: Mapping[str, ObservationSpec],
    actions: ActionSpec,
    clip: bool = False,
) -> Episode:
    """Makes rows of transitions; see the module's docstring.

    Observations that the task does not have are kept, and those that are missing stay so.

    Raises:
        ValueError: Lengths do not fit each other, or an action is none of the space.
    """
    rewards = np.asarray(found.rewards)
    if rewards.ndim != 1:
        raise ValueError(f"the rewards have shape {rewards.shape}; expected one number a step")
    steps = len(rewards)
    flat = flatten_observation(found.observations)
    if list(flat) == [""]:
        flat = {next(iter(observations)) if len(observations) == 1 else "observation": flat[""]}
    episode = {key: _entry(key, value, steps, observations) for key, value in flat.items()}
    episode["action"] = late(flat_actions(found.actions, actions, steps, clip))
    episode["reward"] = late(rewards)
    rows = np.arange(steps + 1)
    episode["is_first"] = rows == 0
    episode["is_last"] = (rows == steps) & (found.ended or found.terminal)
    episode["is_terminal"] = (rows == steps) & found.terminal
    return episode


def _entry(key: str, value: Any, steps: int, specs: Mapping[str, ObservationSpec]) -> np.ndarray:
    value = np.asarray(value)
    if len(value) != steps + 1:
        raise ValueError(
            f"there are {len(value)} observations and {steps} steps; expected one observation "
            "more than steps"
        )
    if key not in specs:
        return value
    spec = specs[key]
    if spec.choices:
        return np.stack([spec.one_hots(key, row) for row in value])
    if spec.kind == "vector" and value[0].size == spec.shape[0] and value.dtype.kind in "fiub":
        return value.reshape(steps + 1, *spec.shape).astype(np.float32)
    # A gray picture may lack its channel; all else is for the check to refuse.
    return value[..., None] if value.shape[1:] == spec.shape[:2] else value


def late(values: np.ndarray) -> np.ndarray:
    """Puts values of steps ``[T, ...]`` into rows ``[T + 1, ...]``, zeros first."""
    return np.concatenate([np.zeros((1, *values.shape[1:])), values]).astype(np.float32)


def flat_actions(actions: Any, spec: ActionSpec, steps: int, clip: bool = False) -> np.ndarray:
    """Returns actions in the environment's units as flat vectors ``[T, A]``.

    Args:
        actions: ``[T, ...]``, or a nested dict.
        spec: The task's flat action vector.
        steps: How many there should be, T.
        clip: Whether numbers beyond the bounds are cut off, as many environments do with them,
            instead of refused.

    Raises:
        ValueError: There are more or fewer, they have another shape, or one is outside of the
            space.
        LookupError: A space of the task is missing.
    """
    return np.concatenate([_block(actions, part, steps, clip) for part in spec.parts], -1)


def middle_and_half(part: ActionPart) -> tuple[np.ndarray, np.ndarray]:
    """Returns the middle of a part's bounds and half their distance."""
    low, high = np.asarray(part.low), np.asarray(part.high)
    return (high + low) / 2, (high - low) / 2


def _block(actions: Any, part: ActionPart, steps: int, clip: bool) -> np.ndarray:
    """One part of actions ``[T, ...]`` as ``[T, A]``: in [-1, 1], or one-hot."""
    for key in part.path:
        # The numbers of a path count the entries of a MultiDiscrete space.
        flat = isinstance(key, int)
        actions = np.reshape(actions, (len(actions), -1))[:, key] if flat else actions[key]
    actions = np.asarray(actions)
    amount = 1 if part.kind == "categorical" else part.size
    if actions.size != steps * amount or len(actions) != steps:
        raise ValueError(
            f"the actions have shape {actions.shape}; expected {steps} of {amount} "
            f"number{'s' if amount > 1 else ''}"
        )
    if part.kind == "categorical":
        taken = np.ravel(actions) - part.start
        if taken.dtype.kind not in "iu" or (taken < 0).any() or (taken >= part.size).any():
            low, high = part.start, part.start + part.size - 1
            raise ValueError(f"an action is none of the choices {low} to {high}")
        return (taken[:, None] == np.arange(part.size)).astype(np.float32)
    middle, half = middle_and_half(part)
    flat = np.asarray(actions, np.float64).reshape(-1, part.size)
    block = (flat - middle) / np.where(half, half, 1)
    if not clip and (beyond := np.argwhere(np.abs(block) > 1 + ROUNDING)).size:
        row, entry = beyond[0]
        raise ValueError(
            f"action {row} is {flat[row, entry]:g} in entry {entry}; its space reaches from "
            f"{part.low[entry]:g} to {part.high[entry]:g}"
        )
    return np.clip(block, -1, 1)
