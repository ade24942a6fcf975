"""One page about all experiments that were run: claims, plots, tables and how it was made."""

from __future__ import annotations

import base64
import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence

from benchmarks.page.style import STYLE
from benchmarks.tdm import claims, plots, summary, tables
from benchmarks.tdm.claims import Claim
from benchmarks.tdm.presets import Preset, preset
from benchmarks.tdm.summary import Row
from benchmarks.tdm.work import Record, read_all, settings
from common.report.html import document, escape, note, section, write_page
from common.run import versions

PAGE = "report.html"
_DRAW: Mapping[str, Callable[..., None]] = {
    "specialist": plots.specialist,
    "few-shot": plots.few_shot,
    "zero-shot": plots.zero_shot,
    "choices": plots.specialist,
}
_HEADS = {
    "specialist": (
        "Specialist: one body, three models on the same data",
        "Errors are of predictions from actions alone, divided by each entry's deviation over "
        "the data, and averaged over the horizon; 1 is the error of always predicting the mean. "
        "Returns are of the same planner in the real environment.",
    ),
    "few-shot": (
        "Few-shot: a new body and a few of its episodes",
        "The generalist learned on other bodies of the family and goes on with these episodes; "
        "the other model has new weights. Both see the same episodes.",
    ),
    "zero-shot": (
        "Zero-shot: a new body and none of its episodes; dynamics against policy",
        "The generalist plans in what it learned from other bodies; the policies imitate the "
        "behaviour in the same data, or in the better half of each body's episodes. The "
        "specialist learned from all episodes of the target.",
    ),
    "choices": (
        "Choices: the switches of the TDM, one at a time",
        "The preset's model and what changes where one switch is turned, by a seed that no "
        "experiment above reports.",
    ),
}


def write_report(results: pathlib.Path) -> pathlib.Path:
    """Writes tables, plots and the page of everything that is there; returns the page.

    Raises:
        UserError: There are no results, or those of several settings.
    """
    records = read_all(results)
    decided = claims.decide(records)
    sections = [section("What was claimed, and what holds here", _claims(decided))]
    for name in _DRAW:
        rows = summary.rows(records, name)
        if rows:
            write_tables(results, records, name)
            sections.append(section(_HEADS[name][0], _experiment(results, records, name, rows)))
        else:
            sections.append(section(_HEADS[name][0], note("It was not run.")))
    sections.append(section("How it was made", _made(records)))
    counts = {name: len([one for one in records if one["experiment"] == name]) for name in _DRAW}
    subtitle = escape(
        f"Preset {records[0]['preset']!r}; finished parts: "
        + ", ".join(f"{count} of {name}" for name, count in counts.items())
    )
    page = document("Transformer dynamics models", subtitle, sections, STYLE)
    return write_page(results / PAGE, page)


def write_tables(results: pathlib.Path, records: Sequence[Record], name: str) -> str:
    """Writes CSV, text and plot of one experiment; returns the text."""
    rows = summary.rows(records, name)
    tables.write(results / f"{name}.csv", rows)
    text = tables.text(rows)
    (results / f"{name}.txt").write_text(text + "\n")
    others = [summary.rows(records, "zero-shot")] if name == "few-shot" else []
    _DRAW[name](results / f"{name}.png", rows, *others)
    return text


def _claims(decided: Sequence[Claim]) -> str:
    words = (
        "A comparison holds where its whole interval of "
        f"{summary.LEVEL:.0%} is on the claimed side of zero, does not hold where it is on the "
        "other side, and is undecided otherwise. Leads are means over tasks of differences "
        "between runs of the same seed; returns are shares of the best possible one. Intervals "
        "are over seeds, not over tasks; with three seeds they cover less than they say, about "
        "89%. A claim holds where all its comparisons do, and does not where one of them does not."
    )
    parts = [f"<p>{escape(words)}</p>"]
    for claim in decided:
        mood = "missing" if claim.verdict == claims.FAILS else ""
        verdict = f'<b class="{mood}">{escape(claim.verdict)}</b>'
        parts.append(f"<h3>{escape(claim.words)}</h3><p>Here: {verdict}, at this size.</p>")
        lines = [
            [
                one.measure,
                f"{one.better} ahead of {one.worse}",
                tables.words(one.lead, 3),
                f"{one.tasks} tasks, {one.seeds} seeds",
                one.verdict,
            ]
            for one in claim.comparisons
        ]
        heads = ["by", "claimed", "lead", "over", "here"]
        parts.append(_table(heads, lines, f"Comparisons: {claim.words}"))
    return "".join(parts)


def _experiment(
    results: pathlib.Path, records: Sequence[Record], name: str, rows: Sequence[Row]
) -> str:
    words = escape(_HEADS[name][1])
    table = _table(tables.HEADS, [tables.cells(row) for row in rows], _HEADS[name][0])
    data = _data_returns([one for one in records if one["experiment"] == name])
    return f"<p>{words}</p>{_picture(results / f'{name}.png', _HEADS[name][0])}{table}{data}"


def _data_returns(records: Sequence[Record]) -> str:
    """The returns in the data that a specialist of each task learned from."""
    found = {one["task"]: one["data_returns"] for one in records if "data_returns" in one}
    lines = [
        [task, str(len(some)), f"{sum(some) / len(some):.1f}", f"{max(some):.1f}"]
        for task, some in sorted(found.items())
    ]
    heads = ["task", "episodes in the data", "mean return", "best return"]
    return f"<p>The data of each task:</p>{_table(heads, lines, 'The data')}" if lines else ""


def _made(records: Sequence[Record]) -> str:
    name = records[0]["preset"]
    seconds = sum(one["seconds"] for one in records)
    lines = [
        ["command", f"python -m benchmarks tdm experiments --preset {name}"],
        ["seeds", ", ".join(map(str, sorted({one["seed"] for one in records})))],
        ["time of all parts, added up", f"{seconds / 60:.0f} minutes"],
        *(line.split(" ", 1) for line in versions.describe().splitlines()[1:]),
    ]
    found = preset(name)
    if settings(found) != records[0]["settings"]:
        return _table(["", ""], lines, "Provenance") + note(
            f"Preset {name!r} has changed since, so its numbers are not repeated here."
        )
    numbers = f"<details><summary>All numbers of the preset</summary>{_numbers(found)}</details>"
    return _table(["", ""], lines, "Provenance") + numbers


def _numbers(found: Preset) -> str:
    return f"<pre>{escape(json.dumps(dataclasses.asdict(found), indent=1))}</pre>"


def _picture(path: pathlib.Path, name: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    image = f'<img alt="{escape(name)}" style="max-width:100%" src="data:image/png;base64,{data}">'
    return f"<figure>{image}</figure>"


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]], name: str) -> str:
    head = "".join(f'<th scope="col">{escape(one)}</th>' for one in heads)
    body = []
    for first, *rest in lines:
        drawn = "".join(f"<td>{escape(one)}</td>" for one in rest)
        body.append(f'<tr><th scope="row">{escape(first)}</th>{drawn}</tr>')
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(name)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )
