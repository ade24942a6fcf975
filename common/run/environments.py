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
from common.envs.registry import Task, split
from common.errors import UserError
from common.run.config import Settings

MakeEnvs = Callable[[int, int], Envs]
"""``(seed, amount) -> Envs``: builds environments that step together."""


class Environments(NamedTuple):
    """What a run plays in.

    Attributes:
        training: The environments that it collects from, open.
        evaluation: Builds those of an evaluation, by the name of the task; they are closed
            after it.
        lent: Whether whoever started the run closes the training environments.
    """

    training: Envs
    evaluation: Mapping[Task, MakeEnvs]
    lent: bool = False

    def close(self) -> None:
        """Closes the training environments, where they are the run's own."""
        if not self.lent:
            self.training.close()


def for_evaluation(task: Task, config: EnvConfig) -> dict[Task, MakeEnvs]:
    """Returns what builds the environments of a task, or of each of several tasks.

    They step in this process: there is one for each episode of an evaluation.

    Args:
        task: As of ``common.envs.make``.
        config: How they are built.
    """
    config, names = dataclasses.replace(config, workers="none"), split(task)

    def build(name: Task, seed: int, amount: int) -> Envs:
        return make(task, config, seed, amount, only=name if len(names) > 1 else None)

    return {name: functools.partial(build, name) for name in names}


def open_environments(
    config: Settings, given: Envs | MakeEnvs | None, seed: int, amount: int
) -> Environments:
    """Opens the environments of a run.

    Args:
        config: Its configuration; names the task where nothing is given.
        given: Environments that are open already, or a function that builds some.
        seed: Seed of the training environments.
        amount: How many of them.

    Raises:
        UserError: They cannot be built, or evaluations are wanted and cannot be played.
    """
    if given is None:
        envs = make(config.task, config.env, seed, amount)
        return Environments(envs, for_evaluation(config.task, config.env))
    if not hasattr(given, "step_async"):
        _check_takes_seed_and_amount(given)
        build = functools.partial(_build, given)
        return Environments(build(seed, amount), {config.task: build})
    if config.run.eval_episodes or config.run.random_episodes:
        raise UserError(
            "evaluations need fresh environments; hand in a function (seed, amount) -> Envs "
            "instead, or set run.eval_episodes and run.random_episodes to 0"
        )
    return Environments(given, {}, lent=True)


def _check_takes_seed_and_amount(given: MakeEnvs) -> None:
    try:
        inspect.signature(given).bind(0, 1)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"envs is {given!r}, neither common.envs.base.Envs nor a function (seed, amount) -> "
            "Envs; common.envs.make builds those from a function that returns an environment"
        ) from error


def _build(make_envs: MakeEnvs, seed: int, amount: int) -> Envs:
    envs = make_envs(seed, amount)
    if getattr(envs, "num_envs", None) != amount:
        got = getattr(envs, "num_envs", type(envs).__name__)
        raise UserError(
            f"the function that builds environments returned {got}, asked for {amount}; expected "
            "common.envs.Envs of that many"
        )
    return envs
