"""Gymnasium spaces as the agents see them: named arrays in, one flat vector out.

An observation is a flat mapping from key to array. ``uint8`` arrays of rank two or
three are images ``[height, width, channels]``; everything else becomes a float
vector. An action is one flat vector ``[A]``: Box entries scaled to [-1, 1],
discrete choices as one-hot blocks, several spaces side by side in the order of
their sorted names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from common.errors import UserError

MIN_IMAGE_SIZE = 32


@dataclasses.dataclass(frozen=True)
class ObservationSpec:
    """One entry of the flat observation.

    Attributes:
        shape: ``(height, width, channels)`` of an image, ``(size,)`` of a vector.
        kind: "image" (stored as uint8) or "vector" (stored as float32).
        choices: Of a Discrete or MultiDiscrete space: the choices of each entry, whose
            one-hot vectors stand side by side.
        starts: The environment's number of choice 0, for each entry.
    """

    shape: tuple[int, ...]
    kind: str
    choices: tuple[int, ...] = ()
    starts: tuple[int, ...] = ()

    @property
    def dtype(self) -> type:
        """The NumPy type in which rows hold this entry."""
        return np.uint8 if self.kind == "image" else np.float32

    def one_hots(self, key: str, value: np.ndarray) -> np.ndarray:
        """Turns choices into their one-hot vectors, side by side, float32 ``[D]``.

        Raises:
            UserError: The value is no such choice.
        """
        sizes, taken = np.array(self.choices), np.ravel(value) - np.array(self.starts)
        if taken.dtype.kind not in "iu" or (taken < 0).any() or (taken >= sizes).any():
            raise UserError(
                f"observation {key!r} is {value}; its space has {list(self.choices)} choices"
            )
        ends = np.cumsum(sizes)
        vector = np.zeros(ends[-1], np.float32)
        vector[ends - sizes + taken] = 1
        return vector


@dataclasses.dataclass(frozen=True)
class ActionPart:
    """One block of the flat action vector.

    Attributes:
        path: Where the part sits in the environment's action; () for the whole.
        kind: "continuous" or "categorical".
        size: Entries of the block: dimensions, or number of choices.
        low: Lower bounds in the environment's units (continuous only).
        high: Upper bounds in the environment's units (continuous only).
        shape: Shape that the environment expects (continuous only).
        start: The environment's number of choice 0 (categorical only).
    """

    path: tuple[str | int, ...]
    kind: str
    size: int
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    shape: tuple[int, ...] = ()
    start: int = 0


@dataclasses.dataclass(frozen=True)
class ActionSpec:
    """The flat action vector, part by part."""

    parts: tuple[ActionPart, ...]

    @property
    def size(self) -> int:
        """Entries of the flat vector, A."""
        return sum(part.size for part in self.parts)

    @property
    def discrete(self) -> bool:
        """Whether every part is categorical."""
        return all(part.kind == "categorical" for part in self.parts)

    def sample(self, rng: np.random.Generator, amount: int) -> np.ndarray:
        """Draws uniform random actions ``[amount, A]``, valid as flat vectors."""
        blocks = []
        for part in self.parts:
            if part.kind == "continuous":
                blocks.append(rng.uniform(-1, 1, (amount, part.size)))
            else:
                blocks.append(np.eye(part.size)[rng.integers(part.size, size=amount)])
        return np.concatenate(blocks, -1).astype(np.float32)

    def decode(self, action: np.ndarray) -> Any:
        """Turns one flat vector ``[A]`` into an action of the environment.

        Raises:
            FloatingPointError: The vector holds a NaN or an infinity.
        """
        if not np.isfinite(action).all():
            raise FloatingPointError(f"the policy produced a non-finite action {action}")
        values: dict[tuple[str | int, ...], Any] = {}
        offset = 0
        for part in self.parts:
            block = np.asarray(action[offset : offset + part.size])
            offset += part.size
            if part.kind == "categorical":
                values[part.path] = int(block.argmax()) + part.start
            else:
                low, high = np.asarray(part.low), np.asarray(part.high)
                scaled = low + (np.clip(block, -1, 1) + 1) / 2 * (high - low)
                values[part.path] = scaled.reshape(part.shape).astype(np.float32)
        return _assemble(values)


def flatten_observation(observation: Any, prefix: str = "") -> dict[str, Any]:
    """Flattens nested mappings to ``{"outer/inner": value}``; a bare value keeps its key."""
    if not isinstance(observation, Mapping):
        return {prefix: observation}
    flat: dict[str, Any] = {}
    for key, value in observation.items():
        flat.update(flatten_observation(value, f"{prefix}/{key}" if prefix else key))
    return flat


def observation_specs(space: gymnasium.Space) -> dict[str, ObservationSpec]:
    """Describes the flat observation of a Box, Discrete, MultiDiscrete, MultiBinary or Dict.

    A space that is not a Dict gets the key "image" or "vector" after its kind.

    Raises:
        UserError: A space of another kind, or an image below 32x32.
    """
    if not isinstance(space, gymnasium.spaces.Dict):
        spec = _observation_spec("observation", space)
        return {spec.kind: spec}
    specs: dict[str, ObservationSpec] = {}
    for key, child in space.spaces.items():
        if isinstance(child, gymnasium.spaces.Dict):
            inner = observation_specs(child)
            specs.update({f"{key}/{name}": spec for name, spec in inner.items()})
        else:
            specs[key] = _observation_spec(key, child)
    return dict(sorted(specs.items()))


def _observation_spec(key: str, space: gymnasium.Space) -> ObservationSpec:
    if isinstance(space, gymnasium.spaces.Box):
        if space.dtype == np.uint8 and len(space.shape) in (2, 3):
            shape = space.shape if len(space.shape) == 3 else (*space.shape, 1)
            if min(shape[:2]) < MIN_IMAGE_SIZE:
                raise UserError(
                    f"image {key!r} is {shape[0]}x{shape[1]}, the convolutions need at "
                    f"least {MIN_IMAGE_SIZE}x{MIN_IMAGE_SIZE}; resize it in a wrapper"
                )
            return ObservationSpec(tuple(int(n) for n in shape), "image")
        return ObservationSpec((int(np.prod(space.shape)),), "vector")
    if isinstance(space, gymnasium.spaces.Discrete):
        return _choices([space.n], [space.start])
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        return _choices(np.ravel(space.nvec), np.ravel(space.start))
    if isinstance(space, gymnasium.spaces.MultiBinary):
        return ObservationSpec((int(np.prod(space.shape)),), "vector")
    raise UserError(
        f"observation {key!r} is a {type(space).__name__}; supported are Box, Discrete, "
        "MultiDiscrete, MultiBinary and Dict of those"
    )


def _choices(sizes: Any, starts: Any) -> ObservationSpec:
    sizes, starts = tuple(map(int, sizes)), tuple(map(int, starts))
    return ObservationSpec((sum(sizes),), "vector", sizes, starts)


def action_spec(space: gymnasium.Space) -> ActionSpec:
    """Describes the flat action of a Box, Discrete, MultiDiscrete or Dict of those.

    Raises:
        UserError: A space of another kind, or a Box without finite bounds.
    """
    return ActionSpec(tuple(_action_parts((), space)))


def _action_parts(path: tuple[str | int, ...], space: gymnasium.Space) -> list[ActionPart]:
    if isinstance(space, gymnasium.spaces.Dict):
        parts = []
        for key in sorted(space.spaces):
            parts.extend(_action_parts((*path, key), space.spaces[key]))
        return parts
    if isinstance(space, gymnasium.spaces.Discrete):
        return [ActionPart(path, "categorical", int(space.n), start=int(space.start))]
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        pairs = zip(np.ravel(space.nvec), np.ravel(space.start), strict=True)
        return [
            ActionPart((*path, i), "categorical", int(n), start=int(start))
            for i, (n, start) in enumerate(pairs)
        ]
    if isinstance(space, gymnasium.spaces.Box):
        low, high = np.ravel(space.low), np.ravel(space.high)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise UserError(
                "the action Box has infinite bounds; wrap the environment with "
                "gymnasium.wrappers.RescaleAction or give the space finite bounds"
            )
        bounds = tuple(map(float, low)), tuple(map(float, high))
        return [ActionPart(path, "continuous", low.size, *bounds, tuple(space.shape))]
    raise UserError(
        f"the action space is a {type(space).__name__}; supported are Box, Discrete, "
        "MultiDiscrete and Dict of those"
    )


def _assemble(values: dict[tuple[str | int, ...], Any]) -> Any:
    """Rebuilds dicts (string steps) and integer arrays (number steps) from paths."""
    if () in values:
        return values[()]
    heads = list(dict.fromkeys(path[0] for path in values))
    children = {
        head: _assemble({p[1:]: v for p, v in values.items() if p[0] == head}) for head in heads
    }
    if isinstance(heads[0], int):
        return np.asarray([children[head] for head in heads])
    return children


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
    observations = {
        key: ObservationSpec(**_with_tuples(spec)) for key, spec in data["observations"].items()
    }
    parts = tuple(ActionPart(**_with_tuples(part)) for part in data["actions"])
    return observations, ActionSpec(parts)


def _with_tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
