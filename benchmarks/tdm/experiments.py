"""The commands ``specialist``, ``few-shot``, ``zero-shot``, ``choices`` and all but the last."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from benchmarks.options import Parser
from benchmarks.tdm import (
    choices,
    claims,
    few_shot,
    gather,
    pretrain,
    report,
    specialist,
    zero_shot,
)
from benchmarks.tdm.presets import PRESETS, Preset, preset
from benchmarks.tdm.runner import default_jobs, run
from benchmarks.tdm.tables import claims_text
from benchmarks.tdm.work import Cell, Work, read_all
from common.errors import UserError

EXPERIMENTS = ("specialist", "few-shot", "zero-shot")
"""What "experiments" runs."""
RESULTS = pathlib.Path("results/tdm")


def experiment_command(name: str, argv: Sequence[str]) -> int:
    """Runs one experiment, or all of them.

    Args:
        name: One of ``EXPERIMENTS``, "choices", or "experiments" for all of ``EXPERIMENTS``.
        argv: The words after it.

    Raises:
        UserError: A mistake in the options, or the results are of other settings.
    """
    parser = Parser(
        f"python -m benchmarks tdm {name}",
        description="Collects the data that is missing, learns, plays, and writes tables, plots "
        "and\nRESULTS/report.html. The same command goes on where it stopped.",
    )
    add = parser.add_argument
    add("--preset", default="small", help=f"size: {', '.join(PRESETS)} (small)")
    add("--data", type=pathlib.Path, default=pathlib.Path("data/tdm"), help="where data is")
    add("--results", type=pathlib.Path, default=RESULTS, help=f"where to write ({RESULTS})")
    add("--jobs", type=int, help="processes (one for each core; one where there is a GPU)")
    add("--seeds", help="separated by commas (those of the preset)")
    values = parser.parse(argv)
    work = Work(preset(values.preset), values.data, values.results)
    jobs = default_jobs() if values.jobs is None else values.jobs
    if jobs < 1:
        raise UserError(f"--jobs is {jobs}; expected at least 1")
    experiment(work, EXPERIMENTS if name == "experiments" else (name,), _seeds(values.seeds), jobs)
    return 0


def report_command(argv: Sequence[str]) -> int:
    """Writes the page of results that are there."""
    parser = Parser(
        "python -m benchmarks tdm report",
        description="Writes tables, plots and one page of all finished parts.",
    )
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS, help=f"({RESULTS})")
    results = parser.parse(argv).results
    print(f"wrote {report.write_report(results)}")
    print(claims_text(claims.decide(read_all(results))))
    return 0


def experiment(work: Work, names: Sequence[str], seeds: Sequence[int] | None, jobs: int) -> None:
    """Computes what is missing of some experiments and writes their tables and the page.

    Args:
        work: Where everything lies.
        names: Of ``EXPERIMENTS``, or "choices".
        seeds: Seeds; None for those of the preset.
        jobs: Processes.
    """
    for cells in stages(work.preset, names, work.preset.seeds if seeds is None else seeds):
        run(work, cells, jobs)
    records = read_all(work.results)
    page = report.write_report(work.results)
    for name in names:
        print(f"\n{name}\n{report.write_tables(work.results, records, name)}")
    print(f"\n{claims_text(claims.decide(records))}\n\nwrote {page}")


def stages(preset: Preset, names: Sequence[str], seeds: Sequence[int]) -> list[list[Cell]]:
    """What is to be done: data, then generalists, then the rest, each needing those before."""
    data: list[str] = []
    generalists, rest = [], []
    if "specialist" in names:
        data += preset.tasks
        rest += specialist.cells(preset, seeds)
    if "choices" in names:
        data.append(preset.tasks[0])
        rest += choices.cells(preset)
    if "few-shot" in names or "zero-shot" in names:
        data += [task for one in preset.families for task in (*one.training, *one.targets)]
        methods = pretrain.METHODS if "zero-shot" in names else ("tdm",)
        generalists = pretrain.cells(preset, seeds, methods)
    if "few-shot" in names:
        rest += few_shot.cells(preset, seeds)
    if "zero-shot" in names:
        rest += zero_shot.cells(preset, seeds)
    return [gather.cells(preset, data), generalists, rest]


def _seeds(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(word) for word in text.split(",")]
    except ValueError as error:
        raise UserError(f"--seeds is {text!r}; expected numbers separated by commas") from error
