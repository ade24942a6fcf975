"""Gymnasium spaces as the agents see them: named arrays in, one flat vector out.

An observation is a flat mapping from key to array. ``uint8`` arrays of rank two or
three are images ``[height, width, channels]``; everything else becomes a float
vector. An action is one flat vector ``[A]``: Box entries scaled to [-1, 1],
discrete choices as one-hot blocks, several spaces side by side in the order of
their sorted names.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from common.errors import UserError

MIN_IMAGE_SIZE = 32
MOST_CHOICES = 2**18
"""Entries of the largest one-hot vectors: every row holds one, and every network reads it."""
_integers = np.frompyfunc(int, 1, 1)  # Python's, which never overflow.
_SLACK = 1e-5
"""How far outside of [-1, 1] an action may be when it is encoded, by the rounding of others."""


class TaskSpec(NamedTuple):
    """What is known of one of several tasks.

    Attributes:
        name: Its name.
        actions: Entries of the action that it uses, the first ones.
        steps: Agent steps of its longest episode; 0 where that is not known.
    """

    name: str
    actions: int
    steps: int


@dataclasses.dataclass(frozen=True)
class ObservationSpec:
    """One entry of the flat observation.

    Attributes:
        shape: ``(height, width, channels)`` of an image, ``(size,)`` of a vector.
        kind: "image" (stored as uint8) or "vector" (stored as float32).
        choices: Of a Discrete or MultiDiscrete space: the choices of each entry, whose
            one-hot vectors stand side by side.
        starts: The environment's number of choice 0, for each entry.
        tasks: Of the one that says which of several tasks is played, a choice: those tasks.
    """

    shape: tuple[int, ...]
    kind: str
    choices: tuple[int, ...] = ()
    starts: tuple[int, ...] = ()
    tasks: tuple[TaskSpec, ...] = ()

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
        path: Where the part sits in the environment's action; () for the whole. Of an entry of a
            MultiDiscrete, its number comes last.
        kind: "continuous" or "categorical".
        size: Entries of the block: dimensions, or number of choices.
        low: Lower bounds in the environment's units (continuous only), numbers of its type.
        high: Upper bounds in the environment's units (continuous only), numbers of its type.
        shape: Shape that the environment expects, of the whole MultiDiscrete for its entries.
        start: The environment's number of choice 0 (categorical only).
        dtype: Name of the NumPy type that the environment expects; where it is not given,
            "float32" of continuous and "int64" of categorical parts.
    """

    path: tuple[str | int, ...]
    kind: str
    size: int
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    shape: tuple[int, ...] = ()
    start: int = 0
    dtype: str = ""

    def __post_init__(self) -> None:
        """Fills in the type."""
        usual = "float32" if self.kind == "continuous" else "int64"
        object.__setattr__(self, "dtype", np.dtype(self.dtype or usual).name)

    @functools.cached_property
    def place(self) -> tuple[str, ...]:
        """Keys that lead to the value in the environment's action; parts may share one."""
        return tuple(step for step in self.path if isinstance(step, str))

    def decode(self, block: np.ndarray) -> Any:
        """Turns the block ``[size]`` into what a Box expects, or into one choice."""
        kind = np.dtype(self.dtype)
        if self.kind == "categorical":
            return kind.type(int(block.argmax()) + self.start)
        low, high = self._bounds
        share = (np.clip(block.astype(np.float64), -1, 1) + 1) / 2
        if kind.kind == "f":
            with np.errstate(over="ignore"):  # Cut off below.
                value = (low * (1 - share) + high * share).astype(kind)
        else:  # By Python's integers: those of 64 bits are no floats.
            value = low + _integers(np.rint(share * (high - low).astype(np.float64)))
        return np.clip(value, low, high).astype(kind).reshape(self.shape)

    def encode(self, value: np.ndarray) -> np.ndarray:
        """The inverse of ``decode``, float64; a UserError where the space lacks the value."""
        if self.kind == "categorical":
            if value.dtype.kind not in "iu" or not 0 <= int(value) - self.start < self.size:
                wanted = f"an integer, {self.start} to {self.start + self.size - 1}"
                raise UserError(f"{_name(self.path)} is {value}; expected {wanted}")
            block = np.zeros(self.size)
            block[int(value) - self.start] = 1
            return block
        low, high = self._bounds
        integers, value = low.dtype == object, value.ravel()
        numbers = value.dtype.kind in "fiub" and np.isfinite(value).all()
        if not numbers or (integers and (value != np.rint(value)).any()):
            wanted = "integers" if integers else "finite numbers"
            raise UserError(f"{_name(self.path)} is {value}; expected {wanted}")
        if integers:
            x, least, distance = _integers(value), low, high - low
        else:  # Halves, since the distance of the bounds need not be a finite number.
            x, least, distance = value.astype(np.float64) / 2, low / 2, high / 2 - low / 2
        share = ((x - least) / np.where(distance > 0, distance, 1)).astype(np.float64)
        alone = np.where((low <= value) & (value <= high), 0, np.inf)
        block = np.where(distance > 0, 2 * share - 1, alone)
        if (np.abs(block) > 1 + _SLACK).any():
            raise UserError(f"{_name(self.path)} is {value}; expected {self.low} to {self.high}")
        return np.clip(block, -1, 1)

    @functools.cached_property
    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Both bounds ``[size]``: float64, or Python's integers."""
        kind = np.float64 if np.dtype(self.dtype).kind == "f" else object
        return np.array(self.low, kind), np.array(self.high, kind)


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

    @functools.cached_property
    def blocks(self) -> tuple[tuple[ActionPart, slice], ...]:
        """Every part with its entries of the vector."""
        ends = itertools.accumulate(part.size for part in self.parts)
        pairs = zip(self.parts, ends, strict=True)
        return tuple((part, slice(end - part.size, end)) for part, end in pairs)

    def sample(self, rng: np.random.Generator, amount: int) -> np.ndarray:
        """Draws uniform random actions ``[amount, A]``, valid as flat vectors."""
        actions = np.zeros((amount, self.size), np.float32)
        for part, entries in self.blocks:
            if part.kind == "continuous":
                actions[:, entries] = rng.uniform(-1, 1, (amount, part.size))
            else:
                chosen = rng.integers(part.size, size=amount)
                actions[np.arange(amount), entries.start + chosen] = 1
        return actions

    def decode(self, action: np.ndarray) -> Any:
        """Turns one flat vector ``[A]`` into an action that the environment's space contains.

        Entries of a Box are cut off at -1 and 1; those of an integer Box are rounded. The
        largest entry of a one-hot block is its choice.

        Raises:
            FloatingPointError: The vector holds a NaN or an infinity.
            UserError: It has another shape.
        """
        action = np.asarray(action)
        if action.shape != (self.size,):
            raise UserError(f"an action has shape {action.shape}; expected ({self.size},)")
        if not np.isfinite(action).all():
            raise FloatingPointError(f"the policy produced a non-finite action {action}")
        result: dict[str, Any] = {}
        for part, entries in self.blocks:
            *outer, last = ("", *part.place)
            inner = functools.reduce(lambda values, key: values.setdefault(key, {}), outer, result)
            value = part.decode(action[entries])
            if part.path == part.place:
                inner[last] = value
            else:  # One of a MultiDiscrete.
                whole = inner.setdefault(last, np.empty(part.shape, part.dtype))
                whole.flat[part.path[-1]] = value
        return result[""]

    def encode(self, action: Any) -> np.ndarray:
        """Turns an action of the environment into the flat vector, float32 ``[A]``.

        The inverse of ``decode``, up to rounding: where an integer Box is wider than 2^23, or a
        number of a Box finer than float32, the nearest is what comes back.

        Raises:
            UserError: The environment's space does not contain the action.
        """
        found = flatten_observation(action)
        wanted = {"/".join(part.place) for part in self.parts}
        if found.keys() != wanted:
            names = (", ".join(sorted(map(str, keys))) or "none" for keys in (found, wanted))
            raise UserError("entries of the action: {}; of its space: {}".format(*names))
        vector = np.zeros(self.size, np.float32)
        for part, entries in self.blocks:
            value = np.asarray(found["/".join(part.place)])
            if value.shape != part.shape:
                name = _name(part.place)
                raise UserError(f"{name} has shape {value.shape}; expected {part.shape}")
            one = part.path == part.place
            vector[entries] = part.encode(value if one else value.ravel()[part.path[-1]])
        return vector


