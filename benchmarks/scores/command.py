"""Scores agents on a benchmark: the command line, and what other commands share with it.

python -m benchmarks atari score --published
python -m benchmarks atari score --published --scores mine.csv --runs logdir --intervals
"""

from __future__ import annotations

import argparse
import collections
import csv
import dataclasses
import io
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.options import Parser
from benchmarks.scores.aggregate import (
    BOOTSTRAP_SAMPLES,
    Aggregates,
    aggregate,
    headline,
    improvement,
    task_scores,
)
from benchmarks.scores.bootstrap import Interval
from benchmarks.scores.published import published, published_names
from benchmarks.scores.read import read_runs, read_scores
from benchmarks.scores.tables import AgentScores
from benchmarks.suites import Suite, suite
from common.errors import UserError, exit_code, nearest
from common.run.folder import CONFIG, METRICS

Versus = dict[tuple[str, str], tuple[Interval, int]]
"""Probability that the first agent beats the second, and in how many tasks, by their names."""


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Adds the options that ``gather`` reads: where scores come from."""
    several: dict[str, Any] = {"action": "extend", "nargs": "+", "default": []}
    paths = {"type": pathlib.Path, **several}
    parser.add_argument("--published", action="store_true", help="the published references")
    parser.add_argument(
        "--scores", metavar="FILE", **paths, help="tables: game, seed, frames, return (CSV, JSONL)"
    )
    parser.add_argument("--runs", metavar="FOLDER", **paths, help="folders of run folders")
    parser.add_argument(
        "--agents", metavar="NAME", **several,
        help="only these, published ones that are not among the usual included",
    )  # fmt: skip


def gather(suite: Suite, arguments: argparse.Namespace) -> list[AgentScores]:
    """Reads all agents that the options of ``add_sources`` name.

    Raises:
        UserError: No source is given, one cannot be read, or there is no agent of a name.
    """
    if not (arguments.published or arguments.scores or arguments.runs):
        raise UserError("there is nothing to score; give --published, --scores or --runs")
    given = []
    for path in arguments.scores:
        if path.name == METRICS and (path.parent / CONFIG).exists():  # The log of one of our runs.
            given += read_runs(path.parent, suite)
        else:
            given.append(read_scores(path, suite))
    for folder in arguments.runs:
        given += read_runs(folder, suite)
    shipped = published_names(suite) if arguments.published else ()
    known = [*shipped, *(agent.name for agent in given)]
    for name in arguments.agents:
        if name not in known:
            raise UserError(f"unknown agent {name!r}{nearest(name, known)}")
    wanted = [name for name in shipped if name in arguments.agents]
    if arguments.agents:
        given = [agent for agent in given if agent.name in arguments.agents]
    agents = published(suite, wanted) if wanted or not arguments.agents and shipped else []
    return _named_apart([*agents, *given])


def score(suite_name: str, argv: Sequence[str]) -> int:
    """Runs the command line of one benchmark; returns the exit code."""
    return exit_code(lambda: _score(suite(suite_name), _parser(suite_name).parse(argv)))


def _parser(suite_name: str) -> Parser:
    parser = Parser(
        f"python -m benchmarks {suite_name} score",
        description="Prints the aggregates of each agent in a line.",
    )
    add_sources(parser)
    parser.add_argument("--tasks", action="store_true", help="print the scores of every task")
    parser.add_argument("--intervals", action="store_true", help="print 95%% intervals over seeds")
    parser.add_argument(
        "--bootstrap", metavar="N", type=int, default=BOOTSTRAP_SAMPLES,
        help=f"resamples behind the intervals (default {BOOTSTRAP_SAMPLES}), 0 for no intervals",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="seed of the resamples")
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="write everything there")
    parser.add_argument("--csv", metavar="FILE", type=pathlib.Path, help="write every task there")
    return parser


def _score(benchmark: Suite, arguments: argparse.Namespace) -> int:
    for name in ("bootstrap", "seed"):
        if getattr(arguments, name) < 0:
            raise UserError(f"--{name} is {getattr(arguments, name)}; expected at least 0")
    agents = gather(benchmark, arguments)
    needed = arguments.intervals or arguments.json or arguments.csv
    samples = arguments.bootstrap if needed else 0
    results = [aggregate(agent, benchmark, samples, arguments.seed) for agent in agents]
    versus = _improvements(agents, benchmark, samples, arguments.seed) if needed else {}
    rows = _rows(agents, benchmark, samples, arguments.seed) if needed else []
    if arguments.json:
        record = _record(benchmark, agents, results, versus, rows)
        record |= {"bootstrap": samples, "seed": arguments.seed}
        _write(arguments.json, json.dumps(record, indent=1) + "\n")
    if arguments.csv:
        _write_csv(arguments.csv, rows)
    _print_table(_headline_lines(benchmark, agents, results))
    if arguments.tasks:
        print()
        _print_table(_task_lines(benchmark, agents))
    if arguments.intervals:
        print()
        _print_table(_interval_lines(agents, results))
        for (one, other), (interval, tasks) in versus.items():
            print(f"P({one} > {other}) = {_shown(interval)} over {tasks} tasks")
    for note in _notes(benchmark, agents, results):
        print(f"note: {note}")
    return 0


def _named_apart(agents: Sequence[AgentScores]) -> list[AgentScores]:
    """Adds the source to names that several agents share."""
    counts = collections.Counter(agent.name for agent in agents)
    sources = collections.Counter((agent.name, agent.source) for agent in agents)
    for (name, source), count in sources.items():
        if count > 1:
            raise UserError(f"{name} of {source} is given {count} times; give it once")
    return [
        dataclasses.replace(agent, name=f"{agent.name} ({agent.source})")
        if counts[agent.name] > 1
        else agent
        for agent in agents
    ]


def _headline_lines(
    benchmark: Suite, agents: Sequence[AgentScores], results: Sequence[Aggregates]
) -> list[list[str]]:
    names = headline(benchmark)
    lines = [["agent", *names]]
    for agent, result in zip(agents, results, strict=True):
        line = [agent.name]
        line += [f"{result.values[name].point:.2f}" if result.values else "-" for name in names]
        if result.missing:
            total = len(benchmark.tasks)
            line.append(f"({total - len(result.missing)} of {total} tasks)")
        lines.append(line)
    return lines


def _task_lines(benchmark: Suite, agents: Sequence[AgentScores]) -> list[list[str]]:
    scales = {"random": benchmark.low, "gamer": benchmark.gamer, "record": benchmark.record}
    scales = {name: scale for name, scale in scales.items() if scale}
    lines = [["task", *scales, *(agent.name for agent in agents)]]
    for task in benchmark.tasks:
        values = [scale[task] for scale in scales.values()]
        values += [agent.scores[task].mean() if task in agent.scores else None for agent in agents]
        lines.append([task, *(_raw(value, benchmark) for value in values)])
    return lines


def _raw(value: float | None, benchmark: Suite) -> str:
    """A raw score as published tables print it: whole in games of 200M frames."""
    if value is None:
        return "-"
    return str(round(value)) if benchmark.record else f"{value:.1f}"


def _interval_lines(
    agents: Sequence[AgentScores], results: Sequence[Aggregates]
) -> list[list[str]]:
    names = next((list(result.values) for result in results if result.values), [])
    lines = [["agent", *names]]
    for agent, result in zip(agents, results, strict=True):
        lines.append([agent.name, *(_shown(result.values.get(name)) for name in names)])
    return lines


def _shown(interval: Interval | None) -> str:
    if interval is None:
        return "-"
    if interval.low is None:
        return f"{interval.point:.2f}"
    return f"{interval.point:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _print_table(lines: Sequence[Sequence[str]]) -> None:
    columns = max(map(len, lines))
    padded = [[*line, *[""] * (columns - len(line))] for line in lines]
    widths = [max(map(len, column)) for column in zip(*padded, strict=True)]
    for line in padded:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        print("  ".join(cells).rstrip())


def _notes(
    benchmark: Suite, agents: Sequence[AgentScores], results: Sequence[Aggregates]
) -> list[str]:
    """What a reader of the table must know, most important first."""
    protocols = collections.defaultdict(list)
    said = collections.defaultdict(list)
    missing = []
    for agent, result in zip(agents, results, strict=True):
        protocols[str(agent.protocol)].append(agent.name)
        for text in (*agent.notes, *result.notes):
            said[text].append(agent.name)
        if result.missing:
            missing.append(
                f"{agent.name} misses {len(result.missing)} of {len(benchmark.tasks)} tasks and "
                f"ranks with nobody who has them: {', '.join(result.missing)}"
            )
    if len(protocols) > 1:
        each = "; ".join(f"{', '.join(names)}: {text}" for text, names in protocols.items())
        notes = [f"different protocols, which do not rank together: {each}"]
    else:
        notes = [f"protocol: {text}" for text in protocols]
    return notes + missing + [f"{', '.join(names)}: {text}" for text, names in said.items()]


def _improvements(
    agents: Sequence[AgentScores], benchmark: Suite, samples: int, seed: int
) -> Versus:
    """Probability of improvement of each pair whose seeds are known, and their common tasks."""
    found = {}
    for index, one in enumerate(agents):
        for other in agents[index + 1 :]:
            interval = improvement(one, other, benchmark, samples, seed)
            if interval is not None:
                common = sum(task in other.scores for task in one.scores)
                found[one.name, other.name] = interval, common
    return found


def _rows(
    agents: Sequence[AgentScores], benchmark: Suite, samples: int, seed: int
) -> list[dict[str, Any]]:
    """One row for each agent and task."""
    rows = []
    for agent in agents:
        for task in task_scores(agent, benchmark, samples, seed):
            row = {"agent": agent.name, "task": task.task, "seeds": task.seeds or None}
            row |= {"return": task.raw.point, "low": task.raw.low, "high": task.raw.high}
            row |= {"gamer_normalized": task.gamer, "record_normalized": task.record}
            rows.append(row | {"protocol": str(agent.protocol)})
    return rows


def _record(
    benchmark: Suite,
    agents: Sequence[AgentScores],
    results: Sequence[Aggregates],
    versus: Versus,
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    return {
        "suite": benchmark.name,
        "agents": [
            {
                "name": agent.name,
                "source": agent.source,
                "published": agent.published,
                "protocol": dataclasses.asdict(agent.protocol),
                "aggregates": {name: x._asdict() for name, x in result.values.items()},
                "missing": list(result.missing),
                "notes": [*agent.notes, *result.notes],
            }
            for agent, result in zip(agents, results, strict=True)
        ],
        "notes": _notes(benchmark, agents, results),
        "probability_of_improvement": [
            {"agent": one, "over": other, **interval._asdict(), "tasks": tasks}
            for (one, other), (interval, tasks) in versus.items()
        ],
        "tasks": list(rows),
    }


def _write_csv(path: pathlib.Path, rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0] if rows else ["agent", "task"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    _write(path, text.getvalue())


def _write(path: pathlib.Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
