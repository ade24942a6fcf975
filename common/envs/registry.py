"""Finds the environments that a task's name means."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import gymnasium

from common.envs import suites
from common.envs.base import Env, Envs, env_seed
from common.envs.challenges.pipeline import Challenged
from common.envs.challenges.published import TASKS
from common.envs.config import EnvConfig
from common.envs.multitask import MultiTask
from common.envs.ray_actors import OF_AN_ACTOR, actors
from common.envs.render import choose_backend
from common.envs.stack import StackedImages
from common.envs.vector import BuildError, VectorEnvs
from common.envs.workers import Place, here, processes
from common.errors import UserError, nearest, warn_once

FAMILIES = (
    "dmc_<domain>_<task>",
    "atari_<game>",
    "memory_<world>",
    "maze_<world>",
    "rwrl_<domain>_<task>",
    "gym_<id>",
    "crafter_<world>",
    "minigrid_<id>",
    "vizdoom_<id>",
    "metaworld_<task>",
    "dmlab_<level>",
    "<module>:<factory>",
)
_PREFIXES = tuple(family.partition("<")[0] for family in FAMILIES if not family.startswith("<"))

OWN = "memory_", "maze_"
"""How tasks of this package's own worlds begin; their arguments run nobody else's code."""

CONTROL_SUITE = "dmc_", "rwrl_"
"""How tasks of the control suite begin; the Real-World RL suite's have its bodies too."""
_RWRL = [f"rwrl_{domain}_{task}" for domain, tasks in TASKS.items() for task in tasks]

_SUITE_LIMIT = 1000
"""Frames of an episode of the control suite, where no other limit is set."""

Task = str | Callable[..., gymnasium.Env]
"""A name of one of the families, several of them separated by commas, or a function that
returns a Gymnasium environment."""


def make(
    task: Task,
    config: EnvConfig,
    seed: int,
    num_envs: int | None = None,
    only: str | None = None,
    fewer: bool = False,
) -> Envs:
    """Builds the environments of a task, or of several.

    Args:
        task: "dmc_walker_walk", "rwrl_walker_walk" (the same without action repeat, one of the
            Real-World RL suite), "atari_pong", "memory_recall", "maze_goal", "gym_CartPole-v1",
            "package.module:factory", or the factory itself; a factory is called with
            ``config.kwargs``. Of several
            tasks, "dmc_walker_walk,dmc_cheetah_run", every episode is a random one; see
            ``common.envs.multitask``.
        config: How they are built.
        seed: Seed from which each environment's own is derived.
        num_envs: How many; None takes ``config.amount``.
        only: Which one of several tasks to play, padded as if with all.
        fewer: Whether fewer environments will do, at least one, where no more can be built;
            the last resort is a single one in a process of its own.

    Raises:
        UserError: A task is unknown or cannot be built.
    """
    amount = num_envs or config.amount
    for name in split(task):
        _check(name, config, alone=len(split(task)) == 1)
    if isinstance(task, str) and task.startswith("atari_"):
        from common.envs.atari import AtariEnvs

        return AtariEnvs(task.removeprefix("atari_"), config, seed, amount)
    choose_backend()  # Before any import of MuJoCo, here or in a worker.
    build = functools.partial(make_one, task, config, only=only)
    open_envs = functools.partial(VectorEnvs, build, seed=seed)
    where = workers(config, amount)
    try:
        envs = open_envs(num_envs=amount, place=_place(where, config), fewer=fewer)
    except BuildError as error:
        if not fewer or where != "none":
            print(error.details, end="", file=sys.stderr, flush=True)
            raise
        return _alone(open_envs, config, error)
    if envs.missing:
        warn_once(
            f"only {envs.num_envs} of {amount} environments can be built ({envs.missing}); they "
            "play all episodes, one after the other"
        )
    return envs


def workers(config: EnvConfig, amount: int) -> Literal["none", "process", "ray"]:
    """Where so many environments step: ``env.workers`` with "auto" written out."""
    if config.workers == "auto":
        return "process" if amount > 1 else "none"
    return config.workers


def _place(where: str, config: EnvConfig) -> Place:
    if where == "none":
        return here()
    if where == "process":
        return processes(config.per_worker or 1, config.timeout)
    return actors(config.per_worker or OF_AN_ACTOR, config.timeout)


