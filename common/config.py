"""Configurations: frozen dataclasses, changed by name, strictly.

Every configuration is a frozen dataclass beside the code that it configures. Presets
(``common.command.presets``) and flags (``common.command.flags``) both go through ``update``,
so that an unknown name or a wrong type is the same clear error wherever it was written.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import math
import pathlib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar, Union

import ruamel.yaml

from common.checks import OptionError, choices
from common.errors import UserError, nearest

Config = TypeVar("Config")
MISSING = object()

MOST_BYTES = 2**20
"""Size of the largest file of options."""
MOST_VALUES = 100_000
"""Values of a file after its aliases are written out."""
DEEPEST = 32
"""How often lists and mappings may lie in one another."""
_MOST_SHOWN = 200
_MOST_BITS = 10_000  # Python writes numbers of up to 4,300 digits.


class Option(NamedTuple):
    """One leaf of a configuration.

    Attributes:
        path: Dotted name, such as "world_model.rssm.deter".
        type: The annotation, resolved.
        value: The value that it has.
        owner: The dataclass that declares it.
    """

    path: str
    type: Any
    value: Any
    owner: type


class Change(NamedTuple):
    """One option in which two configurations differ."""

    path: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.path} ({self.before!r}, now {self.after!r})"


def options(config: Any, prefix: str = "") -> Iterator[Option]:
    """Yields every leaf of a dataclass instance, depth first, in order of declaration."""
    hints = _hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from options(value, f"{prefix}{field.name}.")
        else:
            yield Option(prefix + field.name, hints[field.name], value, type(config))


def update(config: Config, *values: Mapping[str, Any]) -> Config:
    """Returns the configuration with some values replaced.

    All values of a group are replaced together, so that the order in which they were written
    does not matter to values that are valid only together.

    Args:
        config: A dataclass instance, nested or not.
        values: Values by name, later ones over earlier ones; names may be dotted and values
            nested mappings. Strings are read as the command line writes them, whatever the
            type of the option. A mapping for an option that is a mapping is merged into it.

    Raises:
        UserError: An unknown name, a value of the wrong type, or one that its option cannot
            have, named by its full path.
    """
    return _update(config, [pair for some in values for pair in some.items()], "")


def _update(config: Any, values: Sequence[tuple[str, Any]], prefix: str) -> Any:
    hints = _hints(type(config))
    new: dict[str, Any] = {}
    groups: dict[str, list[tuple[str, Any]]] = {}
    for key, value in values:
        name, _, rest = str(key).partition(".")
        path = prefix + name
        if name not in hints:
            choices = [prefix + field for field in hints]
            if not prefix:
                choices += [option.path for option in options(config)]
            raise UserError(f"unknown option {_shown(prefix + str(key))}{nearest(path, choices)}")
        current = new.get(name, getattr(config, name))
        if rest:
            value = {rest: value}
        if dataclasses.is_dataclass(current):
            if not isinstance(value, Mapping):
                inner = ", ".join(f"{path}.{f.name}" for f in dataclasses.fields(current)[:3])
                raise UserError(f"{path} is a group of options; set one of them: {inner}, ...")
            groups.setdefault(name, []).extend(value.items())
        elif isinstance(current, Mapping) and isinstance(value, Mapping):
            new[name] = {**current, **coerce(value, hints[name], path)}
        else:
            if rest:
                wrong = _shown(prefix + str(key))
                raise UserError(f"unknown option {wrong}: {path} has no parts")
            new[name] = coerce(value, hints[name], path)
    for name, inner in groups.items():
        new[name] = _update(getattr(config, name), inner, f"{prefix}{name}.")
    try:
        return dataclasses.replace(config, **new)
    except OptionError as error:
        raise error.moved(prefix) from None


@functools.cache
def _hints(owner: type) -> dict[str, Any]:
    """Returns the types of a dataclass's options by name; reading them takes long."""
    hints = typing.get_type_hints(owner)
    return {field.name: hints[field.name] for field in dataclasses.fields(owner)}


