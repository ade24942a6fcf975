"""Rows of tables of scores as others export them: CSV of any separator, or JSON lines.

Numbers are what their digits say: what Python would read more leniently, such as "1_000", is
refused, as is a row that does not fit its header.
"""

from __future__ import annotations

import csv
import io
import json
import math
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.suites import Suite
from common.errors import UserError, nearest

COLUMNS = ("game", "seed", "frames", "return")
MOST = 2**63 - 1
"""The largest seed and the largest number of frames."""

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_JSON = (".jsonl", ".ndjson", ".json")
_NUMBER = re.compile(r"[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
_WHOLE = re.compile(r"[+-]?[0-9]+")
_ALE = re.compile(r"(ALE/)?(?P<game>\w+?)(NoFrameskip|Deterministic)?-v[0-9]+")
_MOST_SHOWN = 60
_MOST_NAMED = 20


def read_rows(path: pathlib.Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Reads a table.

    Args:
        path: JSON lines where it ends in ``.jsonl``, ``.ndjson`` or ``.json``, else CSV. Names
            of columns are read in any case, and "task" stands for "game" too.

    Yields:
        The number of a line, and its cells by the names of the columns, as text.

    Raises:
        UserError: The file cannot be read, lacks a column, or has a row that does not fit.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        kind = "file of JSON lines" if path.suffix in _JSON else "CSV file"
        raise UserError(f"{path} is not a {kind} in UTF-8: {error}") from None
    yield from _json_rows(path, text) if path.suffix in _JSON else _csv_rows(path, text)


def _csv_rows(path: pathlib.Path, text: str) -> Iterator[tuple[int, Mapping[str, str]]]:
    header, separator = _header(path, text)
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True
    )
    begun = False
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not begun:
                begun = True
                continue
            row = dict(zip(header, map(str.strip, cells), strict=False))
            if len(cells) != len(header):
                empty = next((f"{name} is None; " for name in COLUMNS if name not in row), "")
                raise UserError(
                    f"{path}, line {reader.line_num}: {empty}expected a finite number in every "
                    f"column: the row has {len(cells)} cells, the header {len(header)} (a comma "
                    "inside of a number?)"
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num} is not CSV: {error}") from None


def _header(path: pathlib.Path, text: str) -> tuple[list[str], str]:
    """Names of the columns, and what separates them."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    found = {}
    for separator in _SEPARATORS:
        try:
            cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
        except csv.Error as error:
            raise UserError(f"{path} is not a CSV file: {error}") from None
        found[separator] = _column_names(cells)
    separator = max(found, key=lambda one: len(set(COLUMNS) & set(found[one])))
    header = found[separator]
    _check_columns(f"{path}", "column ", header)
    if twice := [name for name in COLUMNS if header.count(name) > 1]:
        raise UserError(f"{path} has two columns {twice[0]!r}; keep one of them")
    return header, separator


def _column_names(cells: Sequence[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    plain = [name.lower() if name.lower() in (*COLUMNS, "task") else name for name in names]
    return ["game" if name == "task" and "game" not in plain else name for name in plain]


def _check_columns(place: str, what: str, names: Sequence[str], hint: str = "") -> None:
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        there = ", ".join(repr(_shown(name)) for name in names[:_MOST_NAMED] if name)
        there = f" but {there}" if there else ""
        raise UserError(
            f"{place} has no {what}{missing[0]!r}{there}; expected {', '.join(COLUMNS)}{hint}"
        )


def _json_rows(path: pathlib.Path, text: str) -> Iterator[tuple[int, Mapping[str, str]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            pairs = json.loads(
                line, object_pairs_hook=list, parse_int=str, parse_float=str, parse_constant=str
            )
        except (ValueError, RecursionError):
            raise UserError(f"{place} is not JSON; expected one flat object") from None
        is_object = isinstance(pairs, list) and all(isinstance(pair, tuple) for pair in pairs)
        pairs = pairs if is_object else []
        names = _column_names([name for name, _ in pairs])
        _check_columns(place, "", names, _json_hint(names))
        if twice := [name for name in COLUMNS if names.count(name) > 1]:
            raise UserError(f"{place} says {twice[0]!r} twice; keep one of them")
        yield number, dict(zip(names, (value for _, value in pairs), strict=True))


def _json_hint(names: Sequence[str]) -> str:
    if "step" in names:
        return (
            ": lines of one DreamerV2 or DreamerV3 run do not say its game and seed; write a row "
            "for each, with step as frames and the score as return"
        )
    return " (give a folder of runs by --runs)"


def find_game(name: Any, suite: Suite, place: str) -> str:
    """Finds a game by its name in the table, its task, or its id in Gym or ALE, in any case.

    Raises:
        UserError: The benchmark has no such game.
    """
    name = str(name).strip()
    known = {}
    for game, task in suite.tasks.items():
        known |= dict.fromkeys(map(_plain, (game, task, task.partition("_")[2])), game)
    match = _ALE.fullmatch(name)
    found = known.get(_plain(name)) or (known.get(_plain(match["game"])) if match else None)
    if found is None:
        words = match["game"] if match else name
        hint = nearest(words, suite.tasks)
        raise UserError(f"{place}: unknown game {_shown(name)!r}{hint}")
    return found


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def read_number(value: Any, name: str, place: str) -> float:
    """Reads a cell; raises a UserError where it is no finite number."""
    words = value.strip() if isinstance(value, str) else ""
    number = float(words) if _NUMBER.fullmatch(words) else math.nan
    if not math.isfinite(number):
        comma = " with a point, not a comma" if "," in words else ""
        raise UserError(f"{place}: {name} is {_repr(value)}; expected a finite number{comma}")
    return number


def read_whole(value: Any, name: str, place: str) -> int:
    """Reads a cell; raises a UserError where it is no whole number up to ``MOST``."""
    number = read_number(value, name, place)
    if number != math.floor(number):
        raise UserError(f"{place}: {name} is {_repr(value)}; expected a whole number")
    words = value.strip()
    if abs(number) > MOST:
        raise UserError(f"{place}: {name} is {_repr(value)}; expected at most {MOST:,}")
    return int(words) if _WHOLE.fullmatch(words) else int(number)


def _shown(name: str) -> str:
    return name if len(name) <= _MOST_SHOWN else f"{name[:_MOST_SHOWN]}..."


def _repr(value: Any) -> str:
    return repr(_shown(value)) if isinstance(value, str) else _shown(repr(value))
