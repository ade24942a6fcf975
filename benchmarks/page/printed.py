"""Aggregates as a paper printed them, beside what is computed here."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.page.results import Result
from benchmarks.suites import Suite
from common.published.tables import DATA, read_rows
from common.report.html import escape


def printed(suite: Suite) -> dict[str, dict[str, str]]:
    """Printed digits by agent and aggregate; empty where no paper printed aggregates."""
    file = f"{suite.name}_published_aggregates.csv"
    if not (DATA / file).is_file():
        return {}
    rows = {row.pop("agent"): row for row in read_rows(file)}
    return {
        agent: {name.replace("_", " "): digits for name, digits in row.items()}
        for agent, row in rows.items()
    }


def comparison(results: Sequence[Result], suite: Suite) -> str:
    """Draws printed beside computed aggregates, agent by agent.

    Returns:
        A table; "" where no agent is among those whose aggregates were printed.
    """
    table = printed(suite)
    shown = [
        result
        for result in results
        if result.agent.published and result.name in table and not result.aggregates.missing
    ]
    if not shown:
        return ""
    names = list(table[shown[0].name])
    groups = "".join(
        f'<th scope="colgroup" colspan="2">{escape(name.capitalize())}</th>' for name in names
    )
    pair = '<th scope="col">printed</th><th scope="col">computed</th>'
    rows = []
    for result in shown:
        cells = "".join(_pair(result, name, table[result.name][name]) for name in names)
        rows.append(f'<tr><th scope="row">{escape(result.name)}</th>{cells}</tr>')
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="Printed and computed">'
        f'<table class="printed"><thead><tr><th scope="col">Agent</th>{groups}</tr>'
        f"<tr><th></th>{pair * len(names)}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def agrees(digits: str, value: float) -> bool:
    """Whether a value rounds to printed digits."""
    return f"{value:.{len(digits.partition('.')[2])}f}" == digits


def _pair(result: Result, name: str, digits: str) -> str:
    value = result.aggregates.values[name].point
    places = len(digits.partition(".")[2])
    words, style = f"{value:.{places}f}", ""
    if not agrees(digits, value):
        words, style = f"{words} differs", ' class="missing"'
    return f"<td>{escape(digits)}</td><td{style}>{words}</td>"
