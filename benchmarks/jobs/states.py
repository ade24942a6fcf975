"""What is known of every job: read from the run folders and records, whenever asked."""

from __future__ import annotations

import json
import math
import os
import pathlib
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

from benchmarks.jobs import record as records
from benchmarks.jobs.plan import Job, Plan
from common.run import checkpoint
from common.run.folder import CHECKPOINTS, METRICS, REPORT

_TAIL = 1 << 16
_COUNTERS = ("frames", "finished_frames")
_DAMAGE = (
    AttributeError, LookupError, OverflowError, RecursionError, TypeError, ValueError,
)  # fmt: skip
_SHOWN = 6

State = Literal["done", "running", "failed", "waiting"]
STATES: tuple[State, ...] = ("done", "running", "failed", "waiting")


class Progress(NamedTuple):
    """Where a job is.

    Attributes:
        state: "done", "running", "failed" after too many attempts, or "waiting".
        frames: Simulator steps so far.
        speed: Frames per second as last logged; 0 unless it is running.
    """

    state: State
    frames: int
    speed: float


def finished(plan: Plan, job: Job) -> bool:
    """Whether a run reached its end, and left its report: one may be killed in between."""
    return progress(plan, job).state == "done"


def progress(plan: Plan, job: Job) -> Progress:
    """Reads where a job is."""
    metadata = _metadata(plan, job)
    ended = metadata.get("finished_frames", 0) >= plan.frames
    if ended and (plan.folder(job) / REPORT).exists():
        return Progress("done", plan.frames, 0.0)
    frames, speed = metadata.get("frames", 0), 0.0
    for line in _last_lines(plan.folder(job) / METRICS):
        try:
            values = json.loads(line)
            if math.isfinite(values["frames"]):
                frames = max(frames, values["frames"])
            speed = float(values.get("time/frames_per_s") or speed)
        except _DAMAGE:  # Cut short.
            continue
    speed = speed if math.isfinite(speed) else 0.0
    frames = min(frames, plan.frames)
    if records.held(plan.log(job)):
        return Progress("running", frames, speed)
    failed = records.read(plan.record(job)).failed
    return Progress("failed" if failed else "waiting", frames, 0.0)


def _metadata(plan: Plan, job: Job) -> dict[str, int]:
    """Counters of the newest checkpoint; none, with a warning, where it cannot be read."""
    folder = plan.folder(job) / CHECKPOINTS
    try:
        found = checkpoint.metadata(folder)
        if found is not None:
            return {name: int(found[name]) for name in _COUNTERS if name in found}
    except _DAMAGE:
        pass
    if checkpoint.latest(folder) is not None:
        warnings.warn(
            f"the newest checkpoint in {folder} is damaged; {job} counts as not done", stacklevel=2
        )
    return {}


def _last_lines(path: pathlib.Path) -> list[str]:
    """Returns the last lines of a text file, however long it is; none where it is missing."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []


def last_output(plan: Plan, job: Job) -> list[str]:
    """Returns the last lines that a job printed."""
    return [line for line in _last_lines(plan.log(job)) if line.strip()][-_SHOWN:]


def failure(plan: Plan, job: Job) -> str:
    """Says how a job failed, and with which last lines."""
    record = records.read(plan.record(job))
    code = record.attempts[-1].exit if record.attempts else None
    lines = [
        f"failed: {plan.name(job)}, exit code {code}, {record.failures} failed attempt(s); "
        f"{plan.log(job)}:"
    ]
    return "\n".join([*lines, *(f"  | {line}" for line in last_output(plan, job))])


def summary(plan: Plan, found: Sequence[Progress]) -> str:
    """Counts jobs and frames, and estimates when all is done."""
    counts = Counter(one.state for one in found)
    listed = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    frames, total = sum(one.frames for one in found), plan.frames * len(found)
    speed = sum(one.speed for one in found)
    words = f"{len(found)} jobs: {listed}; {frames:,} of {total:,} frames ({frames / total:.1%})"
    if not counts["running"]:
        return words
    left = sum(plan.frames - one.frames for one in found if one.state != "failed")
    return f"{words}, {speed:,.0f} frames/s, ETA {duration(left / speed if speed else math.inf)}"


def duration(seconds: float) -> str:
    """Says a time in two units, such as "3 d 4 h"; "?" where it is not known."""
    if not math.isfinite(seconds):
        return "?"
    for size, unit, part, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} {int(seconds % size // part)} {small}"
    return f"{math.ceil(seconds / 60)} min"


def grid(plan: Plan, found: dict[Job, Progress]) -> str:
    """Draws the state of every job: a line per game, a column per seed."""
    seeds = sorted({job.seed for job in found})
    games = list(dict.fromkeys(job.game for job in found))
    cells = {(job.game, job.seed): _cell(plan, one) for job, one in found.items()}
    width = max(map(len, games))
    lines = [" " * width + "".join(f"{f'seed {seed}':>14}" for seed in seeds)]
    for game in games:
        row = "".join(f"{cells.get((game, seed), ''):>14}" for seed in seeds)
        lines.append(f"{game:<{width}}{row}")
    return "\n".join(lines)


def _cell(plan: Plan, one: Progress) -> str:
    if one.state == "done":
        return "done"
    if one.state == "waiting" and not one.frames:
        return "waiting"
    return f"{one.state} {one.frames / plan.frames:.0%}"
