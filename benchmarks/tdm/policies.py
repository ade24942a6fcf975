"""Who acts while episodes are collected: at random, by planning, or trained for a while."""

from __future__ import annotations

import functools
import importlib
import math
import os
import pathlib
import re
import shutil
from typing import NamedTuple

import numpy as np

from benchmarks.jobs import plan
from benchmarks.tdm.options import Options
from common.command import flags
from common.command.presets import resolve
from common.errors import UserError, nearest
from common.export import read_export
from common.run import checkpoint
from common.run import train as training
from common.run.config import Settings
from common.run.driver import NumpyRows, Policy, RandomPolicy
from common.run.evaluation import MakePolicy, trained_policy
from common.run.folder import CHECKPOINTS, EXPORT
from common.run.loading import LoadedAgent
from common.run.program import Program
from planet.config import Config
from planet.simulator import SimulatorPolicy

AGENTS = "agents"
"""Folder of the runs, beside those of the tasks."""
_OURS = ("task", "seed", "run.frames")


class Who(NamedTuple):
    """A policy as the user names it.

    Attributes:
        kind: "random", "simulator", "frames" (trained that long) or "path".
        folder: Name of the folder of its episodes.
        number: Deviation of the noise, or frames.
        path: Of a run folder or an exported file.
    """

    kind: str
    folder: str
    number: float = 0.0
    path: str = ""


def read_policy(word: str) -> Who:
    """Understands one word of ``--policies``.

    Raises:
        UserError: It is none.
    """
    name, colon, rest = word.partition(":")
    if word == "random":
        return Who("random", word)
    if name == "simulator":
        noise = _number(rest) if colon else 0.0
        if noise is None or noise < 0:
            raise UserError(f"policy {word!r} has no deviation of noise; try simulator:0.3")
        return Who("simulator", f"simulator:{noise:g}" if noise else "simulator", noise)
    frames = _number(word)
    if frames is not None:
        if frames < 1 or frames != int(frames):
            raise UserError(f"policy {word!r} is no number of frames; try 10e3")
        return Who("frames", str(int(frames)), frames)
    if pathlib.Path(word).exists():
        return Who("path", re.sub(r"[^\w.-]+", "_", word).strip("_."), path=word)
    choices = ["random", "simulator", "10e3 (frames)", "the path of a run"]
    raise UserError(f"unknown policy {word!r}{nearest(word, choices)}")


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


class Noisy:
    """A policy whose actions are disturbed.

    Args:
        policy: Chooses the actions.
        deviation: Of the Gaussian noise; what leaves [-1, 1] is clipped.
        seed: Seed of the noise.
    """

    def __init__(self, policy: Policy, deviation: float, seed: int):
        self._policy, self._deviation = policy, deviation
        self._rng = np.random.default_rng(seed)

    def __call__(self, rows: NumpyRows) -> np.ndarray:
        """Returns actions ``[N, A]``."""
        action = self._policy(rows)
        noise = self._deviation * self._rng.standard_normal(action.shape)
        return np.clip(action + noise, -1, 1).astype(np.float32)


def find_policy(who: Who, task: str, options: Options, seed: int) -> MakePolicy:
    """Returns what makes the policy; trains it first where it is not trained yet.

    Args:
        who: As of ``read_policy``.
        task: What it acts in.
        options: Of the collection.
        seed: Seed of its draws.

    Raises:
        UserError: The task cannot be simulated, or there is no such agent, or its
            observations or actions are not the task's.
    """
    if who.kind == "random":
        return lambda envs: RandomPolicy(envs.action_spec, seed)
    if who.kind == "simulator":
        config = Config(task=task, env=options.env, planner=options.planner)
        plan = lambda envs: SimulatorPolicy(config, envs, seed)  # noqa: E731
        return (lambda envs: Noisy(plan(envs), who.number, seed)) if who.number else plan
    path = who.path or _train(task, int(who.number), options)
    return trained_policy(_load(str(path)), seed, "train")


@functools.lru_cache(maxsize=1)  # What it compiled serves all batches of a job.
def _load(path: str) -> LoadedAgent:
    return LoadedAgent(_program(read_export(path).agent), path)


def _program(name: str) -> Program:
    known = name if name in plan.AGENTS else "dreamer"  # Which says whose the file is.
    return importlib.import_module(f"{known}.program").load_program()


def _train(task: str, frames: int, options: Options) -> pathlib.Path:
    """Trains an agent up to a number of frames; returns its exported file, which is kept."""
    runs = options.data / AGENTS
    run, kept = runs / task, runs / f"{task}-{frames}.npz"
    if kept.exists():
        return kept
    checkpoints = run / CHECKPOINTS
    done = (checkpoint.metadata(checkpoints) or {}).get("finished_frames", 0)
    if done and _level(run) > frames:
        raise UserError(
            f"the agent in {run} is trained beyond {frames:,} frames and {kept.name} is gone; "
            f"collect with more frames, or delete {run}"
        )
    program = _program("dreamer")
    config = _training_config(program, task, frames, options)
    print(f"training an agent of {task} for {frames:,} frames", flush=True)
    training.train(program, config, run)
    if (checkpoint.metadata(checkpoints) or {}).get("finished_frames", 0) < frames:
        raise KeyboardInterrupt  # Training ends by itself after Ctrl-C, with a checkpoint.
    copy = kept.with_name(f".{kept.name}")
    shutil.copyfile(run / EXPORT, copy)
    os.replace(copy, kept)
    return kept


def _level(run: pathlib.Path) -> int:
    """Frames that the run was last meant to take."""
    return int(read_export(run).config["run"]["frames"])


def _training_config(program: Program, task: str, frames: int, options: Options) -> Settings:
    given = flags.parse_flags(options.training, program.default_config)
    for path in given.values:
        if path in _OURS or path.startswith("env."):
            raise UserError(f"--{path} is the collection's; set it before --, not after")
    values = {
        "task": task,
        "seed": options.seed,
        "run.frames": frames,
        "run.eval_episodes": 0,
        "run.random_episodes": 0,
        "run.video": False,
        "env.pixels": False,
        "env.state": True,
        "env.action_repeat": options.env.action_repeat,
        "env.time_limit": options.env.time_limit,
    }
    return resolve(program, given.configs, values, given.values)
