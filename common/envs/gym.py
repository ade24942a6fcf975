"""Adapts Gymnasium environments: any observation and action space that spaces.py knows."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import gymnasium
import numpy as np

from common.envs.base import Row, check_keys, make_row
from common.envs.channels import ChannelsLast
from common.envs.guesses import check_images, doubts
from common.envs.pictures import to_frame
from common.errors import UserError, warn_once
from common.rows import COST, LOG_PREFIX
from common.spaces import ObservationSpec, action_spec, flatten_observation, observation_specs


class GymEnv:
    """One Gymnasium environment as rows.

    Rewards are summed over the action repeat, which stops where the episode ends.
    ``terminated`` gives ``is_last`` and ``is_terminal``, ``truncated`` and the time
    limit give ``is_last`` only. Finite numbers of ``info`` whose key starts with "log/" are
    passed on; what else has such a key is left out, which is said once.

    Attributes:
        action_names: What the environment calls the choices of its action; () where it does not
            say it.
        notes: Of observation entries that may be meant as something else, what they are taken
            for and what to do; see ``common.envs.guesses``.

    Args:
        env: The environment.
        seed: Seed of its first reset.
        action_repeat: Simulator steps per agent step.
        time_limit: Longest episode in simulator steps; 0 leaves that to ``env``.
        channels: Where images have their channels.
        cost: Whether ``info["cost"]`` of a step counts what must not be done.

    Raises:
        UserError: A space is not supported. ``reset`` and ``step`` raise it where an
            observation disagrees with the declared space, or is not finite, or a cost is missing.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        *,
        seed: int,
        action_repeat: int = 1,
        time_limit: int = 0,
        channels: Literal["last", "first"] = "last",
        cost: bool = False,
    ):
        for name in ("action_space", "observation_space"):
            if not isinstance(getattr(env, name, None), gymnasium.Space):
                raise UserError(
                    f"the environment has no {name}; set self.{name} to a space of "
                    "gymnasium.spaces in its __init__"
                )
        self.action_space = env.action_space
        self.action_names = _action_names(env)
        if channels == "first":
            env = ChannelsLast(env)
        spaces = flat_spaces(env.observation_space)
        self._bare = not isinstance(spaces, dict)
        check_images({"observation": spaces} if self._bare else spaces)
        self.observation_specs = observation_specs(env.observation_space)
        self._spaces = dict.fromkeys(self.observation_specs, spaces) if self._bare else spaces
        self.notes = doubts(self._spaces)
        self.action_spec = action_spec(env.action_space)
        self.action_repeat = action_repeat
        limits = [time_limit, env.spec and env.spec.max_episode_steps]
        known = [limit for limit in limits if limit]
        self.max_steps = -(-min(known) // action_repeat) if known else 0
        check_keys(self.observation_specs)
        self._env, self._time_limit, self._counts_cost = env, time_limit, cost
        self._seed: int | None = seed
        self._frames = 0

    def reset(self) -> Row:
        """Begins an episode; only the first one is seeded."""
        try:
            result = self._env.reset(seed=self._seed)
        except TypeError as error:
            if "unexpected keyword argument 'seed'" not in str(error):
                raise
            raise UserError(
                f"reset() must take seed and options, as Gymnasium defines it ({error})"
            ) from error
        if not (isinstance(result, tuple) and len(result) == 2):
            raise UserError("reset() must return (observation, info), as Gymnasium defines it")
        self._seed, self._frames = None, 0
        observation = self._adapt(result[0])
        cost = 0.0 if self._counts_cost else None
        return make_row(observation, first=True, cost=cost, log=_log(result[1]))

    def step(self, action: np.ndarray) -> Row:
        """Applies one flat action ``[A]``."""
        decoded = self.action_spec.decode(action)
        total, cost = 0.0, 0.0 if self._counts_cost else None
        log: dict[str, float] = {}
        for _ in range(self.action_repeat):
            result = self._env.step(decoded)
            if not (isinstance(result, tuple) and len(result) == 5):
                raise UserError(
                    "step() must return (observation, reward, terminated, truncated, info), "
                    "as Gymnasium defines it"
                )
            observation, reward, terminated, truncated, info = result
            total += _scalar(reward)
            if cost is not None:
                cost += _cost(info)
            for key, value in _log(info).items():
                log[key] = log.get(key, 0.0) + value
            self._frames += 1
            terminated = _flag("terminated", terminated)
            truncated = _flag("truncated", truncated) or self._frames == self._time_limit
            if terminated or truncated:
                break
        return make_row(
            self._adapt(observation),
            total,
            last=terminated or truncated,
            terminal=terminated,
            cost=cost,
            log=log,
        )

    def render(self) -> np.ndarray | None:
        """Returns the environment's own picture, where its render mode gives one.

        Raises:
            NoPicture: The picture is none that can be filmed.
        """
        if self._env.render_mode != "rgb_array":
            return None
        try:
            picture = self._env.render()
        except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
            warn_once(f"no videos without a package that draws: {error}")
            return None
        return to_frame(picture)

    def close(self) -> None:
        """Closes the environment."""
        self._env.close()

    def _adapt(self, observation: Any) -> dict[str, np.ndarray]:
        specs = self.observation_specs
        flat = dict.fromkeys(specs, observation) if self._bare else flatten_observation(observation)
        if flat.keys() != self.observation_specs.keys():
            raise UserError(
                f"the observation has the keys {sorted(map(str, flat))}; its space declares "
                f"{sorted(self.observation_specs)}"
            )
        return {key: adapt(key, flat[key], self._spaces[key], specs[key]) for key in specs}


def _action_names(env: gymnasium.Env) -> tuple[str, ...]:
    """Asks as Atari's, Crafter's and MiniGrid's environments can be asked."""
    bare, amount = getattr(env, "unwrapped", env), getattr(env.action_space, "n", 0)
    said = getattr(bare, "get_action_meanings", None)
    found = (
        said() if callable(said) else getattr(bare, "action_names", getattr(bare, "actions", ()))
    )
    if not isinstance(found, Iterable):
        return ()
    names = tuple(str(getattr(one, "name", one)).lower() for one in found)
    return names if len(names) == amount else ()


def flat_spaces(
    space: gymnasium.Space, prefix: str = ""
) -> gymnasium.Space | dict[str, gymnasium.Space]:
    """Flattens a Dict space to ``{"outer/inner": space}``; any other space stays itself."""
    if not isinstance(space, gymnasium.spaces.Dict):
        return space
    flat: dict[str, gymnasium.Space] = {}
    for key, child in space.spaces.items():
        name = f"{prefix}/{key}" if prefix else key
        inner = flat_spaces(child, name)
        flat.update(inner if isinstance(inner, dict) else {name: inner})
    return flat


def adapt(key: str, value: Any, space: gymnasium.Space, spec: ObservationSpec) -> np.ndarray:
    """Turns one observation into a uint8 image ``[H, W, C]`` or a float32 vector ``[D]``.

    Discrete values become one-hot vectors, MultiDiscrete ones their concatenation.

    Raises:
        UserError: The value does not belong to the space: shape, kind or choice.
    """
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise UserError(
            f"observation {key!r} is no array of the shape {space.shape}, which its space "
            f"declares: {error}"
        ) from error
    if array.shape != space.shape:
        raise UserError(
            f"observation {key!r} has shape {array.shape}; its space declares {space.shape}"
        )
    if spec.kind == "image":
        if array.dtype != np.uint8:
            raise UserError(f"observation {key!r} has dtype {array.dtype}; its space is uint8")
        # A copy: some environments draw every frame into the same buffer.
        return array.reshape(spec.shape).copy()
    if array.dtype.kind not in "fiub":
        raise UserError(f"observation {key!r} has dtype {array.dtype}; expected numbers")
    if spec.choices:
        return spec.one_hots(key, array)
    with np.errstate(over="ignore"):
        narrow = array.reshape(spec.shape).astype(np.float32)
    wide = array.dtype.itemsize > narrow.dtype.itemsize
    if wide and not np.isfinite(narrow).all() and np.isfinite(array).all():
        raise UserError(
            f"observation {key!r} holds {np.abs(array).max():.3g}; expected numbers that 32 bits "
            "hold, up to 3.4e38"
        )
    return narrow  # What was not finite before is refused with the row.


def _scalar(reward: Any) -> float:
    try:
        if isinstance(reward, str | bytes):
            raise TypeError
        return float(reward)
    except (TypeError, ValueError):
        raise UserError(
            f"the environment returned reward {reward!r}; expected one number"
        ) from None


def _cost(info: Any) -> float:
    found = _finite(info.get(COST)) if isinstance(info, Mapping) else None
    if found is None or found < 0:
        raise UserError(
            "env.cost is true, and info['cost'] of a step is "
            + ("missing" if not isinstance(info, Mapping) or COST not in info else repr(info[COST]))
            + "; expected a number of at least 0, or set env.cost false"
        )
    return found


def _flag(name: str, value: Any) -> bool:
    if np.ndim(value) == 0:
        return bool(value)
    raise UserError(f"the environment returned {name} {value!r}; expected True or False")


def _log(info: Any) -> dict[str, float]:
    """Returns the entries of ``info`` for the log."""
    if not isinstance(info, Mapping):
        if info is not None:
            warn_once(f"info is a {type(info).__name__} and is left out; expected a dictionary")
        return {}
    found = {}
    for key, value in info.items():
        if not (isinstance(key, str) and key.startswith(LOG_PREFIX)):
            continue
        number = _finite(value)
        if number is None:
            warn_once(f"info[{key!r}] is left out; expected a finite number")
        else:
            found[key] = number
    return found


def _finite(value: Any) -> float | None:
    """Returns a number as rows hold it; None where it is none, or not finite as float32."""
    try:
        # Python's integers may be larger than NumPy's.
        array = np.asarray(float(value) if isinstance(value, int) else value)
    except Exception:  # Whatever the conversion of somebody's type raises.
        return None
    if array.shape or array.dtype.kind not in "fiub":
        return None
    with np.errstate(over="ignore"):
        return float(array) if np.isfinite(array.astype(np.float32)) else None


def make_gym(
    task: str,
    kwargs: Mapping[str, Any],
    *,
    seed: int,
    action_repeat: int,
    time_limit: int,
    channels: Literal["last", "first"] = "last",
    cost: bool = False,
) -> GymEnv:
    """Builds ``gymnasium.make(task)``, with its picture for videos where it has one.

    Raises:
        UserError: The id is unknown or withdrawn, its arguments do not fit, or a package that
            it needs is missing.
    """
    try:
        env = _make(task, {"disable_env_checker": True, **kwargs})
    except TypeError as error:
        if not _raised_by_call(error):
            raise
        raise UserError(f"env.kwargs do not fit gym_{task}: {error}") from error
    except gymnasium.error.UnregisteredEnv as error:
        raise UserError(f"unknown task 'gym_{task}': {str(error).splitlines()[0]}") from error
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise UserError(f"gym_{task} needs a package: {error}") from error
    except gymnasium.error.Error as error:
        raise UserError(f"gym_{task} cannot be built: {error}") from error
    return GymEnv(
        env, seed=seed, action_repeat=action_repeat, time_limit=time_limit, channels=channels,
        cost=cost,
    )  # fmt: skip


def _make(task: str, kwargs: Mapping[str, Any]) -> gymnasium.Env:
    """Builds it with pictures, or without where it has none or fails to be built with them."""
    if "render_mode" not in kwargs and "rgb_array" in _render_modes(task):
        try:
            return gymnasium.make(task, render_mode="rgb_array", **kwargs)
        except (gymnasium.error.Error, ImportError):
            raise
        except Exception:  # Such as a constructor that knows no render_mode.
            return gymnasium.make(task, **kwargs)
    return gymnasium.make(task, **kwargs)


def _render_modes(task: str) -> Sequence[str]:
    """Returns what an environment says that it can draw, "rgb_array" where it says nothing."""
    module, _, name = task.rpartition(":")
    if module:
        importlib.import_module(module)  # Which registers it.
    spec = gymnasium.registry.get(name)
    creator = spec and spec.entry_point
    if isinstance(creator, str):
        creator = gymnasium.envs.registration.load_env_creator(creator)
    metadata = getattr(creator, "metadata", None)
    modes = metadata.get("render_modes") if isinstance(metadata, Mapping) else None
    return ["rgb_array"] if modes is None else modes


def _raised_by_call(error: TypeError) -> bool:
    """Whether the arguments did not fit, or something inside the constructor went wrong."""
    at = (error.__cause__ or error).__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return at is None or at.tb_frame.f_globals.get("__name__") == "gymnasium.envs.registration"
