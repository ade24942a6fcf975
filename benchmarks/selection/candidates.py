"""The policies that are to be compared: exported files, runs, and older checkpoints of runs."""

from __future__ import annotations

import dataclasses
import pathlib
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from common.command import trust
from common.envs.registry import action_repeat
from common.errors import UserError
from common.export import read_export
from common.run import checkpoint, upgrade
from common.run.config import RunConfig
from common.run.driver import ActFunction
from common.run.folder import CHECKPOINTS
from common.run.loading import LoadedAgent
from common.run.program import find_program
from common.types import Params

SAME = ("time_limit", "kwargs", "sticky", "noops", "stack")
"""Options of the environments that change what a return means, or what an action does."""


class Candidate(NamedTuple):
    """One policy.

    Attributes:
        name: Shown for it: its path, without what all have in common, and ``@frames`` of an older
            checkpoint.
        path: Run folder or exported file.
        program: Name of its agent's program.
        agent: Ready to act.
        mark: Changes with its parameters.
    """

    name: str
    path: pathlib.Path
    program: str
    agent: LoadedAgent
    mark: int


def load_candidates(
    paths: Sequence[str], checkpoints: bool, seed: int, task: str | None
) -> list[Candidate]:
    """Loads the policies, each run's newest last.

    Args:
        paths: Run folders and exported files.
        checkpoints: Whether every checkpoint that a run folder keeps is a policy of its own.
        seed: Of their draws.
        task: Their task, where it runs code of others; see ``trust.check_task``.

    Raises:
        UserError: One holds no agent, or they are fewer than two, or of different tasks or spaces.
    """
    resolved = [pathlib.Path(path).expanduser() for path in paths]
    found: dict[tuple[pathlib.Path, int | None], LoadedAgent] = {}
    programs: dict[pathlib.Path, str] = {}
    for path in resolved:
        name = programs[path.resolve()] = read_export(path).agent
        agent = LoadedAgent(find_program(name), path, seed)
        config = agent.config
        trust.check_task(config.task, config.env.kwargs, task, path)
        # The newest checkpoint is what the run has exported.
        for step in checkpoint.steps(path / CHECKPOINTS)[:-1] if checkpoints else []:
            found[path.resolve(), step] = at_checkpoint(path, step, seed)
        found[path.resolve(), None] = agent
    if len(found) < 2:
        raise UserError(
            f"{paths[0]} is the only candidate; name at least two, or --checkpoints for those that "
            "a run keeps"
        )
    names = _names([path for path, _ in found])
    candidates = []
    for name, ((path, step), agent) in zip(names, found.items(), strict=True):
        called = name if step is None else f"{name}@{step}"
        candidates.append(Candidate(called, path, programs[path], agent, fingerprint(agent.params)))
    check_alike(candidates)
    _share(candidates)
    return candidates


def at_checkpoint(run: pathlib.Path, step: int, seed: int) -> LoadedAgent:
    """Loads a run's agent with the parameters of an older checkpoint.

    Raises:
        UserError: There is no run, or no such checkpoint, or it is damaged or of another version.
    """
    loaded = LoadedAgent(find_program(read_export(run).agent), run, seed)
    agent = loaded.act_function.agent
    key = jax.eval_shape(lambda: jax.random.key(0))
    like = {"agent": jax.eval_shape(agent.init, key), "key": key, "policy_key": key}
    tree, _ = checkpoint.restore(run / CHECKPOINTS, like, step, upgrade.leaf_path)
    loaded.params = agent.params(tree["agent"])
    return loaded


def check_alike(candidates: Sequence[Candidate]) -> None:
    """Raises a UserError where returns of two policies cannot be compared, or their actions."""
    first = candidates[0]
    for other in candidates[1:]:
        wanted, found = (_alike(one.agent) for one in (first, other))
        for what, value in wanted.items():
            if found[what] != value:
                shown = f": {value} and {found[what]}" if len(f"{value}{found[what]}") < 200 else ""
                raise UserError(
                    f"{first.name} and {other.name} have different {what}{shown}; candidates need "
                    "one task and the same observations and actions"
                )


def fingerprint(params: Params) -> int:
    """Returns a number that changes with any parameter."""
    total = 0
    for leaf in jax.tree.leaves(params):
        total = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), total)
    return total


def _share(candidates: Sequence[Candidate]) -> None:
    """Gives agents that differ in nothing but parameters one function to act, compiled once."""
    functions: dict[str, ActFunction] = {}
    for one in candidates:
        agent = one.agent
        config = dataclasses.replace(agent.config, seed=0, run=RunConfig())
        like = jax.tree.map(lambda x: (x.shape, x.dtype), agent.params)
        key = repr((config, agent.observations, agent.actions, like))
        agent.act_function = functions.setdefault(key, agent.act_function)


def _alike(agent: LoadedAgent) -> dict[str, Any]:
    config, env = agent.config, dataclasses.asdict(agent.config.env)
    return {
        "tasks": config.task,
        "action repeats": action_repeat(config.task, config.env.action_repeat),
        **{f"env.{name}": env[name] for name in SAME},
        "env.challenge": ", ".join(config.env.challenge.named()) or "none",
        "observations": agent.observations,
        "actions": agent.actions,
    }


def _names(paths: Sequence[pathlib.Path]) -> list[str]:
    """Returns the ends of paths that tell them apart."""
    different = set(paths)
    for length in range(1, max(len(path.parts) for path in paths)):
        ends = {path: "/".join(path.parts[-length:]) for path in different}
        if len(set(ends.values())) == len(different):
            return [ends[path] for path in paths]
    return [str(path) for path in paths]
