"""The score and report commands of the sweep.

python -m benchmarks rwrl score --logdir runs/rwrl
python -m benchmarks rwrl report --logdir runs/rwrl --out runs/rwrl/page
"""

from __future__ import annotations

import base64
import json
import pathlib
import shlex
from collections.abc import Sequence

from benchmarks.jobs import plan as plans
from benchmarks.options import Parser
from benchmarks.rwrl.figures import BEST, draw
from benchmarks.rwrl.measures import LEAST, SHARE, WINDOW
from benchmarks.rwrl.results import Row, by_point, curves, read_rows, table, write_csv
from common.errors import UserError
from common.report.html import document, escape, note, section, write_page
from common.run import versions

REPORT, PICTURE, TABLE, CURVES = "report.html", "returns.png", "results.csv", "curves.jsonl"
SMALLEST = 190
"""Pixels of the page that a chart is wide at least; the picture scrolls where it has fewer."""


def score(argv: Sequence[str]) -> int:
    """Prints what the runs reached; returns the exit code."""
    parser = _parser("score", "Prints what the finished runs of a sweep reached.")
    lines = table(read_rows(_plan(parser, argv)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())
    return 0


def report(argv: Sequence[str]) -> int:
    """Writes what they reached: a page, a picture, a table, all curves; returns the exit code."""
    parser = _parser("report", "Writes a page with returns by strength, constraints and measures.")
    parser.add_argument("--out", type=pathlib.Path, help="where to write [default: LOGDIR/page]")
    plan = _plan(parser, argv)
    rows, lines = read_rows(plan), curves(plan)
    given = parser.parse(argv)
    folder = given.out or pathlib.Path(given.logdir) / "page"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(folder / TABLE, table(rows))
        (folder / CURVES).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        draw(by_point(rows), folder / PICTURE)
    except OSError as error:
        raise UserError(f"cannot write into {folder}: {error.strerror}") from error
    command = shlex.join(["python", "-m", "benchmarks", "rwrl", "report", *argv])
    print(f"report: {write_page(folder / REPORT, _page(rows, folder / PICTURE, command))}")
    return 0


def _parser(command: str, description: str) -> Parser:
    parser = Parser(f"python -m benchmarks rwrl {command}", description=description)
    parser.add_argument("--logdir", required=True, help="folder of the sweep")
    return parser


def _plan(parser: Parser, argv: Sequence[str]) -> plans.Plan:
    plan = plans.read(pathlib.Path(parser.parse(argv).logdir))
    if plan.suite != "rwrl":
        raise UserError(f"{plan.logdir} holds a benchmark of {plan.suite}, not of rwrl")
    return plan


def _page(rows: Sequence[Row], picture: pathlib.Path, command: str) -> str:
    heads, *lines = table(rows)
    data = base64.b64encode(picture.read_bytes()).decode()
    plain = lambda x: escape(x.replace("_", " "))  # noqa: E731
    cells = lambda kind, line: "".join(f"<{kind}>{plain(x)}</{kind}>" for x in line)  # noqa: E731
    body = "".join(f"<tr>{cells('td', line)}</tr>" for line in lines)
    drawn = (
        "Mean return of the last evaluation, with the challenge on, against its strength: a dot is "
        "a run, of one seed; the line their mean; the dashed line a random policy in the same "
        f"environments. At best a task returns {BEST}."
    )
    words = (
        "Returns are means over seeds of each run's last evaluation, with the challenge on; each "
        "is that of every seed, random that of a random policy in the same environments. Costs are "
        "sums of an episode's violated shares, violations frames of all training. The measures are "
        f"the suite's, of the returns while training: its window is {WINDOW} episodes, and of runs "
        f"with fewer than {SHARE * WINDOW} a quarter of their episodes (none below "
        f"{SHARE * LEAST} episodes)."
    )
    made = "".join(f"<li>{escape(x)}</li>" for x in (command, *versions.describe().splitlines()))
    whole = f'<div class="wide"><table><tr>{cells("th", heads)}</tr>{body}</table></div>'
    challenges = len({challenge for _, challenge in by_point(rows)})
    image = (
        f'<div class="wide"><img src="data:image/png;base64,{data}" '
        f'alt="Return by strength" style="min-width:{SMALLEST * challenges}px"></div>'
    )
    sections = [
        section("Return by strength", note(drawn) + image),
        section("Table", note(words) + whole),
        section("How it was made", f"<ul>{made}</ul>"),
    ]
    amounts = _amount(len(rows), "run"), _amount(len({row.task for row in rows}), "task")
    title = f"rwrl: {', '.join(amounts)}"
    style = (
        "main{max-width:1180px}.wide{overflow-x:auto}img{max-width:100%}"
        "td,th{overflow-wrap:normal}th{white-space:normal;vertical-align:bottom}"
        "td:nth-child(-n+2){white-space:nowrap}td:nth-child(6){min-width:7.5em}"
    )
    return document(title, "Challenges of applied reinforcement learning", sections, style)


def _amount(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
