"""Reads scores that are not shipped: tables of others, and our own run folders."""

from __future__ import annotations

import collections
import csv
import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.scores.assemble import SHORT, Run, assemble
from benchmarks.scores.tables import AgentScores
from benchmarks.suites import Protocol, Suite
from common.config import read_mapping
from common.errors import UserError, nearest
from common.run.folder import CONFIG, METRICS

COLUMNS = ("game", "seed", "frames", "return")
_RETURN = "eval/return_mean"
_OPTIONS = ("agent", "task", "seed", "env", "run")
"""What a run's configuration holds and that of another program hardly does."""


def read_scores(path: pathlib.Path, suite: Suite) -> AgentScores:
    """Reads scores in long format, one row for each game, seed and number of frames.

    Args:
        path: A CSV file with the columns game (or task), seed, frames and return, or JSON
            lines with these names (``.jsonl``). Several rows of a seed are its curve.
        suite: The benchmark.

    Returns:
        An agent named after the file. Its protocol is unknown but for the frames.

    Raises:
        UserError: The file cannot be read, lacks a column, or a row names no game of the
            benchmark, holds something else than a number or appears twice.
    """
    rows = _json_rows(path) if path.suffix == ".jsonl" else _csv_rows(path)
    by_task = {task: name for name, task in suite.tasks.items()}
    seen: dict[tuple[str, int, int], int] = {}
    runs: dict[tuple[str, int], dict[int, float]] = collections.defaultdict(dict)
    for line, row in rows:
        place = f"{path}, line {line}"
        name = str(row["game"]).strip()
        game = by_task.get(name, name)
        if game not in suite.tasks:
            raise UserError(f"{place}: unknown game {name!r}{nearest(name, suite.tasks)}")
        seed, frames = _whole(row, "seed", place), _whole(row, "frames", place)
        if frames <= 0:
            raise UserError(f"{place}: frames is {frames}; expected more than 0")
        earlier = seen.setdefault((game, seed, frames), line)
        if earlier != line:
            raise UserError(
                f"{place}: {game}, seed {seed}, frames {frames} is there already in line "
                f"{earlier}; keep one of them"
            )
        runs[game, seed][frames] = _number(row, "return", place)
    if not runs:
        raise UserError(f"{path} holds no scores; expected rows of {', '.join(COLUMNS)}")
    curves = [Run(*key, *zip(*sorted(x.items()), strict=True)) for key, x in runs.items()]
    reached = max(run.frames[-1] for run in curves)
    budget = suite.protocol.frames
    frames = budget if reached >= SHORT * budget else reached
    protocol = Protocol(frames, None, inputs=suite.protocol.inputs)
    return assemble(path.stem, str(path), protocol, curves, suite)


def read_runs(folder: pathlib.Path, suite: Suite) -> list[AgentScores]:
    """Reads the runs of a benchmark that lie anywhere in a folder.

    An agent is named after the folder ``<agent>/<task>/seed-<n>`` of its runs where they
    lie so, else as its command is. Runs of different protocols never become one agent.

    Args:
        folder: A folder of run folders, or one of them.
        suite: The benchmark.

    Raises:
        UserError: There is no run of the benchmark, or one seed of a task appears twice.
    """
    by_task = {task: name for name, task in suite.tasks.items()}
    agents: dict[tuple[str, Protocol], dict[tuple[str, int], pathlib.Path]] = {}
    others: list[str] = []
    for logdir in _run_folders(folder):
        config = read_mapping(logdir / CONFIG)
        if not all(option in config for option in _OPTIONS):
            continue
        protocol = _protocol(config, suite)
        task, seed = by_task.get(config["task"]), int(config["seed"])
        if task is None or protocol.inputs != suite.protocol.inputs:
            others.append(config["task"])
            continue
        key = _name(logdir, config, task), protocol
        earlier = agents.setdefault(key, {}).setdefault((task, seed), logdir)
        if earlier != logdir:
            raise UserError(
                f"{earlier} and {logdir} are both seed {seed} of {task}; move one of them away"
            )
    if not agents:
        held = f"only runs of {', '.join(sorted(set(map(str, others))))}" if others else "no runs"
        raise UserError(
            f"{folder} holds {held}; expected runs of {suite.name} from {suite.protocol.inputs}, "
            f"folders with {CONFIG} that the train command made"
        )
    found = []
    for (name, protocol), logdirs in agents.items():
        if sum(other == name for other, _ in agents) > 1:
            name = f"{name} ({protocol})"
        runs = [Run(*key, *_evaluations(logdir)) for key, logdir in logdirs.items()]
        agent = assemble(name, str(folder), protocol, runs, suite)
        if others:
            note = f"{len(others)} runs of {folder} are of other tasks or inputs and left out"
            agent = dataclasses.replace(agent, notes=(*agent.notes, note))
        found.append(agent)
    return found