def _alone(
    open_envs: Callable[..., VectorEnvs], config: EnvConfig, error: BuildError
) -> VectorEnvs:
    """Builds one environment in a process of its own, where this one has no room for it."""
    try:
        envs = open_envs(num_envs=1, place=processes(1, config.timeout))
    except UserError:
        print(error.details, end="", file=sys.stderr, flush=True)
        raise error from None
    warn_once(
        f"{error}; one in a process of its own can be, and plays all episodes, one after the "
        "other. --env.workers process gives every environment a process"
    )
    return envs


def split(task: Task) -> tuple[Task, ...]:
    """Returns the tasks that are separated by commas; most often it is one.

    Raises:
        UserError: There is nothing beside a comma.
    """
    if not isinstance(task, str):
        return (task,)
    parts = tuple(part.strip() for part in task.split(","))
    if len(parts) > 1 and not all(parts):
        raise UserError(f"task {task!r} names nothing beside a comma; write NAME or NAME,NAME")
    return parts


def _check(name: Task, config: EnvConfig, alone: bool) -> None:
    check_name(name)
    if not isinstance(name, str):
        return
    _check_challenges(name, config)
    if config.kwargs and name.startswith((*CONTROL_SUITE, "atari_")):
        raise UserError(f"env.kwargs is for other tasks and factories; {name!r} takes none")
    if config.stack > 1 and name.startswith("atari_"):
        raise UserError(f"env.stack is for other tasks than {name!r}, which shows one image; set 1")
    if not alone and name.startswith("atari_"):
        raise UserError(f"{name!r} cannot be one of several tasks; their actions are continuous")


def _check_challenges(name: str, config: EnvConfig) -> None:
    challenge = config.challenge
    if challenge.of_the_body and not name.startswith(CONTROL_SUITE):
        raise UserError(
            f"env.challenge.{challenge.of_the_body} is for the control suite, not for {name!r}"
        )
    if challenge.on_the_way and name.startswith("atari_"):
        raise UserError(
            f"env.challenge is for other tasks than {name!r}, which has sticky actions: env.sticky"
        )
    if config.cost and name.startswith((*CONTROL_SUITE, "atari_")):
        raise UserError(
            f"env.cost is for Gymnasium environments, not for {name!r}; the control suite has "
            "env.challenge.safety.constraints"
        )


def action_repeat(task: str, wanted: int) -> int:
    """Returns the simulator steps per action of a task: ``env.action_repeat`` written out.

    Raises:
        UserError: There is no such control-suite task.
    """
    return max(_action_repeat(name, wanted) for name in split(task))


def _action_repeat(name: str, wanted: int) -> int:
    if name.startswith("dmc_"):
        from common.envs import dmc

        return dmc.repeat_of(name.removeprefix("dmc_"), wanted)
    usual = {"atari_": 4, **suites.REPEATS}
    return wanted if wanted > 0 else usual.get(name.partition("_")[0] + "_", 1)


def episode_steps(task: str, config: EnvConfig) -> int:
    """Returns the actions of the longest episode of a task, or of several, without building it.

    It is 0 where nobody says, as of a factory, or where there is no such task: ``make`` says which.
    """
    return max(_episode_steps(name, config) for name in split(task))


