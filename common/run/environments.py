"""Where a run's environments come from: a task's name, or the hands of a caller."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import NamedTuple

from common.envs import make
from common.envs.base import Envs
from common.envs.config import EnvConfig
from common.envs.registry import Task, split, workers
from common.envs.vector import BuildError
from common.errors import UserError
from common.run.config import Settings
from common.run.driver import LONGEST

MakeEnvs = Callable[[int, int], Envs]
"""``(seed, amount) -> Envs``: builds environments that step together."""

COPIES = 16
"""Environments of an evaluation that step in this process, at most."""


class Environments(NamedTuple):
    """What a run plays in.

    Attributes:
        training: The environments that it collects from, open.
        evaluation: Of how many episodes each training environment has had, what builds those
            of an evaluation, by the name of the task; it may build fewer than asked for. They are
            closed after it.
        lent: Whether whoever started the run closes the training environments.
    """

    training: Envs
    evaluation: Callable[[int], Mapping[Task, MakeEnvs]]
    lent: bool = False

    def close(self) -> None:
        """Closes the training environments, where they are the run's own."""
        if not self.lent:
            self.training.close()


def for_evaluation(task: Task, config: EnvConfig) -> dict[Task, MakeEnvs]:
    """Returns what builds the environments of a task, or of each of several tasks.

    They step where those of training do: in this process, at most ``COPIES``, or in workers
    of their own, at most as many as training has. Where no more can be built beside those
    that there are, they are fewer.

    Args:
        task: As of ``common.envs.make``.
        config: How they are built.
    """
    names, where = split(task), workers(config, config.amount)
    most = COPIES if where == "none" else config.amount
    config = dataclasses.replace(config, workers=where)

    def build(name: Task, seed: int, amount: int) -> Envs:
        only = name if len(names) > 1 else None
        return make(task, config, seed, min(amount, most), only=only, fewer=True)

    return {name: functools.partial(build, name) for name in names}


def open_environments(
    config: Settings, given: Envs | MakeEnvs | None, seed: int, amount: int, played: int = 0
) -> Environments:
    """Opens the environments of a run.

    Args:
        config: Its configuration; names the task where nothing is given.
        given: Environments that are open already, or a function that builds some.
        seed: Seed of the training environments.
        amount: How many of them.
        played: Episodes that each had before, in a run that goes on.

    Raises:
        UserError: They cannot be built, or evaluations are wanted and cannot be played.
    """
    if given is None:
        envs = make(config.task, config.env.after(played), seed, amount)
        if not envs.max_steps:
            print(
                "no time limit is known: if episodes do not end by themselves, set "
                "--env.time_limit (in simulator steps); evaluations cut an episode after "
                f"{LONGEST:,} agent steps",
                flush=True,
            )
        return Environments(
            envs, lambda episodes: for_evaluation(config.task, config.env.after(episodes))
        )
    if not hasattr(given, "step_async"):
        _check_takes_seed_and_amount(given)
        envs = _build(given, seed, amount)
        copies = {config.task: functools.partial(_build_copies, given)}
        return Environments(envs, lambda episodes: copies)
    if config.run.eval_episodes or config.run.random_episodes:
        raise UserError(
            "evaluations need fresh environments; hand in a function (seed, amount) -> Envs "
            "instead, or set run.eval_episodes and run.random_episodes to 0"
        )
    return Environments(given, lambda episodes: {}, lent=True)


def _check_takes_seed_and_amount(given: MakeEnvs) -> None:
    try:
        inspect.signature(given).bind(0, 1)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"envs is {given!r}, neither common.envs.base.Envs nor a function (seed, amount) -> "
            "Envs; common.envs.make builds those from a function that returns an environment"
        ) from error


def _build_copies(make_envs: MakeEnvs, seed: int, amount: int) -> Envs:
    """Builds the environments of an evaluation, or one where so many cannot be."""
    try:
        return _build(make_envs, seed, min(amount, COPIES))
    except BuildError:
        return _build(make_envs, seed, 1)


def _build(make_envs: MakeEnvs, seed: int, amount: int) -> Envs:
    envs = make_envs(seed, amount)
    if getattr(envs, "num_envs", None) != amount:
        got = getattr(envs, "num_envs", type(envs).__name__)
        raise UserError(
            f"the function that builds environments returned {got}, asked for {amount}; expected "
            "common.envs.Envs of that many"
        )
    return envs
