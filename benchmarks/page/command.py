"""Reports a benchmark: one page, and the pictures and tables of its figures.

python -m benchmarks atari report --published --out report
python -m benchmarks atari report --published --runs logdir --out report
"""

from __future__ import annotations

import pathlib
import platform
import shlex
from collections.abc import Mapping, Sequence

from benchmarks.options import Parser
from benchmarks.page import page, results
from benchmarks.page.figures import write_figures
from benchmarks.page.tables import write_tables
from benchmarks.scores.aggregate import BOOTSTRAP_SAMPLES
from benchmarks.scores.command import add_sources, gather
from benchmarks.scores.tables import AgentScores
from benchmarks.suites import Suite, suite
from common.checks import check_range
from common.errors import UserError, exit_code
from common.report.html import write_page
from common.run import versions

REPORT = "report.html"
FIGURES = "figures"


def report(suite_name: str, argv: Sequence[str]) -> int:
    """Runs the command line of one benchmark; returns the exit code."""
    return exit_code(lambda: _report(suite_name, argv))


def _report(suite_name: str, argv: Sequence[str]) -> int:
    arguments = _parser(suite_name).parse(argv)
    for name in ("bootstrap", "seed"):
        check_range(f"--{name}", getattr(arguments, name), 0)
    benchmark = suite(suite_name)
    made = _made_with(suite_name, argv) | {"bootstrap": f"{arguments.bootstrap} samples"}
    made |= {"seed of the bootstrap": str(arguments.seed)}
    agents = gather(benchmark, arguments)
    path = write_report(arguments.out, benchmark, agents, arguments.bootstrap, arguments.seed, made)
    print(f"report: {path}")
    return 0


def write_report(
    folder: pathlib.Path,
    benchmark: Suite,
    agents: Sequence[AgentScores],
    samples: int = BOOTSTRAP_SAMPLES,
    seed: int = 0,
    made: Mapping[str, str] | None = None,
) -> pathlib.Path:
    """Writes ``report.html``, and PNG and CSV of each figure in ``figures``.

    Args:
        folder: Where to; it is made where it is missing.
        benchmark: The benchmark.
        agents: What is reported.
        samples: Resamples of the bootstrap; 0 for no intervals.
        seed: Seed of the bootstrap.
        made: Command, versions and options, by name, for the end of the page.

    Returns:
        Path of the page.

    Raises:
        UserError: The files cannot be written.
    """
    evaluated = results.evaluate(agents, benchmark, samples, seed)
    profiles = results.profiles(evaluated, benchmark, samples, seed)
    try:
        (folder / FIGURES).mkdir(parents=True, exist_ok=True)
        write_tables(folder / FIGURES, benchmark, evaluated, profiles)
        write_figures(folder / FIGURES, benchmark, evaluated, profiles)
    except OSError as error:
        raise UserError(f"cannot write into {folder}: {error.strerror}") from error
    html = page.render(benchmark, evaluated, profiles, made or {})
    return write_page(folder / REPORT, html)


def _parser(suite_name: str) -> Parser:
    parser = Parser(
        f"python -m benchmarks {suite_name} report",
        description="Writes a page with the scores of agents, and its figures as PNG and CSV.",
    )
    add_sources(parser)
    parser.add_argument(
        "--out", metavar="FOLDER", type=pathlib.Path, default=pathlib.Path("report"),
        help="where to write (default: report)",
    )  # fmt: skip
    parser.add_argument(
        "--bootstrap", metavar="N", type=int, default=BOOTSTRAP_SAMPLES,
        help=f"resamples behind the intervals (default {BOOTSTRAP_SAMPLES}), 0 for no intervals",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="seed of the resamples")
    return parser


def _made_with(suite_name: str, argv: Sequence[str]) -> dict[str, str]:
    command = shlex.join(["python", "-m", "benchmarks", suite_name, "report", *argv])
    made = {"command": command, "commit": versions.commit(), "python": platform.python_version()}
    libraries = (versions.DISTRIBUTION, "numpy", "matplotlib")
    return made | {name: found for name in libraries if (found := versions.version_of(name))}
