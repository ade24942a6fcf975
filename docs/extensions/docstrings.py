"""Docstrings as the package writes them, for Sphinx.

They are Google style in plain words: a block that is indented deeper than the paragraph before is
code or a formula, and ``lambda_`` or ``|x|`` outside of quotes are no references.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from sphinx.application import Sphinx

NAME = re.compile(r"\b([A-Za-z]\w*)_(?![\w:])")
BARS = re.compile(r"([|*])")


def prepared(lines: Sequence[str]) -> Iterator[str]:
    """Yields lines of a docstring in reStructuredText; a blank one more ahead of literal blocks.

    Args:
        lines: Of the docstring, without the indentation that all share.
    """
    literal: int | None = None  # How far the paragraph above a literal block is indented.
    last = ""  # The last line that is not blank, and above a blank one.
    for number, line in enumerate(lines):
        if not line.strip():
            yield line
            continue
        after_blank = number > 0 and not lines[number - 1].strip()
        if literal is not None and indent(line) <= literal:
            literal = None
        if literal is None and after_blank and last and indent(line) >= indent(last) + 4:
            literal = indent(last)
            if not last.rstrip().endswith("::"):
                yield from (" " * literal + "::", "")
        yield line if literal is not None else escaped(line)
        last = line


def indent(line: str) -> int:
    """Returns by how many columns a line is indented."""
    return len(line) - len(line.lstrip())


def escaped(line: str) -> str:
    """Escapes what would be a reference, a substitution or an emphasis, outside of quotes."""
    parts = re.split(r"(``.*?``)", line)
    parts[::2] = [BARS.sub(r"\\\1", NAME.sub(r"\1\\_", part)) for part in parts[::2]]
    return "".join(parts)


def _process(app: Sphinx, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    lines[:] = prepared(list(lines))


def setup(app: Sphinx) -> dict[str, bool]:
    """Reads docstrings before Napoleon does."""
    app.connect("autodoc-process-docstring", _process, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
