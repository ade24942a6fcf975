"""What a search found: one page, and the best options as a preset."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np

from benchmarks.tune.progress import brief, describe
from benchmarks.tune.record import REDUCTION, Question, Record, Trial, ranked
from benchmarks.tune.space import Dimension
from benchmarks.tune.trial import evaluations
from common.files import replacing
from common.report.charts import Frame, Series, chart, legend
from common.report.html import document, escape, note, section, write_page
from common.run import versions

PAGE, BEST = "report.html", "best.yaml"
BANDS = ("best", "first quarter", "second quarter", "third quarter", "last quarter")
_LIGHT = ("#c2410c", "#1d4ed8", "#5b8def", "#93a7c4", "#b9bec7")
_DARK = ("#fb923c", "#9dc1ff", "#6a9bf0", "#5d7191", "#4a515c")
_STYLE = "".join(f".rank{i} {{ color: {color}; }}\n" for i, color in enumerate(_LIGHT))
_STYLE += "@media (prefers-color-scheme: dark) {\n"
_STYLE += "".join(f".rank{i} {{ color: {color}; }}\n" for i, color in enumerate(_DARK))
_STYLE += """}
main { max-width: 1180px; }
svg .line { stroke-width: 1.4; } svg .line.rank0 { stroke-width: 3; }
svg .pole { stroke: var(--soft); } svg .head { fill: var(--ink); font-weight: 600; }
.wide { overflow-x: auto; }
.wide td, .wide th { white-space: nowrap; overflow-wrap: normal; }
.wide td.fault { white-space: normal; overflow-wrap: anywhere; min-width: 200px;
  max-width: 340px; }
tr.rank0 td { font-weight: 600; color: var(--ink); }
"""


def write_best(record: Record, question: Question) -> None:
    """Writes the best trial's options as a preset; none where no trial has a score."""
    best = ranked(record.trials)
    if not best:
        return
    one = best[0]
    lines = [
        f"# Trial {one.number} of a search on {question.task}: area {one.area:.4g}, return "
        f"{one.score:.4g} at {one.frames} frames, seed {question.seed}",
        f"includes: {json.dumps(list(question.configs))}",
        *(f"{path}: {json.dumps(value)}" for path, value in one.values.items()),
    ]
    with replacing(record.logdir / BEST) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_report(record: Record, question: Question, amount: int, made: str) -> None:
    """Writes the page.

    Args:
        record: What was tried.
        question: What is searched.
        amount: Trials in the end.
        made: The command.
    """
    best, space = ranked(record.trials), question.space
    ended = sum(one.state != "running" for one in record.trials.values())
    title = f"Search: {question.agent} on {question.task}"
    failed = sum(one.state == "failed" for one in record.trials.values())
    how = f", {failed} of them by a failure" if failed else ""
    subtitle = escape(f"{ended} of {amount} trials ended{how}, over {len(space)} options")
    places = {one.number: place for place, one in enumerate(best)}
    sections = [
        section("Best options", _best(best, question)),
        section("Learning curves", _curves(record, best)),
        section("Options and areas", _parallel(best, space)),
        section("Trials", _table(record, best, space, places)),
        section("How it was made", _made(question, made)),
    ]
    write_page(record.logdir / PAGE, document(title, subtitle, sections, _STYLE))


