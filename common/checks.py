"""Checks of options: every dataclass of options says in its annotations what it takes.

A choice is a ``Literal``, a number has a ``Range``. ``Options``, the base of these dataclasses,
checks both, and the type, wherever one is built, by a preset, a flag or in Python:

    @dataclasses.dataclass(frozen=True)
    class Config(Options):
        kind: Literal["fast", "slow"] = "fast"
        layers: Count = 2
"""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple

from common.errors import UserError, nearest

AT = "\0"
"""Stands in an ``OptionError`` for what comes before the names of options."""


class OptionError(UserError):
    """A value that an option cannot have.

    A dataclass does not know where in a configuration it sits: its errors begin with its own
    name, ``RSSMConfig.deter``, and whoever knows the option's full path moves them there.
    """

    def __init__(self, at: str, words: str):
        """Keeps the words, so that the error can be moved.

        Args:
            at: What comes before the names of the options, such as "world_model.rssm.".
            words: The message, with ``AT`` before the name of every option.
        """
        super().__init__(words.replace(AT, at))
        self._words = words

    def moved(self, at: str) -> OptionError:
        """Returns the error of the same options at another place."""
        return OptionError(at, self._words)


class Range(NamedTuple):
    """Which finite numbers an option may be.

    Attributes:
        low: The least.
        high: The largest.
        above: Whether the number has to be above ``low`` itself.
        below: Whether the number has to be below ``high`` itself.
    """

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def fault(self, value: Any) -> str:
        """Completes the sentence "the option ..."; empty where the number is in the range."""
        if isinstance(value, numbers.Real) and math.isfinite(value):
            low = self.low < value if self.above else self.low <= value
            if low and (value < self.high if self.below else value <= self.high):
                return ""
        shown = repr(value) if isinstance(value, str) else value
        strange = isinstance(value, numbers.Real) and not math.isfinite(value)
        finite = (
            " and finite" if strange and (math.isinf(self.low) != math.isinf(self.high)) else ""
        )
        return f"is {shown}; expected {self}{finite}"

    def __str__(self) -> str:
        """Says what is expected."""
        if math.isinf(self.low):
            return "a finite number" if math.isinf(self.high) else f"at most {self.high}"
        if math.isinf(self.high):
            return f"a number above {self.low}" if self.above else f"at least {self.low}"
        if self.below:
            return f"at least {self.low} and below {self.high}"
        return f"{self.low} to {self.high}"


class Choices(NamedTuple):
    """Which words an option may be.

    Attributes:
        words: All of them.
        several: Whether the option is a tuple of such words.
    """

    words: tuple[Any, ...]
    several: bool

    def fault(self, value: Any) -> str:
        """Completes the sentence "the option ..."; empty where the value is a choice."""
        if self.several and not isinstance(value, tuple):
            return f"is {value!r}; expected a tuple of {', '.join(map(repr, self.words))}"
        wrong = [one for one in (value if self.several else [value]) if one not in self.words]
        return f"cannot be {wrong[0]!r}{nearest(str(wrong[0]), self.words)}" if wrong else ""


class Kind(NamedTuple):
    """Which type an option has; any real number serves as a float.

    Attributes:
        kind: The annotation, without its range.
    """

    kind: Any

    def fault(self, value: Any) -> str:
        """Completes the sentence "the option ..."; empty where the value is of this type."""
        return "" if _fits(value, self.kind) else f"is {value!r}; expected {_described(self.kind)}"


_TYPES = {
    bool: (bool, "True or False"),
    int: (numbers.Integral, "an integer"),
    float: (numbers.Real, "a number"),
    str: (str, "a string"),
    dict: (dict, "a dict"),
}


def _fits(value: Any, kind: Any) -> bool:
    entries = typing.get_args(kind) if typing.get_origin(kind) is tuple else ()
    if entries:
        return isinstance(value, tuple) and all(_fits(one, entries[0]) for one in value)
    wanted = _TYPES[kind][0] if kind in _TYPES else kind
    # To Python a bool is an integer; to whoever wrote one it is not.
    return isinstance(value, wanted) and (kind is bool or not isinstance(value, bool))


