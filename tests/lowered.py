"""Reads lowered programs, in StableHLO."""

from __future__ import annotations

import re


def loops_of(text: str) -> list[str]:
    """Returns the texts of the loops: from each to the line that closes it."""
    found, lines = [], text.splitlines()
    for begin, line in enumerate(lines):
        if "stablehlo.while" in line:
            indent = len(line) - len(line.lstrip())
            rest = lines[begin + 1 :]
            end = next(
                i
                for i, other in enumerate(rest)
                if other.startswith(" " * indent + "}") and not other.strip().endswith("do {")
            )
            called = re.findall(r"call @(\w+)", "\n".join(rest[:end]))
            found.append("\n".join([*rest[:end], *(_function(lines, one) for one in called)]))
    return found


def _function(lines: list[str], name: str) -> str:
    begin = next(i for i, line in enumerate(lines) if f"func.func private @{name}(" in line)
    end = next(i for i, line in enumerate(lines[begin:]) if line.startswith("  }"))
    return "\n".join(lines[begin : begin + end])