def band(place: int, amount: int) -> int:
    """Returns which of ``BANDS`` a trial belongs to by its place among so many, 0 the best."""
    return 0 if place == 0 else 1 + min(4 * place // amount, 3)


def _best(best: Sequence[Trial], question: Question) -> str:
    if not best:
        return note("No trial has been evaluated yet.")
    one = best[0]
    options = "".join(
        f"<tr><th>{escape(path)}</th><td>{escape(brief(value))}</td></tr>"
        for path, value in one.values.items()
    )
    words = (
        f"Trial {one.number} ({one.state}): area {one.area:.4g}, return {one.score:.4g} at "
        f"{one.frames:,} frames. {BEST} holds these options and the presets: {question.agent} "
        f"train --configs {BEST} --task {question.task}. One seed of one trial: repeat it with "
        "other seeds to believe it."
    )
    return f"<table>{options}</table>{note(words)}"


def _curves(record: Record, best: Sequence[Trial]) -> str:
    series = []
    for place in reversed(range(len(best))):
        one, rank = best[place], band(place, len(best))
        points = [
            point for point in evaluations(record.folder(one.number)) if point[0] <= one.frames
        ]
        if points:
            frames, scores = np.array(points, float).T
            series.append(Series("line", frames, scores, f"rank{rank}", BANDS[rank]))
    labels = {one.label: one for one in reversed(series)}
    drawing = chart(
        series, Frame(1100, 360), "frames (simulator steps)", "mean return", name="Curves of trials"
    )
    if not drawing:
        return note("There is no curve yet.")
    words = "Evaluations of every trial, coloured by its rank. A short curve was stopped, or runs."
    return f"<p>{words}</p>{legend(list(labels.values()))}<figure>{drawing}</figure>"


def _parallel(best: Sequence[Trial], space: Sequence[Dimension]) -> str:
    """Draws a pole for each option and one for the area, and a line for each trial across them."""
    if not best:
        return note("There is no area yet.")
    areas = [one.area for one in best]
    low, high = min(areas), max(areas)
    height, top, bottom, left = 330, 44, 34, 90
    poles = len(space) + 1
    width = max(1100, 170 * poles)  # As wide as the curves, so that letters are as large.
    across = [left + (width - 2 * left) * i / (poles - 1) for i in range(poles)]
    level = lambda share: top + (1 - share) * (height - top - bottom)  # noqa: E731
    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Options and areas">']
    names = [*(_name(one, space) for one in space), "area"]
    ends = [*(_ends(one) for one in space), [(0.0, f"{low:.4g}"), (1.0, f"{high:.4g}")]]
    for place in reversed(range(len(best))):
        one = best[place]
        share = (one.area - low) / (high - low) if high > low else 0.5
        heights = [level(axis.place(one.values[axis.path])) for axis in space] + [level(share)]
        points = "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(across, heights, strict=True))
        rank = f"rank{band(place, len(best))}"
        said = escape(f"trial {one.number}: {describe(one.values)}; area {one.area:.4g}")
        parts.append(f'<path class="line {rank}" d="M{points}"><title>{said}</title></path>')
    for x, name, marks in zip(across, names, ends, strict=True):
        parts.append(f'<path class="pole" d="M{x:.1f} {top}V{height - bottom}"/>')
        parts.append(f'<text class="mid head" x="{x:.1f}" y="18">{escape(name)}</text>')
        for share, text in marks:
            y = {0.0: height - bottom + 16, 1.0: top - 7}.get(share, level(share) + 4)
            anchor, shift = ("mid", 0) if share in (0.0, 1.0) else ("", 6)
            parts.append(
                f'<text class="{anchor}" x="{x + shift:.1f}" y="{y:.1f}">{escape(text)}</text>'
            )
    words = "A line is a trial. Ranges are drawn by logarithm where they are searched so."
    return f'<p>{words}</p><figure class="wide">{"".join(parts)}</svg></figure>'


def _name(one: Dimension, space: Sequence[Dimension]) -> str:
    """The shortest ending of an option's name that tells it from the others."""
    parts = one.path.split(".")
    for amount in range(min(2, len(parts)), len(parts)):
        ending = ".".join(parts[-amount:])
        if sum(f".{other.path}".endswith(f".{ending}") for other in space) == 1:
            return ending
    return one.path


def _ends(one: Dimension) -> list[tuple[float, str]]:
    values = one.values
    if one.kind == "choice" and len(values) > 6:
        values = (values[0], values[-1])
    return [(one.place(value), brief(value)) for value in values]


def _table(
    record: Record, best: Sequence[Trial], space: Sequence[Dimension], places: dict[int, int]
) -> str:
    rest = [one for one in record.trials.values() if one.number not in places]
    heads = [
        "rank",
        "trial",
        "state",
        "frames",
        "area",
        "last return",
        *(one.path for one in space),
    ]
    rows = []
    for one in (*best, *sorted(rest, key=lambda one: one.number)):
        place = places.get(one.number)
        rank = "" if place is None else f"rank{band(place, len(best))}"
        numbers = ("" if math.isnan(x) else f"{x:.4g}" for x in (one.area, one.score))
        cells = ["" if place is None else place + 1, one.number]
        line = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        style = ' class="fault"' if one.fault else ""
        state = f"{one.state}: {one.fault}" if one.fault else one.state
        line += f"<td{style}>{escape(state)}</td>"
        cells = [f"{one.frames:,}", *numbers, *(brief(one.values[axis.path]) for axis in space)]
        line += "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        rows.append(f'<tr class="{rank if rank == "rank0" else ""}">{line}</tr>')
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    words = (
        "Area: under the returns of a trial's evaluations, divided by their width, which is a mean "
        "return. Trials that went to the end come first, by area, then those that went farther: "
        "areas up to different frames do not compare."
    )
    return f'<p>{words}</p><div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _made(question: Question, made: str) -> str:
    words = (
        f"Trials run for {question.frames:,} frames with the seed {question.seed}. At "
        f"{question.grace:,} frames, and at {REDUCTION}, {REDUCTION**2}, ... times as many, ASHA "
        f"stops a trial whose area is not among the best 1/{REDUCTION} of those that came there "
        "before. Optuna's TPE suggests what comes next."
    )
    lines = "".join(f"<li>{escape(x)}</li>" for x in (made, *versions.describe().splitlines()))
    return f"<p>{words}</p><ul>{lines}</ul>"