def _described(kind: Any) -> str:
    if typing.get_origin(kind) is tuple:
        return f"a tuple, each entry {_described(typing.get_args(kind)[0])}"
    return _TYPES[kind][1] if kind in _TYPES else f"a {kind.__name__}"


Count = Annotated[int, Range(1)]
Whole = Annotated[int, Range(0)]
Seed = Annotated[int, Range(0, 2**31 - 1)]
Finite = Annotated[float, Range()]
NonNegative = Annotated[float, Range(0)]
Positive = Annotated[float, Range(0, above=True)]
Share = Annotated[float, Range(0, 1)]


@dataclasses.dataclass(frozen=True)
class Options:
    """Base of every dataclass of options.

    Where two options depend on each other, the dataclass extends ``__post_init__``.
    """

    def __post_init__(self) -> None:
        """Raises an OptionError where a value is none that its option can have."""
        for name, wanted in _checks(type(self)):
            fault = wanted.fault(getattr(self, name))
            if fault:
                refuse(self, f"{AT}{name} {fault}")


def refuse(config: Options, words: str) -> typing.NoReturn:
    """Raises the OptionError of a dataclass that is being built.

    Args:
        config: The dataclass.
        words: The message, with ``AT`` before the name of every option.
    """
    raise OptionError(f"{type(config).__name__}.", words)


def check_multiple(config: Options, name: str, divisor: str) -> None:
    """Raises an OptionError where an option is no multiple of another one."""
    whole, part = getattr(config, name), getattr(config, divisor)
    if whole % part:
        wanted = f"a multiple of {AT}{divisor}, which is {part}"
        refuse(config, f"{AT}{name} is {whole}; expected {wanted}")


def check_range(name: str, value: float, low: float, high: float = math.inf) -> None:
    """Raises a UserError where a number is not finite or not within ``low`` to ``high``."""
    fault = Range(low, high).fault(value)
    if fault:
        raise UserError(f"{name} {fault}")


def check_whole(name: str, value: Any, low: int, high: float = math.inf) -> None:
    """Raises a UserError where a value is no whole number within ``low`` to ``high``."""
    if not _fits(value, int):
        raise UserError(f"{name} is {value!r}; expected a whole number")
    check_range(name, value, low, high)


def check_flag(name: str, value: Any) -> None:
    """Raises a UserError where a value is neither true nor false."""
    if not _fits(value, bool):
        raise UserError(f"{name} is {value!r}; expected true or false")


def check_choice(name: str, value: Any, kind: Any) -> None:
    """Raises a UserError where a value is none of the choices of a ``Literal``."""
    fault = Choices(choices(kind), False).fault(value)
    if fault:
        raise UserError(f"{name} {fault}")


def choices(kind: Any) -> tuple[Any, ...]:
    """Returns the choices of an option, or of each entry of a tuple; () where it is free."""
    if typing.get_origin(kind) is Literal:
        return typing.get_args(kind)
    entries = typing.get_args(kind) if typing.get_origin(kind) is tuple else ()
    return choices(entries[0]) if entries else ()


@functools.cache
def _checks(owner: type) -> tuple[tuple[str, Range | Choices | Kind], ...]:
    """Returns what is checked of every option, in order."""
    return tuple(_find_checks(owner))


def _find_checks(owner: type) -> Iterator[tuple[str, Range | Choices | Kind]]:
    hints = typing.get_type_hints(owner, include_extras=True)
    for field in dataclasses.fields(owner):
        kind = hints[field.name]
        if choices(kind):
            yield field.name, Choices(choices(kind), typing.get_origin(kind) is tuple)
            continue
        for extra in getattr(kind, "__metadata__", ()):
            if isinstance(extra, Range):
                yield field.name, extra
        plain = typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind
        yield field.name, Kind(plain)
