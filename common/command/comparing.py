"""The command "compare": runs beside what others have published."""

from __future__ import annotations

import csv
import math
import pathlib
import sys
from typing import TYPE_CHECKING

from common.command.flags import Flags
from common.errors import UserError
from common.trained import refuse_name

if TYPE_CHECKING:
    from common.report.comparison import Comparison

OPTIONS = {
    "logdir": "Folders of runs. Those of one agent, task and input are seeds of one curve, where "
    "all options that change what is learned are the same.",
    "out": "Where to write it as a page, .html, or every frame as a table, .csv. [default: none]",
}
_SUFFIXES = (".html", ".csv")


def run(parsed: Flags) -> int:
    """Compares the runs of a command line; returns the exit code.

    Raises:
        UserError: No run was named, a folder holds none, or none can be compared; or the file
            cannot be written.
    """
    folders = parsed.lists.get("logdir", ())
    if not folders:
        raise UserError("name the runs' folders: --logdir runs/...")
    refuse_name(*folders)
    out = pathlib.Path(parsed.extra["out"]).expanduser() if "out" in parsed.extra else None
    if out and out.suffix not in _SUFFIXES:
        raise UserError(f"--out {out} must end in {' or '.join(_SUFFIXES)}")
    if out and not out.parent.is_dir():
        raise UserError(f"--out {out} lies in no folder that there is")
    found = _compared([pathlib.Path(folder).expanduser() for folder in folders])
    from common.report.beside import as_text

    print("\n\n".join(map(as_text, found)))
    if out:
        (_write_page if out.suffix == ".html" else _write_table)(out, found)
        print(f"\nwritten: {out}")
    return 0


def _compared(folders: list[pathlib.Path]) -> list[Comparison]:
    """Returns a comparison for each agent, with its options, task and input.

    What cannot be compared is left aside with a note.
    """
    from common.report.comparison import comparable, compare, curves
    from common.report.data import RunData
    from common.report.read import read_run

    found: list[RunData] = []
    reasons = []
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        try:
            one = read_run(folder)
            comparable(one)
        except UserError as reason:
            reasons.append(str(reason))
        else:
            found.append(one)
    if not found:
        raise UserError("; ".join(reasons))
    for reason in reasons:
        print(f"note: {reason}", file=sys.stderr)
    return [compare(*alike) for alike in curves(found)]


def _write_page(path: pathlib.Path, found: list[Comparison]) -> None:
    from common.report import beside
    from common.report.html import document, escape, section, write_page

    sections = [section(beside.title(one), beside.section_of(one)) for one in found]
    page = document(
        "Runs beside published agents", escape("written by compare"), sections, beside.STYLE
    )
    write_page(path, page)


def _write_table(path: pathlib.Path, found: list[Comparison]) -> None:
    from common.files import replacing
    from common.report import beside

    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["runs", *beside.COLUMNS])
        for one in found:
            for row in beside.rows(one):
                values = ["" if _unknown(value) else value for value in row.values()]
                table.writerow([beside.title(one), *values])


def _unknown(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
