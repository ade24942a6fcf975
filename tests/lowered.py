"""Reads lowered programs, in StableHLO."""

from __future__ import annotations

import re
from collections.abc import Iterator


def loops_of(text: str) -> list[str]:
    """Returns the texts of the loops: from each to the line that closes it, calls written out."""
    functions = dict(_functions(text))
    lines = text.splitlines()
    return [
        "\n".join(_written_out(_closed(lines, begin), functions))
        for begin, line in enumerate(lines)
        if "stablehlo.while" in line
    ]


def _closed(lines: list[str], begin: int) -> list[str]:
    """What stands between the line that opens a loop and the one that closes it."""
    indent = len(lines[begin]) - len(lines[begin].lstrip())
    rest = lines[begin + 1 :]
    end = next(
        i
        for i, other in enumerate(rest)
        if other.startswith(" " * indent + "}") and not other.strip().endswith("do {")
    )
    return rest[:end]


def _functions(text: str) -> Iterator[tuple[str, list[str]]]:
    """Every private function and its lines."""
    for part in text.split("\n  func.func private @")[1:]:
        yield re.match(r"\w+", part)[0], part.split("\n  }")[0].splitlines()[1:]


def _written_out(lines: list[str], functions: dict[str, list[str]]) -> Iterator[str]:
    for line in lines:
        yield line
        if called := re.search(r"call @(\w+)", line):
            yield from _written_out(functions[called[1]], functions)


def operations(body: str) -> int:
    """How many operations a text has that compute or move something."""
    free = r"stablehlo\.(?!constant|return|reshape|while|broadcast_in_dim)"
    return len(re.findall(free, body))