def flatten_observation(observation: Any, prefix: str = "") -> dict[str, Any]:
    """Flattens nested mappings to ``{"outer/inner": value}``; a bare value keeps its key."""
    if not isinstance(observation, Mapping):
        return {prefix: observation}
    flat: dict[str, Any] = {}
    for key, value in observation.items():
        flat.update(flatten_observation(value, f"{prefix}/{key}" if prefix else key))
    return flat


def _name(path: tuple[str | int, ...]) -> str:
    return f"action {'/'.join(map(str, path))!r}" if path else "the action"


def observation_specs(space: gymnasium.Space) -> dict[str, ObservationSpec]:
    """Describes the flat observation of a Box, Discrete, MultiDiscrete, MultiBinary or Dict.

    A space that is not a Dict gets the key "image" or "vector" after its kind.

    Raises:
        UserError: A space of another kind or without entries, an image below 32x32, too many
            choices, or two spaces of one name.
    """
    if not isinstance(space, gymnasium.spaces.Dict):
        spec = _observation_spec("observation", space)
        return {spec.kind: spec}
    specs: dict[str, ObservationSpec] = {}
    for key, child in _entries(space, "observation"):
        nested = isinstance(child, gymnasium.spaces.Dict)
        inner = observation_specs(child) if nested else {"": _observation_spec(key, child)}
        for name, spec in inner.items():
            name = f"{key}/{name}" if name else key
            if name in specs:
                raise UserError(f"two spaces of the observation are called {name!r}; rename one")
            specs[name] = spec
    return dict(sorted(specs.items()))


