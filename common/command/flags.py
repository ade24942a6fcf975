"""The command line of a configuration: its flags and its help.

An option is named by its dotted path, or by any ending of it that only one option has:
``--rssm.deter 400`` means ``--world_model.rssm.deter 400``.
"""

from __future__ import annotations

import inspect
import re
import shutil
import textwrap
import types
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from common.checks import choices
from common.command.presets import preset_descriptions
from common.config import Option, options, read_text
from common.errors import UserError, nearest

SEVERAL = ("configs", "diff")
"""Options that take several words, all of them names of presets."""


GIVE_WAY = ("tdmpc2", "planner", "exploration", "distill", "constraint", "env.challenge")
"""Groups that came beside others with options of the same names, which keep their short ones."""


class Flags(NamedTuple):
    """A command line, taken apart.

    Attributes:
        configs: Names of presets or paths of YAML files, in order, of --configs or --diff.
        values: Options of the configuration by their full dotted path.
        extra: Options of the command itself.
        argv: All of its words, as they were given.
        lists: Options of the command itself that took several words.
    """

    configs: tuple[str, ...]
    values: dict[str, Any]
    extra: dict[str, str]
    argv: tuple[str, ...] = ()
    lists: Mapping[str, tuple[str, ...]] = types.MappingProxyType({})


def parse_flags(
    argv: Sequence[str], config: Any, extra: Sequence[str] = (), lists: Sequence[str] = ()
) -> Flags:
    """Takes a command line apart: ``--configs a b --key value --key=value``.

    Args:
        argv: The words after the command.
        config: The configuration whose options are valid; None for none.
        extra: Names of further options, which belong to the command itself.
        lists: Those of them that take several words.

    Raises:
        UserError: An unknown or ambiguous option, a missing value, or a stray word.
    """
    paths = [option.path for option in options(config)] if config is not None else []
    allowed = [*extra, *(["configs"] if paths else [])]
    flags = Flags((), {}, {}, tuple(argv))
    several = (*SEVERAL, *lists)
    words = list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith("--") or word == "--":
            raise UserError(f"unexpected {word!r}; options are written --name value")
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        path = "" if name in allowed else find_option(name, paths, allowed)
        taken = [value] if equals else []
        while words and not words[0].startswith("--") and (name in several or not taken):
            taken.append(words.pop(0))
        if not taken:
            raise UserError(f"--{name} needs a value: --{name} VALUE")
        if path:
            # What lies inside a mapping has no type to be read by.
            flags.values[path] = taken[0] if path in paths else read_text(taken[0])
        elif name in SEVERAL:
            flags = flags._replace(configs=flags.configs + tuple(taken))
        elif name in lists:
            taken = [*flags.lists.get(name, ()), *taken]
            flags = flags._replace(lists={**flags.lists, name: tuple(taken)})
        else:
            flags.extra[name] = taken[0]
    return flags


def find_option(name: str, paths: Sequence[str], extra: Sequence[str] = ()) -> str:
    """Finds the one option whose dotted path is the name or ends with it.

    Parts of a mapping option (``env.kwargs.size``) resolve through the mapping's name. Where the
    groups of GIVE_WAY share an ending with others, it is that of the others.

    Raises:
        UserError: No option, or more than one, has that ending.
    """
    parts = name.split(".")
    for split in range(len(parts), 0, -1):
        head, rest = ".".join(parts[:split]), parts[split:]
        found = [path for path in paths if path == head]
        found = found or [path for path in paths if path.endswith("." + head)]
        for group in GIVE_WAY:
            found = [path for path in found if not path.startswith(f"{group}.")] or found
        if len(found) > 1:
            raise UserError(f"option --{name} is ambiguous; write one of: --{', --'.join(found)}")
        if found:
            return ".".join([found[0], *rest])
    inside = [path for path in paths if f".{name}." in f".{path}"]
    if inside:
        raise UserError(f"--{name} is a group of options, such as --{inside[0]}; --help lists it")
    known = {"--" + word for path in (*extra, *paths) for word in _endings(path)}
    hint = nearest("--" + name, known) or "; this command has no options"
    raise UserError(f"unknown option --{name}{hint}")


def _endings(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[start:]) for start in range(len(parts))]


def attribute_docs(owner: type) -> dict[str, str]:
    """Reads the "Attributes:" sections of a class and of those that it extends.

    Returns:
        One sentence or more by attribute, those of the base first; what a class says of an
        attribute itself goes before what its base says.
    """
    found: dict[str, str] = {}
    for one in reversed(owner.__mro__):
        found |= _own_docs(one)
    return found


def _own_docs(owner: type) -> dict[str, str]:
    doc = inspect.cleandoc(vars(owner).get("__doc__") or "")
    _, _, section = doc.partition("Attributes:\n")
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        indent = len(line) - len(line.lstrip())
        if line.strip() and indent == 0:
            break
        start = re.match(r" {4}(\w+): *(.*)", line)
        if start:
            name = start[1]
            found[name] = start[2]
        elif name and line.strip():
            found[name] += " " + line.strip()
    return found


def help_text(config: Any, width: int = 0) -> str:
    """Explains every option: its name, what it does, and its value by default.

    Args:
        config: The configuration; its values are the defaults shown.
        width: Columns to fill; 0 takes the terminal's, 100 at most.
    """
    width = width or _width()
    groups: dict[str, list[Option]] = {"": []}
    for option in options(config):
        groups.setdefault(option.path.rpartition(".")[0], []).append(option)
    lines = []
    for group, members in groups.items():
        if not members:
            continue
        owner = members[0].owner
        title = (inspect.getdoc(owner) or "").partition("\n")[0]
        lines += ["", f"{group or 'general'}: {title}"]
        docs = attribute_docs(owner)
        for option in members:
            name = option.path.rpartition(".")[2]
            lines += _entry(f"--{option.path}", f"{docs.get(name, '')} {_default(option)}", width)
    return "\n".join(lines[1:])


def preset_help() -> str:
    """Lists the presets, each with the first comment line of its file."""
    descriptions = preset_descriptions().items()
    return "\n".join(line for item in descriptions for line in _entry(*item, _width(), 18))


def entries(described: Mapping[str, str]) -> str:
    """Lists options of a command, each with what it means."""
    items = [(f"--{name}", words) for name, words in described.items()]
    return "\n".join(line for item in items for line in _entry(*item, _width()))


def _width() -> int:
    return min(shutil.get_terminal_size((100, 24)).columns, 100)


def _default(option: Option) -> str:
    words = ", ".join(map(str, choices(option.type)))
    listed = f"{'each ' * isinstance(option.value, tuple)}one of {words}; " if words else ""
    value = option.value
    if isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, tuple):
        value = ",".join(map(str, value)) or "empty"
    elif value in ("", None) or value == {}:
        value = "empty" if value is not None else "none"
    return f"[{listed}default: {value}]"


def _entry(name: str, words: str, width: int, column: int = 30) -> list[str]:
    """Sets a name in a column, and its explanation, wrapped, in the next."""
    indent = " " * (column + 2)
    wrapped = textwrap.wrap(" ".join(words.split()), max(width - column - 2, 30))
    first = f"  {name:<{column - 2}}"
    if len(first) > column:
        return [first, *(indent + line for line in wrapped)]
    return [f"{first}  {wrapped[0] if wrapped else ''}", *(indent + w for w in wrapped[1:])]
