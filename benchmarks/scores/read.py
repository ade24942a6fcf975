"""Reads scores that are not shipped: tables of others, and our own run folders."""

from __future__ import annotations

import collections
import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.scores.assemble import SHORT, Run, assemble
from benchmarks.scores.rows import COLUMNS, find_game, read_number, read_rows, read_whole
from benchmarks.scores.tables import AgentScores
from benchmarks.suites import Protocol, Suite
from common.config import read_mapping
from common.envs.config import EnvConfig
from common.errors import UserError
from common.run.folder import CONFIG, METRICS

_RETURN = "eval/return_mean"
_OPTIONS = ("agent", "task", "seed", "env", "run")
"""What a run's configuration holds and that of another program hardly does."""


def read_scores(path: pathlib.Path, suite: Suite) -> AgentScores:
    """Reads scores in long format, one row for each game, seed and number of frames.

    Args:
        path: A CSV file with the columns game (or task), seed, frames and return, or JSON
            lines with these names; see ``benchmarks.scores.rows``. Several rows of a seed are
            its curve.
        suite: The benchmark.

    Returns:
        An agent named after the file. Its protocol is unknown but for the frames.

    Raises:
        UserError: The file cannot be read, lacks a column, or a row names no game of the
            benchmark, holds something else than a number or appears twice.
    """
    seen: dict[tuple[str, int, int], int] = {}
    runs: dict[tuple[str, int], dict[int, float]] = collections.defaultdict(dict)
    for line, row in read_rows(path):
        place = f"{path}, line {line}"
        game = find_game(row["game"], suite, place)
        seed, frames = (read_whole(row[name], name, place) for name in ("seed", "frames"))
        if frames <= 0:
            raise UserError(f"{place}: frames is {frames}; expected more than 0")
        earlier = seen.setdefault((game, seed, frames), line)
        if earlier != line:
            raise UserError(
                f"{place}: {game}, seed {seed}, frames {frames} is there already in line "
                f"{earlier}; keep one of them"
            )
        runs[game, seed][frames] = read_number(row["return"], "return", place)
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
        try:
            protocol = _protocol(config, suite)
            seed = int(config["seed"])
        except (LookupError, OverflowError, TypeError, ValueError) as error:
            raise UserError(
                f"{logdir / CONFIG} holds other options than a run of this package ({error}); "
                "restore it, or move the folder away"
            ) from error
        task = by_task.get(str(config["task"]))
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
        runs, notes = [], []
        for key, logdir in logdirs.items():
            *curve, damaged = _evaluations(logdir)
            runs.append(Run(*key, *curve))
            if damaged:
                notes.append(f"{damaged} damaged lines of {logdir / METRICS} are left out")
        if others:
            notes.append(
                f"{len(others)} runs of {folder} are of other tasks or inputs and left out"
            )
        agent = assemble(name, str(folder), protocol, runs, suite)
        found.append(dataclasses.replace(agent, notes=(*agent.notes, *notes)))
    return found


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
    return Protocol(
        frames, "evaluation", inputs=inputs, challenges=EnvConfig.recorded_challenges(env)
    )


def _evaluations(logdir: pathlib.Path) -> tuple[Sequence[int], Sequence[float], int]:
    """Frames and mean returns of a run's evaluations, and how many lines are damaged.

    Half a line at the end is what a kill leaves behind, and no damage.
    """
    by_frames: dict[int, float] = {}
    damaged, whole = 0, True
    if (logdir / METRICS).exists():
        with (logdir / METRICS).open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if _RETURN not in line:  # Most lines; long runs have many.
                    continue
                try:
                    frames, value = _evaluation(json.loads(line))
                except (LookupError, OverflowError, RecursionError, TypeError, ValueError):
                    damaged, whole = damaged + 1, line.endswith("\n")
                    continue
                if value is not None:
                    by_frames[frames] = value
    frames = sorted(by_frames)
    return frames, [by_frames[x] for x in frames], damaged - (not whole)


def _evaluation(record: Mapping[str, Any]) -> tuple[int, float | None]:
    """Frames and return of one line; None where nothing finite was logged."""
    frames, value = record["frames"], record[_RETURN]
    if isinstance(frames, bool) or frames != int(frames) or frames < 0:
        raise ValueError("frames are whole numbers")
    if value is not None and not isinstance(value, int | float):
        raise TypeError("a return is a number")
    return int(frames), None if value is None or not math.isfinite(value) else float(value)
