"""Kills a run again and again, at random moments, and looks whether anything was lost.

    python -m benchmarks.reliability --logdir runs/kills --kills 100
    python -m benchmarks.reliability --logdir runs/kills4 --kills 100 --environments 4

A small Dreamer learns on CartPole with a checkpoint every second. Its process is killed
(SIGKILL) at a random moment: while it starts, collects, learns, writes a checkpoint or removes
one. The same command then goes on, and is killed again. Once the kills are over the run goes to
its end, and counters, rows, logs and the agent have to agree. The same command of this script
goes on with its own kills. What was found goes to benchmarks/results/reliability.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import jax
import numpy as np

from benchmarks.options import Parser
from common.errors import UserError, exit_code
from common.export import read_export
from common.logging import read_jsonl
from common.replay.chunks import list_chunks, read_chunk
from common.run import checkpoint, versions
from common.run import folder as run_folder
from dreamer.program import load_program

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "reliability"
KILLS = "kills.jsonl"
"""In the folder that holds the run: one line for every kill."""
PRETRAIN = 5
OPTIONS = {
    "run.checkpoint_every": 1,
    "run.eval_every": 0,
    "run.eval_episodes": 1,
    "run.random_episodes": 0,
    "run.video": False,
    "run.prefill": 200,
    "run.pretrain": PRETRAIN,
    "run.train_every": 8,
    "run.log_every": 50,
    "env.workers": "none",
    "replay.capacity": 5_000_000,  # All rows of the run.
}
ENDLESS = 10**8
LAST_FRAMES = 400
"""How far the run goes after the last kill."""
MOMENTS = {"starting": (0.2, 6.0), "running": (0.2, 3.0), "saving": (0.6, 2.0)}
"""From when on a process is killed: from its start, its first line of progress, or its first
checkpoint. How often that is, and within how many seconds from there."""
POLL_SECONDS = 0.01


def command(logdir: pathlib.Path, environments: int, frames: int) -> list[str]:
    """Returns the train command."""
    words = "train --configs gym debug --task gym_CartPole-v1".split()
    options = OPTIONS | {"env.amount": environments, "run.frames": frames}
    words += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return [sys.executable, "-m", "dreamer", *words, "--logdir", str(logdir)]


def kill_once(logdir: pathlib.Path, environments: int, rng: random.Random) -> dict[str, Any]:
    """Starts the run, kills it at a random moment, and says what happened.

    Raises:
        UserError: The run ended by itself, or did not go on where its checkpoint was.
    """
    directory = logdir / run_folder.CHECKPOINTS
    before = (checkpoint.metadata(directory) or {}).get("frames", 0)
    begin = time.monotonic()
    process = subprocess.Popen(
        command(logdir, environments, ENDLESS),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    lines: list[str] = []
    moment = rng.choices(list(MOMENTS), [share for share, _ in MOMENTS.values()])[0]
    for line in process.stdout if moment != "starting" else ():
        lines.append(line)
        if line.startswith(("frames ", "resumed ")):
            break
    while moment == "saving" and (checkpoint.latest(directory) or 0) <= before:
        if process.poll() is not None:
            break
        time.sleep(POLL_SECONDS)
    time.sleep(rng.uniform(0, MOMENTS[moment][1]))
    ended = process.poll()
    process.kill()
    lines += process.communicate()[0].splitlines(keepends=True)
    if ended is not None:
        raise UserError(f"the run ended by itself with {ended}: {''.join(lines[-5:])}")
    resumed = [line for line in lines if line.startswith("resumed at frame ")]
    started_at = int(resumed[0].split()[3].replace(",", "")) if resumed else 0
    if moment != "starting" and started_at != before:
        raise UserError(f"the run went on at frame {started_at}, its checkpoint was at {before}")
    reached = [int(line.split()[1].replace(",", "")) for line in lines if line[:7] == "frames "]
    after = (checkpoint.metadata(directory) or {}).get("frames", 0)
    if after < before:
        raise UserError(f"a checkpoint at frame {before} became one at {after}")
    return {
        "moment": moment,
        "seconds": round(time.monotonic() - begin, 2),
        "checkpoint_before": before,
        "checkpoint_after": after,
        "last_logged_frame": max(reached, default=before),
        "hidden": sorted(path.name for path in directory.glob(".*")),
    }


def finish(logdir: pathlib.Path, environments: int) -> dict[str, Any]:
    """Lets the run go to its end; returns what it then holds.

    Raises:
        UserError: It did not get there, or what it holds does not agree.
    """
    found = checkpoint.metadata(logdir / run_folder.CHECKPOINTS) or {}
    frames = found.get("frames", 0) + LAST_FRAMES
    done = subprocess.run(command(logdir, environments, frames), capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"the run did not end: {done.stderr[-500:]}")
    return check(logdir, environments)


def check(logdir: pathlib.Path, environments: int) -> dict[str, Any]:
    """Compares counters, rows, logs and agent of a finished run; returns its counters.

    Raises:
        UserError: They do not agree; says which.
    """
    found = checkpoint.metadata(logdir / run_folder.CHECKPOINTS)
    frames, steps = found["frames"], found["agent_steps"]
    chunks = [read_chunk(file.path) for file in list_chunks(logdir / run_folder.REPLAY)]
    whole = [chunk for chunk in chunks if chunk is not None]
    first, last = (np.concatenate([x[key] for x in whole]) for key in ("is_first", "is_last"))
    scores = [int(one["frames"]) for one in read_jsonl(logdir / run_folder.SCORES)]
    lines = [int(one["frames"]) for one in read_jsonl(logdir / run_folder.METRICS)]
    state, same = _agent(logdir)
    # The last decision to learn fell before the last steps.
    due = [_due(found["ratio"][0], count) for count in (steps - environments, steps)]
    facts = {
        "frames are agent steps": frames == steps,
        "the run has ended": found["finished_frames"] == frames,
        "files of the replay are whole": len(whole) == len(chunks),
        "every step is in the replay": int((~first).sum()) == steps,
        "every episode is in the replay": int(last.sum()) == found["episodes"],
        "every episode has its score": len(scores) == found["episodes"],
        "scores are in order": scores == sorted(scores) and scores[-1] <= frames,
        "metrics are in order": lines == sorted(lines) and lines[-1] == frames,
        "updates follow the ratio": due[0] <= found["updates"] <= due[1],
        "the agent has made them": state == found["updates"],
        "the export is the agent": same,
        "nothing hidden is left": not [*logdir.rglob(".*")],
    }
    wrong = [name for name, holds in facts.items() if not holds]
    if wrong:
        raise UserError(f"{logdir} is not as it should be; untrue: {'; '.join(wrong)}")
    return {name: found[name] for name in ("frames", "episodes", "updates")}


def _due(start: int, steps: int) -> int:
    return PRETRAIN + int((steps - start) / OPTIONS["run.train_every"] + 1e-6)


def _agent(logdir: pathlib.Path) -> tuple[int, bool]:
    """Returns the updates that the agent of the checkpoint counted; whether the export is it."""
    program, exported = load_program(), read_export(logdir)
    config = run_folder.read(logdir, program.name, program.default_config)
    agent = program.make_agent(config, exported.observations, exported.actions)
    key = jax.random.key(0)
    like = {"agent": jax.eval_shape(agent.init, key), "key": key, "policy_key": key}
    state = checkpoint.restore(logdir / run_folder.CHECKPOINTS, like)[0]["agent"]
    found, expected = map(jax.tree.leaves, (exported.params, agent.params(state)))
    pairs = zip(found, expected, strict=True)
    return int(state.updates), all(np.array_equal(one, other) for one, other in pairs)


def record(kills: list[dict[str, Any]], environments: int, end: dict[str, int]) -> dict[str, Any]:
    """Builds the record of a run."""
    lost = [max(0, one["last_logged_frame"] - one["checkpoint_after"]) for one in kills]
    moments = Counter(one["moment"] for one in kills)
    return {
        "kills": len(kills),
        "environments": environments,
        "moments": dict(moments),
        "kills_that_left_a_checkpoint_unfinished": sum(bool(one["hidden"]) for one in kills),
        "checkpoints_that_were_gone_on_from": len({one["checkpoint_before"] for one in kills}),
        "frames_after_the_checkpoint": {"mean": round(float(np.mean(lost)), 1), "most": max(lost)},
        "seconds": round(sum(one["seconds"] for one in kills), 1),
        "end": end,
        "options": OPTIONS,
        "cores": len(os.sched_getaffinity(0)),
        "versions": versions.describe().splitlines(),
    }


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = Parser("python -m benchmarks.reliability", description=__doc__)
    parser.add_argument("--logdir", type=pathlib.Path, required=True, help="folder of the run")
    parser.add_argument("--kills", type=int, default=100, help="how often (100)")
    parser.add_argument("--environments", type=int, default=1, help="of the run (1)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (0)")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS, help="where to write")
    return exit_code(lambda: _run(parser.parse()))


def _run(arguments: argparse.Namespace) -> int:
    if arguments.kills < 1 or arguments.environments < 1:
        raise UserError("--kills and --environments must be at least 1")
    amount, logdir = arguments.environments, arguments.logdir / "run"
    path = arguments.logdir / KILLS
    arguments.logdir.mkdir(parents=True, exist_ok=True)
    done = path.read_text().splitlines() if path.exists() else []
    for number in range(len(done), arguments.kills):
        rng = random.Random(f"{arguments.seed} {number}")
        found = json.dumps(kill_once(logdir, amount, rng))
        with path.open("a") as file:
            file.write(f"{found}\n")
        print(f"kill {number + 1}: {found}", flush=True)
    end = finish(logdir, amount)
    kills = [json.loads(line) for line in path.read_text().splitlines()]
    arguments.results.mkdir(parents=True, exist_ok=True)
    target = arguments.results / f"kills-{amount}.json"
    target.write_text(json.dumps(record(kills, amount, end), indent=1) + "\n")
    print(f"nothing was lost in {len(kills)} kills: {end}; {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
