"""Runs that a benchmark makes one after another, each once: all that ended are lines of a file."""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.options import Parser
from common.errors import UserError

Key = tuple[str, str, int]
"""What is tried, where, and the seed."""
Line = dict[str, Any]


class Series(NamedTuple):
    """What a benchmark wants, and what it makes of it.

    Attributes:
        wanted: All runs, in their order.
        make: ``(key, folder) -> line`` makes a run, or goes on with it.
        name: ``(key) -> name`` of its folder.
        read: ``(record) -> lines`` that count, by key.
        table: ``(lines) -> Markdown``.
        plot: ``(lines, path)`` draws them.
        picture: Name of the file that it draws.
        called: What a run is called where there is none.
    """

    wanted: Sequence[Key]
    make: Callable[[Key, pathlib.Path], Line]
    name: Callable[[Key], str]
    read: Callable[[pathlib.Path], Mapping[Key, Line]]
    table: Callable[[Mapping[Key, Line]], str]
    plot: Callable[[Mapping[Key, Line], pathlib.Path], None]
    picture: str
    called: str = "run yet"


def add_options(parser: Parser, seeds: Sequence[int], results: pathlib.Path) -> None:
    """Adds the options that ``run`` reads, and the seeds."""
    add, usual = parser.add_argument, " ".join(map(str, seeds))
    add("--logdir", type=pathlib.Path, help="folder of the runs")
    add("--seeds", type=int, nargs="+", default=list(seeds), help=f"seeds ({usual})")
    add("--table", action="store_true", help="print what is recorded, draw it and stop")
    add("--results", type=pathlib.Path, default=results, help="where to write")


def read_lines(record: pathlib.Path) -> list[Line]:
    """Returns all lines of a record; none where there is no record yet."""
    return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []


def train(words: Sequence[str], logdir: pathlib.Path) -> None:
    """Trains a Dreamer in a process of its own, or goes on with it.

    Args:
        words: Of the train command, but for the folder.
        logdir: The run's folder.

    Raises:
        UserError: The run ended with an error.
    """
    command = [sys.executable, "-m", "dreamer", "train", *words, "--logdir", str(logdir)]
    done = subprocess.run(command)
    if done.returncode:
        raise UserError(f"the run in {logdir} ended with {done.returncode}")


def run(series: Series, arguments: argparse.Namespace, record: pathlib.Path) -> int:
    """Makes the runs that are not recorded yet and shows all that are; returns the exit code.

    The picture is drawn after every run, the table printed at the end.

    Args:
        series: The runs.
        arguments: Of the options of ``add_options``.
        record: The file of the lines.

    Raises:
        UserError: Nothing is recorded, no folder is given, or a run ended with an error.
    """
    done = series.read(record)
    if arguments.table:
        if not done:
            raise UserError(f"{record} holds no {series.called}; give --logdir to make some")
        series.plot(done, record.parent / series.picture)
        print(series.table(done))
        return 0
    if arguments.logdir is None:
        raise UserError("--logdir is missing; it says where the runs go")
    left = [key for key in series.wanted if key not in done]
    record.parent.mkdir(parents=True, exist_ok=True)
    for number, key in enumerate(left, 1):
        what, where, seed = key
        print(f">> run {number} of {len(left)}: {what}, {where}, seed {seed}", flush=True)
        line = json.dumps(series.make(key, arguments.logdir / series.name(key)))
        with record.open("a") as file:
            file.write(f"{line}\n")
        series.plot(series.read(record), record.parent / series.picture)
    if not left:
        series.plot(done, record.parent / series.picture)
    print(series.table(series.read(record)))
    return 0