def coerce(value: Any, kind: Any, path: str) -> Any:
    """Turns a value from a preset or a flag into the type of its option.

    Integers serve as floats, integral floats ("1e6") as integers, lists and comma lists
    as tuples, and the words true, false and none as what they say.

    Args:
        value: What the user wrote.
        kind: The resolved annotation of the option.
        path: The option's name, for the message.

    Raises:
        UserError: The value does not fit the type.
    """
    result = _convert(value, kind)
    if result is MISSING:
        words = list(map(str, choices(kind)))
        if words:
            several = typing.get_origin(kind) is tuple and isinstance(value, str)
            parts = [part.strip() for part in value.split(",")] if several else [value]
            wrong = next((part for part in parts if _word(part) not in words), value)
            raise UserError(f"{path} cannot be {_shown(wrong)}{nearest(_word(wrong), words)}")
        raise UserError(f"{path} must be {type_name(kind)}, not {_shown(value)}")
    return result


def _shown(value: Any) -> str:
    """A value in a message, however long it is."""
    try:
        words = repr(value)
    except ValueError:  # A number of more digits than Python writes.
        words = f"a number of {value.bit_length():,} bits" if isinstance(value, int) else "..."
    return words if len(words) <= _MOST_SHOWN else f"{words[:_MOST_SHOWN]}..."


def _word(value: Any) -> str:
    """A scalar as it is written on the command line; empty for what has no such form."""
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return ""
    return str(value) if value is None or isinstance(value, str | int | float) else ""


def _convert(value: Any, kind: Any) -> Any:
    """Returns the converted value, or MISSING where it does not fit."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        # None goes first, because "none" is a string too.
        members = sorted(arguments, key=lambda member: member is not type(None))
        results = (_convert(value, member) for member in members)
        return next((result for result in results if result is not MISSING), MISSING)
    if origin is Literal:
        return next((choice for choice in arguments if str(choice) == _word(value)), MISSING)
    if origin is tuple:
        return _to_tuple(value, arguments)
    if kind is dict or origin is dict:
        value = read_text(value)
        return dict(value) if isinstance(value, Mapping) and _is_plain(value) else MISSING
    scalars = {bool: _to_bool, int: _to_int, float: _to_float, type(None): _to_none}
    if kind in scalars:
        return scalars[kind](value)
    if kind is Any:
        return value
    return value if isinstance(value, kind) and _is_plain(value) else MISSING


def _is_plain(value: Any) -> bool:
    """Whether a value can be written to a file and read back as it is."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(key) for key in value) and all(
            map(_is_plain, value.values())
        )
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, str):
        return value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)
    if isinstance(value, int):
        return value.bit_length() <= _MOST_BITS
    return value is None or isinstance(value, float)


def _to_tuple(value: Any, arguments: tuple[Any, ...]) -> Any:
    if isinstance(value, str):
        value = [part.strip() for part in value.strip("[]() ").split(",") if part.strip()]
    if not isinstance(value, list | tuple):
        return MISSING
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(arguments) != len(value):
        return MISSING
    results = tuple(map(_convert, value, arguments))
    return MISSING if any(result is MISSING for result in results) else results


def _to_bool(value: Any) -> Any:
    return {"true": True, "false": False}.get(_word(value).lower(), MISSING)


def _to_int(value: Any) -> Any:
    number = _to_float(value)
    if number is MISSING or not math.isfinite(number) or not number.is_integer():
        return MISSING
    try:
        result = int(value)
    except ValueError:  # "1e6"
        result = int(number)
    return result if _is_plain(result) else MISSING


def _to_float(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return MISSING
    try:
        return float(value)
    except (ValueError, OverflowError):
        return MISSING


def _to_none(value: Any) -> Any:
    return None if _word(value).lower() in ("none", "null") else MISSING


def read_text(value: Any) -> Any:
    """Reads a string as YAML where that gives more than a string: "3", "[1, 2]", "{a: 1}"."""
    if not isinstance(value, str):
        return value
    try:
        return _load(value)
    except ruamel.yaml.error.YAMLError:
        return value


def type_name(kind: Any) -> str:
    """Names a type as a user would: "true or false", "an integer", "one of a, b"."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(type_name(member) for member in arguments)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"a comma list, each {type_name(arguments[0])}"
        return f"a comma list of {len(arguments)}, each {type_name(arguments[0])}"
    names = {
        bool: "true or false",
        int: "an integer",
        float: "a number",
        str: "a string",
        dict: "a mapping such as '{name: value}'",
        type(None): "none",
    }
    return names.get(origin or kind, str(kind))


def to_dict(config: Any) -> dict[str, Any]:
    """Returns the configuration as nested plain mappings, tuples as lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(inner) for key, inner in value.items()}
        return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value

    return plain(dataclasses.asdict(config))


