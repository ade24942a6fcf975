"""The table of tasks, which readers sort by click or keyboard."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.page.results import Result
from benchmarks.scores.aggregate import TaskScore
from benchmarks.suites import Suite
from common.report.html import escape

SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const sort = (column) => {
    const head = heads[column];
    const numbers = column > 0;
    const before = head.getAttribute("aria-sort");
    const rising = before === "none" ? !numbers : before === "descending";
    const key = (row) => row.cells[column].dataset.value;
    const compare = (a, b) => numbers ? key(a) - key(b) : key(a).localeCompare(key(b));
    const rows = [...body.rows];
    const known = rows.filter((row) => key(row) !== "");
    known.sort((a, b) => rising ? compare(a, b) : compare(b, a));
    body.append(...known, ...rows.filter((row) => key(row) === ""));
    for (const other of heads) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
  };
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => sort(column));
  });
}
"""
"""Sorts by the column whose heading is pressed; cells without a value stay last."""


def columns(suite: Suite, results: Sequence[Result]) -> list[tuple[str, str]]:
    """Headings of the table and the small words below them, from the second column on."""
    heads = []
    for result in results:
        if result.focus:
            name, remark = result.name, result.remark
            scale = "return / 1000" if suite.name.startswith("dmc") else "gamer = 1"
            heads.append((name, ", ".join(filter(None, [remark, "mean over seeds, 95% interval"]))))
            heads.append((f"{name}, {scale}", "normalised"))
            if suite.record:
                heads.append((f"{name}, record = 1", "clipped at 1"))
            heads.append((f"{name}, seeds", ""))
    heads += [(name, "") for name, _ in _references(suite)]
    return heads + [(result.name, result.remark) for result in results if not result.focus]


def cells(task: str, suite: Suite, results: Sequence[Result]) -> list[tuple[float | None, str]]:
    """Cells of one row as value and text, from the second column on; None where missing."""
    row = []
    for result in results:
        if result.focus:
            row += _detail(result.tasks.get(task), bool(suite.record))
    row += [(of[task], raw(of[task])) for _, of in _references(suite)]
    for result in results:
        if not result.focus:
            score = result.tasks.get(task)
            row.append((score.raw.point, raw(score.raw.point)) if score else _MISSING)
    return row


def raw(value: float) -> str:
    """A raw score with as many digits as readers use."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"


def table(suite: Suite, results: Sequence[Result]) -> str:
    """Draws the table; the page needs ``SCRIPT`` once."""
    heads = [("Task", ""), *columns(suite, results)]
    head = "".join(
        f'<th scope="col" aria-sort="none"><button type="button" tabindex="0">{escape(name)}'
        f"</button>{f'<small>{escape(words)}</small>' if words else ''}</th>"
        for name, words in heads
    )
    rows = []
    for task in suite.tasks:
        drawn = "".join(_cell(*cell) for cell in cells(task, suite, results))
        name = escape(task.replace("_", " "))
        first = f'<th scope="row" data-value="{escape(task)}">{name}</th>'
        rows.append(f"<tr>{first}{drawn}</tr>")
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="Scores of each task">'
        f'<table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


_MISSING = (None, "missing")


def _references(suite: Suite) -> list[tuple[str, dict[str, float]]]:
    if suite.name.startswith("dmc"):
        return []
    references = [("Random", suite.low), ("Gamer", suite.gamer), ("Record", suite.record)]
    return [(name, dict(of)) for name, of in references if of]


def _detail(score: TaskScore | None, records: bool) -> list[tuple[float | None, str]]:
    if score is None:
        return [_MISSING] * (4 if records else 3)
    interval = score.raw
    words = raw(interval.point)
    if interval.low is not None and interval.high is not None:
        words += f" ({raw(interval.low)} to {raw(interval.high)})"
    row: list[tuple[float | None, str]] = [(interval.point, words)]
    row.append((score.gamer, f"{score.gamer:.2f}"))
    if score.record is not None:
        clipped = min(score.record, 1.0)
        row.append((clipped, f"{clipped:.3f}"))
    row.append((score.seeds, str(score.seeds)) if score.seeds else (None, "unknown"))
    return row


def _cell(value: float | None, words: str) -> str:
    if value is None:
        return f'<td data-value="" class="missing">{escape(words)}</td>'
    return f'<td data-value="{float(value)!r}">{escape(words)}</td>'