def _observation_spec(key: str, space: gymnasium.Space) -> ObservationSpec:
    size = math.prod(space.shape or ())
    if size == 0:
        raise UserError(f"observation {key!r} is empty, its shape is {space.shape}; leave it out")
    if isinstance(space, gymnasium.spaces.Box):
        if space.dtype == np.uint8 and len(space.shape) in (2, 3):
            shape = space.shape if len(space.shape) == 3 else (*space.shape, 1)
            if min(shape[:2]) < MIN_IMAGE_SIZE:
                raise UserError(
                    f"image {key!r} is {shape[0]}x{shape[1]}, the convolutions need at "
                    f"least {MIN_IMAGE_SIZE}x{MIN_IMAGE_SIZE}; resize it in a wrapper"
                )
            return ObservationSpec(tuple(int(n) for n in shape), "image")
        return ObservationSpec((size,), "vector")
    if isinstance(space, gymnasium.spaces.Discrete):
        return _choices(key, [space.n], [space.start])
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        return _choices(key, np.ravel(space.nvec), np.ravel(space.start))
    if isinstance(space, gymnasium.spaces.MultiBinary):
        return ObservationSpec((size,), "vector")
    raise UserError(
        f"observation {key!r} is a {type(space).__name__}; supported are Box, Discrete, "
        "MultiDiscrete, MultiBinary and Dict of those"
    )


def _choices(key: str, sizes: Any, starts: Any) -> ObservationSpec:
    sizes, starts = tuple(map(int, sizes)), tuple(map(int, starts))
    _check_choices(f"observation {key!r}", sum(sizes))
    return ObservationSpec((sum(sizes),), "vector", sizes, starts)


def _check_choices(name: str, amount: int) -> None:
    if amount > MOST_CHOICES:
        raise UserError(
            f"{name} has {amount:,} choices, and every row holds a one-hot vector; expected at "
            f"most {MOST_CHOICES:,}: describe it by numbers, or by several choices"
        )


def _entries(space: gymnasium.spaces.Dict, name: str) -> list[tuple[str, gymnasium.Space]]:
    wrong = [key for key in space.spaces if not isinstance(key, str)]
    if wrong or not space.spaces:
        what = f"the key {wrong[0]!r}, which is no string" if wrong else "no entries"
        raise UserError(f"a Dict of the {name} space has {what}; change it in a wrapper")
    return sorted(space.spaces.items())


def action_spec(space: gymnasium.Space) -> ActionSpec:
    """Describes the flat action of a Box, Discrete, MultiDiscrete or Dict of those.

    Raises:
        UserError: A space of another kind or without entries, a Box without finite bounds, too
            many choices, or two spaces of one name.
    """
    spec = ActionSpec(tuple(_action_parts((), space)))
    _check_choices("the action", sum(p.size for p in spec.parts if p.kind == "categorical"))
    places = ["/".join(place) for place in dict.fromkeys(part.place for part in spec.parts)]
    if len(set(places)) < len(places):
        raise UserError(f"two spaces of the action have one name, among {', '.join(places)}")
    return spec


def _action_parts(path: tuple[str | int, ...], space: gymnasium.Space) -> list[ActionPart]:
    spaces = gymnasium.spaces
    if isinstance(space, spaces.Dict):
        entries = _entries(space, "action")
        return [part for key, inner in entries for part in _action_parts((*path, key), inner)]
    kind = str(space.dtype)
    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        return [ActionPart(path, "categorical", int(space.n), start=start, dtype=kind)]
    if not isinstance(space, spaces.Box | spaces.MultiDiscrete):
        raise UserError(
            f"the action space is a {type(space).__name__}; supported are Box, Discrete, "
            "MultiDiscrete and Dict of those"
        )
    shape = tuple(space.shape)
    if 0 in shape:
        raise UserError(f"the action {type(space).__name__} is empty, its shape is {shape}")
    if isinstance(space, spaces.MultiDiscrete):
        choices = enumerate(zip(np.ravel(space.nvec), np.ravel(space.start), strict=True))
        return [
            ActionPart((*path, i), "categorical", int(n), (), (), shape, int(start), kind)
            for i, (n, start) in choices
        ]
    if not space.is_bounded():
        raise UserError(
            "the action Box has infinite bounds; give the space finite ones, or wrap the "
            "environment with gymnasium.wrappers.TransformAction and a bounded space"
        )
    if space.dtype.itemsize > 8:
        raise UserError(f"the action Box is of {kind}; expected numbers of at most 64 bits")
    number = float if space.dtype.kind == "f" else int
    bounds = (tuple(map(number, np.ravel(bound))) for bound in (space.low, space.high))
    return [ActionPart(path, "continuous", math.prod(shape), *bounds, shape, dtype=kind)]