def _csv_rows(path: pathlib.Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            names = _games(dict.fromkeys(reader.fieldnames or ()))
            for name in COLUMNS:
                if name not in names:
                    raise UserError(f"{path} has no column {name!r}; expected {', '.join(COLUMNS)}")
            for row in reader:
                yield reader.line_num, _games(row)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV file: {error}") from None


def _json_rows(path: pathlib.Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a file of JSON lines: {error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            raise UserError(f"{path}, line {number} is not JSON; expected one object") from None
        row = _games(row) if isinstance(row, dict) else {}
        missing = [name for name in COLUMNS if name not in row]
        if missing:
            raise UserError(
                f"{path}, line {number} has no {missing[0]!r}; expected {', '.join(COLUMNS)} "
                "(give a folder of runs by --runs)"
            )
        yield number, row


def _games(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose game is named by the column "task", as in our own records, or "game"."""
    return {"game": row["task"], **row} if "task" in row else row


def _number(row: Mapping[str, Any], name: str, place: str) -> float:
    try:
        value = float(row[name])
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{place}: {name} is {row[name]!r}; expected a finite number")
    return value


def _whole(row: Mapping[str, Any], name: str, place: str) -> int:
    value = _number(row, name, place)
    if value != int(value):
        raise UserError(f"{place}: {name} is {row[name]!r}; expected a whole number")
    return int(value)


def _run_folders(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Folders with a configuration; what lies inside of them is not searched."""
    for path, inside, files in os.walk(folder):
        inside.sort()
        if CONFIG in files:
            inside.clear()
            yield pathlib.Path(path)


def _name(logdir: pathlib.Path, config: Mapping[str, Any], task: str) -> str:
    parts = logdir.absolute().parts
    laid_out = parts[-1] == f"seed-{config['seed']}" and parts[-2] in (task, config["task"])
    return parts[-3] if laid_out else str(config["agent"])


def _protocol(config: Mapping[str, Any], suite: Suite) -> Protocol:
    env = config["env"]
    frames = min(int(config["run"]["frames"]), suite.protocol.frames)  # Later scores do not count.
    if suite.protocol.sticky is not None:
        actions = "all" if env["all_actions"] else "minimal"
        return Protocol(frames, "evaluation", float(env["sticky"]), actions)
    # Whoever sees the state beside the image has it easier than from the image alone.
    inputs = "pixels" if env["pixels"] and not env["state"] else "state"
    return Protocol(frames, "evaluation", inputs=inputs)


def _evaluations(logdir: pathlib.Path) -> tuple[Sequence[int], Sequence[float]]:
    """Frames and mean returns of a run's evaluations; half lines of a kill are left out."""
    by_frames: dict[int, float] = {}
    if (logdir / METRICS).exists():
        with (logdir / METRICS).open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if _RETURN not in line:  # Most lines; long runs have many.
                    continue
                try:
                    record = json.loads(line)
                except ValueError:
                    continue
                if record.get(_RETURN) is not None:
                    by_frames[int(record["frames"])] = float(record[_RETURN])
    frames = sorted(by_frames)
    return frames, [by_frames[x] for x in frames]