def _episode_steps(name: str, config: EnvConfig) -> int:
    own = 0
    if name.startswith(CONTROL_SUITE):
        own = _SUITE_LIMIT
    elif name.startswith("atari_"):  # Whose limit is another where one is given.
        from common.envs.atari import FRAME_LIMIT

        own = config.time_limit or FRAME_LIMIT
    elif name.startswith(OWN):
        from common.envs.worlds import episode_steps

        own = episode_steps(name, config.kwargs)
    elif name.startswith("gym_"):
        with contextlib.suppress(gymnasium.error.Error, ImportError):
            own = gymnasium.spec(name.removeprefix("gym_")).max_episode_steps or 0
    limit = min(filter(None, (own, config.time_limit)), default=0)
    return -(-limit // _action_repeat(name, config.action_repeat))


def check_name(task: Task) -> None:
    """Raises a UserError where the name belongs to no family."""
    if callable(task) or task.startswith(_PREFIXES) or ":" in task:
        return
    hint = nearest(task, _suite_tasks())
    hint = hint if hint.startswith("; did you mean") else ""
    raise UserError(f"unknown task {task!r}{hint}; a task is one of {', '.join(FAMILIES)}")


def _suite_tasks() -> list[str]:
    from common.envs import atari, dmc, worlds

    tasks = [*worlds.WORLDS, *_RWRL, *suites.EXAMPLES]
    for prefix, names in (("dmc_", dmc.task_names), ("atari_", atari.rom_names)):
        with contextlib.suppress(UserError):  # Not installed: nothing to suggest.
            tasks += [prefix + name for name in names()]
    return tasks


def make_one(task: Task, config: EnvConfig, seed: int, only: str | None = None) -> Env:
    """Builds one environment in this process; for every family but Atari.

    Args:
        task: As of ``make``.
        config: How it is built.
        seed: Its seed.
        only: As of ``make``.

    Raises:
        UserError: The task is unknown or cannot be built.
    """
    if config.stack > 1:
        return StackedImages(make_one(task, replace(config, stack=1), seed, only), config.stack)
    names = split(task)
    if len(names) > 1:
        envs = {name: make_one(name, config, env_seed(seed, i)) for i, name in enumerate(names)}
        return MultiTask(envs, seed, only, config.task_one_hot)
    env = _bare(task, config, seed)
    return Challenged(env, config.challenge, seed) if config.challenge.on_the_way else env


def _bare(task: Task, config: EnvConfig, seed: int) -> Env:
    """Builds the environment of one task, without what may stand before it."""
    if callable(task):
        return _from_factory(task, config, seed)
    if task.startswith(CONTROL_SUITE):
        from common.envs.dmc import ControlSuite

        family, _, name = task.partition("_")
        if family == "rwrl":
            if task not in _RWRL:
                raise UserError(f"unknown task {task!r}{nearest(task, _RWRL)}")
            config = replace(config, action_repeat=_action_repeat(task, config.action_repeat))
        return ControlSuite(name, config, seed)
    if task.startswith(OWN):
        from common.envs.worlds import find

        limit = config.time_limit or _episode_steps(task, replace(config, action_repeat=1))
        return _from_factory(find(task), replace(config, time_limit=limit), seed)
    if task.startswith(suites.PREFIXES):
        config = replace(config, action_repeat=_action_repeat(task, config.action_repeat))
        return _from_factory(suites.find(task), config, seed)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # The user's own modules.
    if task.startswith("gym_"):
        from common.envs.gym import make_gym

        return make_gym(task.removeprefix("gym_"), config.kwargs, seed=seed, **_options(config))
    return _from_factory(_find_factory(task), config, seed)


def _find_factory(task: str) -> Callable[..., Any]:
    name, _, attribute = task.partition(":")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if not (name == missing or name.startswith(missing + ".")):
            raise UserError(f"the environment could not be built: {error}; install it") from error
        raise UserError(
            f"unknown task {task!r}: there is no module {missing!r}; install it, or run in "
            "the folder that holds it"
        ) from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        public = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        hint = nearest(attribute, public) if public else ""
        raise UserError(f"module {name!r} has no function {attribute!r}{hint}")
    return factory


def _from_factory(factory: Callable[..., Any], config: EnvConfig, seed: int) -> Env:
    from common.envs.gym import GymEnv

    try:
        inspect.signature(factory).bind(**config.kwargs)
    except TypeError as error:
        raise UserError(f"env.kwargs {config.kwargs} do not fit the factory: {error}") from error
    env = factory(**config.kwargs)
    if not isinstance(env, gymnasium.Env):
        raise UserError(
            f"the factory returned a {type(env).__module__}.{type(env).__name__}; expected a "
            "gymnasium.Env (shimmy converts old Gym and dm_env environments)"
        )
    return GymEnv(env, seed=seed, **_options(config))


def _options(config: EnvConfig) -> dict[str, Any]:
    return dict(
        action_repeat=max(config.action_repeat, 1),
        time_limit=config.time_limit,
        channels=config.channels,
        cost=config.cost,
    )