def to_yaml(config: Any) -> str:
    """Returns the configuration as YAML that ``from_yaml`` reads back exactly."""
    stream = io.StringIO()
    _yaml().dump(to_dict(config), stream)
    return stream.getvalue()


def from_yaml(config: Config, path: pathlib.Path) -> Config:
    """Reads a file that ``to_yaml`` wrote over a configuration of the same class.

    Raises:
        UserError: The file is missing, damaged, or of another version's options.
    """
    return update(config, read_mapping(path))


def read_mapping(path: pathlib.Path) -> dict[str, Any]:
    """Reads a YAML 1.2 file that holds one mapping.

    Raises:
        UserError: The file is missing, is not YAML, or holds something else.
    """
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"cannot read {path}: it is no file")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    if len(content) > MOST_BYTES:
        raise UserError(f"{path} is larger than {MOST_BYTES:,} bytes; it holds more than options")
    try:
        values = _load(content.decode("utf-8-sig"))
    except (ruamel.yaml.error.YAMLError, UnicodeDecodeError) as error:
        line = " ".join(str(error).split())
        raise UserError(f"{path} is not valid YAML: {line[:200]}") from None
    if not isinstance(values or {}, dict):
        raise UserError(f"{path} must hold a mapping of options, not {type(values).__name__}")
    return values or {}


def _load(text: str) -> Any:
    """Reads YAML 1.2.

    Raises:
        YAMLError: It is none, or grows without bound where its aliases are written out.
    """
    yaml = _yaml()
    try:
        node = yaml.compose(text)
        if node is None:
            return None
        weight, depth = _weigh(node, {})
        if weight > MOST_VALUES or depth > DEEPEST:
            raise ruamel.yaml.error.YAMLError(
                f"it holds {min(weight, 10**12):,} values, {depth} levels deep; at most "
                f"{MOST_VALUES:,} values and {DEEPEST} levels are read"
            )
        return yaml.constructor.construct_document(node)
    except ruamel.yaml.error.YAMLError:
        raise
    except RecursionError:
        raise ruamel.yaml.error.YAMLError("its lists and mappings lie too deep") from None
    except Exception as error:  # The library raises anything where a tag does not fit its value.
        raise ruamel.yaml.error.YAMLError(f"a value cannot be read ({error})") from error


def _weigh(node: Any, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """Returns the values below a node, every alias written out, and their levels."""
    if id(node) in known:
        if known[id(node)] is None:
            raise ruamel.yaml.error.YAMLError("an alias stands inside of what it stands for")
        return known[id(node)]
    known[id(node)] = None
    inner = [] if isinstance(node.value, str) else node.value
    inner = [one for pair in inner for one in (pair if isinstance(pair, tuple) else (pair,))]
    found = [_weigh(one, known) for one in inner]
    total = (
        1 + sum(weight for weight, _ in found),
        1 + max((depth for _, depth in found), default=0),
    )
    known[id(node)] = total
    return total


def _yaml() -> ruamel.yaml.YAML:
    # The C loader behind the plain "safe" type still reads YAML 1.1, where "no" is false.
    yaml = ruamel.yaml.YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.width = MOST_BYTES  # Where long lines are broken, spaces may get lost.
    yaml.sort_base_mapping_type_on_output = False
    return yaml


def difference(before: Any, after: Any) -> list[Change]:
    """Lists the options in which two configurations of one class differ."""
    pairs = zip(options(before), options(after), strict=True)
    return [Change(a.path, a.value, b.value) for a, b in pairs if a.value != b.value]
