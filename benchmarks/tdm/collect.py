"""Collects episodes of several bodies with policies of several skills.

What it writes is ``<data>/<task>/<policy>/*.npz``, the episode format, one file for each
episode, with a ``collection.json`` beside them that says how they came about. The files
are what counts: a collection that was stopped goes on after the episodes that are there.
"""

from __future__ import annotations

import dataclasses
import datetime
import time
import zlib
from typing import Any

import numpy as np

from benchmarks.tdm.options import Options
from benchmarks.tdm.policies import Who, find_policy, read_policy
from common.config import update
from common.envs.base import Envs
from common.envs.dmc import describe
from common.errors import UserError
from common.replay.episodes import read_episodes, write_episodes
from common.run.driver import Policy
from common.run.evaluation import play
from common.run.recorded import read_collection, write_record
from common.run.recording import Recorder

AT_ONCE = 8
"""Environments that are played side by side."""


def collect(options: Options) -> list[dict[str, Any]]:
    """Collects what is missing; prints how far it is.

    Returns:
        The record of each task and policy, as ``collection.json`` holds it.

    Raises:
        UserError: A task or policy is unknown, or a folder holds episodes that were
            collected in another way.
    """
    policies = [read_policy(word) for word in options.policies]
    # One training gives all levels, the lowest first.
    policies.sort(key=lambda who: who.number if who.kind == "frames" else 0)
    jobs = [Job(options, task, who) for task in options.tasks for who in policies]
    pace = Pace(sum(job.missing for job in jobs))
    return [job.collect(pace) for job in jobs]


class Pace:
    """Says how long the missing episodes will take."""

    def __init__(self, missing: int):
        """Starts now."""
        self._begin, self._missing, self._done = time.monotonic(), missing, 0

    def add(self, episodes: int) -> str:
        """Counts episodes; returns how far all is."""
        self._done += episodes
        seconds = (time.monotonic() - self._begin) / self._done * (self._missing - self._done)
        left = datetime.timedelta(seconds=round(seconds))
        return f"{self._done} of {self._missing} episodes, about {left} left"


class Job:
    """One task played by one policy.

    Args:
        options: Of the collection.
        task: Name of the task.
        who: The policy.
    """

    def __init__(self, options: Options, task: str, who: Who):
        self._options, self._task, self._who = options, task, who
        self._folder = options.data / task / who.folder
        self._record = {
            "task": task,
            "policy": who.folder,
            "seed": options.seed,
            "env": dataclasses.asdict(options.env),
            "planner": dataclasses.asdict(options.planner) if who.kind == "simulator" else None,
            "training": list(options.training) if who.kind == "frames" else None,
            "body": describe(task) if task.startswith("dmc_") else {},
        }
        self._check()
        there = read_episodes(self._folder) if any(self._folder.glob("*.npz")) else []
        self._returns = [float(episode["reward"].sum()) for episode in there]
        self._lengths = [len(episode["reward"]) - 1 for episode in there]

    @property
    def missing(self) -> int:
        """Episodes that are still to be played."""
        return max(self._options.episodes - len(self._returns), 0)

    def collect(self, pace: Pace) -> dict[str, Any]:
        """Plays what is missing, writes it and returns the record."""
        while self.missing:
            amount = min(self.missing, AT_ONCE)
            self._play(amount)
            mean = np.mean(self._returns)
            print(
                f"{self._task}, {self._who.folder}: {len(self._returns)} episodes, return "
                f"{mean:.1f}; {pace.add(amount)}",
                flush=True,
            )
        return read_collection(self._folder) or {}

    def _play(self, amount: int) -> None:
        options, recorder = self._options, Recorder()
        name = f"{self._task}/{self._who.folder}".encode()
        words = np.random.SeedSequence([options.seed, zlib.crc32(name), len(self._returns)])
        seed = int(words.generate_state(1)[0] >> 1)
        find = find_policy(self._who, self._task, options, seed)

        def make_policy(envs: Envs) -> Policy:
            self._record["action_repeat"] = envs.action_repeat
            return find(envs)

        result = play(self._task, options.env, amount, seed, make_policy, watch=recorder)
        self._write()  # Before any episode: from now on the folder has these options.
        write_episodes(self._folder, recorder.episodes())
        played = result.tasks[self._task]
        self._returns += map(float, played.returns)
        self._lengths += map(int, played.lengths)
        self._write()

    def _write(self) -> None:
        returns = [round(value, 4) for value in self._returns]
        write_record(
            self._folder, self._record | {"returns": returns, "agent_steps": self._lengths}
        )

    def _check(self) -> None:
        """Raises a UserError where the folder holds episodes of other options."""
        found = read_collection(self._folder)
        if found is None:
            return
        for key, wanted in self._record.items():
            before = found.get(key)
            if key in ("env", "planner") and isinstance(before, dict):
                before = _options_of(type(getattr(self._options, key)), before)
            if before != wanted:
                raise UserError(
                    f"{self._folder} was collected with another {key} ({before}, now {wanted}); "
                    "choose another --data, or the same options"
                )


def _options_of(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """Returns options that a folder holds; those that are younger than it are as by default."""
    try:
        return dataclasses.asdict(update(kind(), values))
    except UserError:  # Of another version, or damaged: they are not the same.
        return values


def table(records: list[dict[str, Any]]) -> str:
    """Lists what a collection holds."""
    lines = [f"{'task':<26} {'policy':<16} {'episodes':>8} {'mean return':>11} {'frames':>9}"]
    for one in records:
        frames = sum(one["agent_steps"]) * one["action_repeat"]
        lines.append(
            f"{one['task']:<26} {one['policy']:<16} {len(one['returns']):>8} "
            f"{np.mean(one['returns']):>11.1f} {frames:>9,}"
        )
    return "\n".join(lines)
