"""Protocols of environments, and the helpers that build and stack their rows.

A row is one time step as ``common.rows`` describes it, without ``action``. One
environment gives rows without a leading axis; ``Envs`` stacks those of ``N``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np

from common.errors import UserError
from common.rows import COST, EXPLORES, LATENT_PREFIX, LOG_PREFIX, NOTE_PREFIX, ROW_KEYS
from common.spaces import ActionSpec, ObservationSpec

Row = dict[str, Any]

LARGEST = float(np.finfo(np.float32).max)
"""The largest finite reward."""


class Env(Protocol):
    """One environment, adapted: flat actions in, rows without a leading axis out.

    Attributes:
        action_space: The environment's own action space.
        observation_specs: What each observation key of a row holds.
        action_spec: How the flat action vector ``[A]`` maps to ``action_space``.
        action_repeat: Simulator steps (frames) per agent step.
        max_steps: Agent steps of the longest episode; 0 where that is not known.
    """

    action_space: gymnasium.Space
    observation_specs: dict[str, ObservationSpec]
    action_spec: ActionSpec
    action_repeat: int
    max_steps: int

    def reset(self) -> Row:
        """Begins an episode and returns its reset row."""
        ...

    def step(self, action: np.ndarray) -> Row:
        """Applies one flat action ``[A]`` for ``action_repeat`` simulator steps."""
        ...

    def render(self) -> np.ndarray | None:
        """Returns the current frame ``[H, W, 3]`` uint8, or None where there is none.

        Raises:
            NoPicture: There is one that cannot be filmed; of ``common.envs.pictures``.
        """
        ...

    def close(self) -> None:
        """Frees what the environment holds."""
        ...


class Envs(Protocol):
    """``N`` environments that step together.

    The row after one with ``is_last`` is a reset row, and so is the first row ever:
    its action is ignored ("next step" autoreset in Gymnasium's words). Entries whose
    key starts with "log/" are scalars for the log, not for the agent; NaN where an
    environment has none.

    Attributes:
        observation_space: Adapted observation of one environment.
        action_space: Original action space of one environment.
        observation_specs: What each observation key of a row holds.
        action_spec: How the flat action vector maps to ``action_space``.
        num_envs: N.
        action_repeat: Simulator steps (frames) per agent step.
        max_steps: Agent steps of the longest episode; 0 where that is not known.
    """

    observation_space: gymnasium.spaces.Dict
    action_space: gymnasium.Space
    observation_specs: dict[str, ObservationSpec]
    action_spec: ActionSpec
    num_envs: int
    action_repeat: int
    max_steps: int

    def step_async(self, action: np.ndarray) -> None:
        """Hands the actions ``[N, A]`` over; ``step_wait`` collects the rows.

        Raises:
            FloatingPointError: An action holds a NaN or an infinity.
            ValueError: The shape is not ``[N, A]``.
        """
        ...

    def step_wait(self) -> dict[str, np.ndarray]:
        """Returns the rows ``[N, ...]`` of the actions that were handed over."""
        ...

    def step(self, action: np.ndarray) -> dict[str, np.ndarray]:
        """``step_async`` and ``step_wait`` in one call."""
        ...

    def render(self, index: int = 0) -> np.ndarray | None:
        """Returns one environment's frame ``[H, W, 3]`` uint8, or None where there is none.

        Raises:
            NoPicture: There is one that cannot be filmed; of ``common.envs.pictures``.
        """
        ...

    def close(self) -> None:
        """Ends workers and frees what the environments hold."""
        ...


class Crash(Exception):
    """An environment failed in a way that a fresh copy may survive.

    Attributes:
        details: The traceback of the environment's own code; empty where there is none.
    """

    def __init__(self, reason: str, details: str = ""):
        """Keeps the details."""
        super().__init__(reason)
        self.details = details


def env_seed(seed: int, index: int, attempt: int = 0) -> int:
    """Derives the 31-bit seed of environment ``index`` after ``attempt`` restarts."""
    words = np.random.SeedSequence([seed, index, attempt]).generate_state(1)
    return int(words[0] >> 1)


def make_row(
    observation: Mapping[str, np.ndarray],
    reward: float = 0.0,
    *,
    first: bool = False,
    last: bool = False,
    terminal: bool = False,
    cost: float | None = None,
    log: Mapping[str, float] | None = None,
) -> Row:
    """Returns one row; ``log`` holds entries whose keys start with "log/".

    A cost is in the row where it is counted, and for people to see in its log.

    Raises:
        UserError: The reward, the cost or a float observation is not finite as float32.
    """
    reward = _finite("reward", reward)
    for key, value in observation.items():
        if value.dtype != np.uint8 and not np.isfinite(value).all():
            bad = value[~np.isfinite(value)][0]
            raise UserError(
                f"observation {key!r} holds {bad} (shape {value.shape}); expected finite numbers"
            )
    row: Row = dict(observation)
    row.update(reward=reward, is_first=first, is_last=last, is_terminal=terminal)
    if cost is not None:
        row[COST] = row[LOG_PREFIX + COST] = _finite(COST, cost)
    if log:
        row.update(log)
    return row


def _finite(name: str, value: float) -> float:
    value = float(value)
    if not abs(value) <= LARGEST:
        raise UserError(
            f"the environment returned {name} {value}; expected a finite number"
            + (f" of at most {LARGEST:.3g}, as float32 holds it" if math.isfinite(value) else "")
        )
    return value


def stack_rows(rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """Stacks rows of single environments; a "log/" key that a row lacks becomes NaN."""
    stacked = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        if key in ("reward", COST) or key.startswith(LOG_PREFIX):
            stacked[key] = np.array([row.get(key, np.nan) for row in rows], np.float32)
        elif key in ROW_KEYS:
            stacked[key] = np.array([row[key] for row in rows], bool)
        else:
            stacked[key] = np.stack([row[key] for row in rows])
    return stacked


def split_rows(stacked: Mapping[str, np.ndarray]) -> list[Row]:
    """Returns the rows of the single environments: views of rows that were stacked."""
    return [dict(zip(stacked, row, strict=True)) for row in zip(*stacked.values(), strict=True)]


def check_actions(action: np.ndarray, num_envs: int, size: int) -> np.ndarray:
    """Returns the actions as float32 ``[N, A]``.

    Raises:
        ValueError: The shape differs.
        FloatingPointError: An entry is not finite; no environment gets to see it.
    """
    action = np.asarray(action, np.float32)
    if action.shape != (num_envs, size):
        raise ValueError(f"actions have shape {action.shape}; expected {(num_envs, size)}")
    if not np.isfinite(action).all():
        raise FloatingPointError(f"the policy produced a non-finite action {action}")
    return action


def check_keys(specs: Mapping[str, ObservationSpec]) -> None:
    """Raises a UserError where an observation key is one that rows use for themselves."""
    for key in specs:
        reserved = *ROW_KEYS, EXPLORES
        if key in reserved or key.startswith((LOG_PREFIX, LATENT_PREFIX, NOTE_PREFIX)):
            raise UserError(
                f"observation key {key!r} is reserved for rows of experience; rename it, "
                f"avoiding {', '.join(reserved)} and the prefixes {LOG_PREFIX!r}, "
                f"{LATENT_PREFIX!r} and {NOTE_PREFIX!r}"
            )


def adapted_space(specs: Mapping[str, ObservationSpec]) -> gymnasium.spaces.Dict:
    """Returns the space of adapted observations: uint8 images, float32 vectors."""
    spaces: dict[str, gymnasium.Space] = {}
    for key, spec in specs.items():
        low, high = (0, 255) if spec.kind == "image" else (-np.inf, np.inf)
        spaces[key] = gymnasium.spaces.Box(low, high, spec.shape, spec.dtype)
    return gymnasium.spaces.Dict(spaces)
