"""What is searched over: options of an agent, each with its choices or its range."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from common.command.flags import find_option
from common.command.presets import resolve
from common.config import options, read_mapping
from common.errors import UserError
from common.run.program import Program

Kind = Literal["choice", "uniform", "log", "integer"]
EXPECTED = "{choice: [...]}, {uniform: [a, b]}, {log: [a, b]} or {integer: [a, b]}"
FIXED = (
    "task", "seed", "logdir", "run.frames", "run.updates", "run.data", "run.eval_every",
    "run.eval_episodes",
)  # fmt: skip
"""Options that are the same in every trial: else their curves could not be compared."""
MOST_CHOICES = 1000


@dataclasses.dataclass(frozen=True)
class Dimension:
    """One option that is searched over.

    Attributes:
        path: The option's full name, such as "world_model.rssm.deter".
        kind: "choice" among values, or a range: "uniform", "log" (its logarithm is uniform) or
            "integer"; both ends belong to it.
        values: The choices, or the two ends.
    """

    path: str
    kind: Kind
    values: tuple[Any, ...]

    def encode(self, value: Any) -> Any:
        """Returns what a searcher calls a value: of a choice its place, else the number.

        Raises:
            ValueError: The dimension has no such value.
        """
        if self.kind == "choice":
            return [_plain(one) for one in self.values].index(_plain(value))
        low, high = self.values
        whole = self.kind != "integer" or value == int(value)
        if isinstance(value, bool) or not low <= value <= high or not whole:
            raise ValueError(value)
        return int(value) if self.kind == "integer" else float(value)

    def decode(self, code: Any) -> Any:
        """Returns the value that a searcher means."""
        return self.values[int(code)] if self.kind == "choice" else code

    def place(self, value: Any) -> float:
        """Returns where a value stands on an axis from 0 to 1."""
        if self.kind == "choice":
            return self.encode(value) / max(len(self.values) - 1, 1)
        scale = math.log if self.kind == "log" else float
        low, high, here = (scale(one) for one in (*self.values, value))
        return (here - low) / (high - low)


def read_space(
    path: pathlib.Path, program: Program, configs: Sequence[str], fixed: Mapping[str, Any]
) -> list[Dimension]:
    """Reads a file of dimensions, and tries every choice and both ends of every range.

    Args:
        path: YAML: options by name, or by an ending of it that no other has, each with one of
            ``EXPECTED``.
        program: The agent.
        configs: Presets of every trial.
        fixed: Values of options over these.

    Returns:
        The dimensions, in order of the file.

    Raises:
        UserError: It is not such a file, or an option or a value is none of the agent's.
    """
    content = read_mapping(path)
    if not content:
        raise UserError(f"{path} is empty; expected options, each with {EXPECTED}")
    paths = [option.path for option in options(program.default_config)]
    found: dict[str, Dimension] = {}
    for name, spec in content.items():
        try:
            full = find_option(str(name), paths)
        except UserError as error:
            raise UserError(f"{path}: {str(error).replace('--', '')}") from None
        if full not in paths:
            raise UserError(f"{path}: {full} is inside of a mapping; search over whole options")
        if full in FIXED:
            raise UserError(
                f"{path}: {full} is the same in every trial; give it on the command line"
            )
        if full in found or full in fixed:
            where = "twice in the file" if full in found else "on the command line too"
            raise UserError(f"{path}: {full} stands {where}; leave one of them out")
        found[full] = _dimension(path, full, spec)
    for one in found.values():
        for value in one.values:
            try:
                resolve(program, configs, fixed, {one.path: value})
            except UserError as error:
                raise UserError(f"{path}: {error}") from None
        if one.kind in ("uniform", "log"):
            _check_fractions(path, one, program, configs, fixed)
    return list(found.values())


def _check_fractions(
    path: pathlib.Path,
    one: Dimension,
    program: Program,
    configs: Sequence[str],
    fixed: Mapping[str, Any],
) -> None:
    """Raises a UserError where a range of fractions is for an option of whole numbers."""
    low, high = one.values
    middle = low + (high - low) * (math.sqrt(5) - 1) / 2
    try:
        resolve(program, configs, fixed, {one.path: middle})
    except UserError as error:
        raise UserError(f"{path}: {error}; {{integer: [a, b]}} has whole numbers") from None


def _dimension(path: pathlib.Path, name: str, spec: Any) -> Dimension:
    kinds = ("choice", "uniform", "log", "integer")
    if not isinstance(spec, Mapping) or len(spec) != 1 or next(iter(spec)) not in kinds:
        raise UserError(f"{path}: {name} has {_short(spec)}; expected {EXPECTED}")
    ((kind, values),) = spec.items()
    if not isinstance(values, list):
        raise UserError(f"{path}: {kind} of {name} must be a list, not {_short(values)}")
    if kind == "choice":
        if (
            len({_plain(value) for value in values}) < len(values)
            or not 1 < len(values) <= MOST_CHOICES
        ):
            raise UserError(
                f"{path}: choice of {name} must list 2 to {MOST_CHOICES} different values"
            )
        if any(isinstance(value, Mapping) for value in values):
            raise UserError(f"{path}: choice of {name} cannot hold a mapping; name what lies in it")
        return Dimension(name, kind, tuple(values))
    numbers = [value for value in values if type(value) in (int, float) and math.isfinite(value)]
    if len(values) != 2 or len(numbers) != 2 or not values[0] < values[1]:
        raise UserError(
            f"{path}: {kind} of {name} must be two numbers [a, b] with a < b, not {_short(values)}"
        )
    if kind == "log" and values[0] <= 0:
        raise UserError(f"{path}: log of {name} begins at {values[0]}; expected above 0")
    if kind == "integer":
        if any(value != int(value) for value in values):
            raise UserError(f"{path}: integer of {name} must have whole ends, not {_short(values)}")
        return Dimension(name, kind, tuple(int(value) for value in values))
    return Dimension(name, kind, tuple(float(value) for value in values))


def encode(space: Sequence[Dimension], values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a searcher calls the values of a trial.

    Raises:
        ValueError: Some value is none of the space.
    """
    return {one.path: one.encode(values[one.path]) for one in space}


def decode(space: Sequence[Dimension], codes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of a trial from what a searcher calls them."""
    return {one.path: one.decode(codes[one.path]) for one in space}


def own_values(space: Sequence[Dimension], config: Any) -> dict[str, Any] | None:
    """Returns the values that a configuration has itself; None where one is not of the space."""
    if outside(space, config):
        return None
    known = {option.path: option.value for option in options(config)}
    return decode(space, encode(space, {one.path: known[one.path] for one in space}))


def outside(space: Sequence[Dimension], config: Any) -> str:
    """Names the options whose value in a configuration is not of the space; "" where all are."""
    known = {option.path: option.value for option in options(config)}
    found = []
    for one in space:
        try:
            one.encode(known[one.path])
        except (TypeError, ValueError):
            found.append(f"{one.path} {words(known[one.path])}")
    several = "lie" if len(found) > 1 else "lies"
    return f"{', '.join(found)} {several} outside" if found else ""


def words(value: Any) -> str:
    """Returns a value as the command line writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(words, value))
    return "none" if value is None else str(value)


def _plain(value: Any) -> str:
    """A value as text that equal values share: 1 and 1.0, lists and tuples."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_plain, value))}]"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(float(value))
    return json.dumps(value, default=str)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
