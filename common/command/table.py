"""A table of commands: one word, what it runs, and one line about it."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from common.errors import UserError, nearest

HELP = ("--help", "-h", "help")
"""Words that ask for help where a command is expected."""


class Command(NamedTuple):
    """One command.

    Attributes:
        run: Does it and returns the exit code; what it takes is the table's own.
        summary: What it does.
        options: Its own options, and what each means.
        configured: Whether it takes presets and an agent's options too.
        further: ``(program) -> options`` that it has with that agent besides; where there are
            any, it takes presets and the agent's options too. None for a command that is the
            same with every agent.
        lists: Those of its options that take several words.
    """

    run: Callable[..., int]
    summary: str
    options: Mapping[str, str] = types.MappingProxyType({})
    configured: bool = False
    further: Callable[[Any], Mapping[str, str]] | None = None
    lists: tuple[str, ...] = ()


def find(word: str, commands: Mapping[str, Command]) -> Command:
    """Returns the command of that name.

    Raises:
        UserError: There is none.
    """
    if word not in commands:
        raise UserError(f"unknown command {word!r}{nearest(word, commands)}")
    return commands[word]


def listing(commands: Mapping[str, Command]) -> list[str]:
    """Returns the lines of a help text that name the commands."""
    return ["commands:", *(f"  {word:<13}{one.summary}" for word, one in commands.items())]
