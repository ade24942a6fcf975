"""Adapts Gymnasium environments: any observation and action space that spaces.py knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from common.envs.base import Row, check_keys, make_row
from common.errors import UserError
from common.rows import LOG_PREFIX
from common.spaces import ObservationSpec, action_spec, flatten_observation, observation_specs


class GymEnv:
    """One Gymnasium environment as rows.

    Rewards are summed over the action repeat, which stops where the episode ends.
    ``terminated`` gives ``is_last`` and ``is_terminal``, ``truncated`` and the time
    limit give ``is_last`` only. Scalars of ``info`` whose key starts with "log/" are
    passed on.

    Args:
        env: The environment.
        seed: Seed of its first reset.
        action_repeat: Simulator steps per agent step.
        time_limit: Longest episode in simulator steps; 0 leaves that to ``env``.

    Raises:
        UserError: A space is not supported. ``reset`` and ``step`` raise it where an
            observation disagrees with the declared space, or is not finite.
    """

    def __init__(
        self, env: gymnasium.Env, *, seed: int, action_repeat: int = 1, time_limit: int = 0
    ):
        self.action_space = env.action_space
        self.observation_specs = observation_specs(env.observation_space)
        self.action_spec = action_spec(env.action_space)
        self.action_repeat = action_repeat
        limits = [time_limit, env.spec and env.spec.max_episode_steps]
        known = [limit for limit in limits if limit]
        self.max_steps = -(-min(known) // action_repeat) if known else 0
        check_keys(self.observation_specs)
        self._env, self._time_limit = env, time_limit
        self._spaces = flat_spaces(env.observation_space)
        self._seed: int | None = seed
        self._frames = 0

    def reset(self) -> Row:
        """Begins an episode; only the first one is seeded."""
        result = self._env.reset(seed=self._seed)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise UserError("reset() must return (observation, info), as Gymnasium defines it")
        self._seed, self._frames = None, 0
        return make_row(self._adapt(result[0]), first=True, log=_log(result[1]))

    def step(self, action: np.ndarray) -> Row:
        """Applies one flat action ``[A]``."""
        decoded = self.action_spec.decode(action)
        total = 0.0
        for _ in range(self.action_repeat):
            result = self._env.step(decoded)
            if not (isinstance(result, tuple) and len(result) == 5):
                raise UserError(
                    "step() must return (observation, reward, terminated, truncated, info), "
                    "as Gymnasium defines it"
                )
            observation, reward, terminated, truncated, info = result
            total += _scalar(reward)
            self._frames += 1
            truncated = truncated or self._frames == self._time_limit
            if terminated or truncated:
                break
        return make_row(
            self._adapt(observation),
            total,
            last=bool(terminated or truncated),
            terminal=bool(terminated),
            log=_log(info),
        )

    def render(self) -> np.ndarray | None:
        """Returns the environment's own picture, where its render mode gives one."""
        if self._env.render_mode != "rgb_array":
            return None
        try:
            frame = np.asarray(self._env.render())
        except (gymnasium.error.Error, ImportError, AttributeError):
            return None  # A drawing library is missing: videos are optional.
        return frame if frame.ndim == 3 and frame.dtype == np.uint8 else None

    def close(self) -> None:
        """Closes the environment."""
        self._env.close()

    def _adapt(self, observation: Any) -> dict[str, np.ndarray]:
        if isinstance(self._spaces, gymnasium.Space):
            ((key, spec),) = self.observation_specs.items()
            return {key: adapt(key, observation, self._spaces, spec)}
        flat = flatten_observation(observation)
        if flat.keys() != self.observation_specs.keys():
            raise UserError(
                f"the observation has the keys {sorted(map(str, flat))}; its space declares "
                f"{sorted(self.observation_specs)}"
            )
        specs = self.observation_specs
        return {key: adapt(key, flat[key], self._spaces[key], specs[key]) for key in specs}


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
    array = np.asarray(value)
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
    return array.reshape(spec.shape).astype(np.float32)


def _scalar(reward: Any) -> float:
    try:
        return float(reward)
    except (TypeError, ValueError):
        raise UserError(
            f"the environment returned reward {reward!r}; expected one number"
        ) from None


def _log(info: Mapping[str, Any]) -> dict[str, float]:
    return {
        key: float(value)
        for key, value in info.items()
        if isinstance(key, str) and key.startswith(LOG_PREFIX) and np.ndim(value) == 0
    }


def make_gym(
    task: str, kwargs: Mapping[str, Any], *, seed: int, action_repeat: int, time_limit: int
) -> GymEnv:
    """Builds ``gymnasium.make(task)``, with its picture for videos where it has one.

    Raises:
        UserError: The id is unknown, or a package that it needs is missing.
    """
    kwargs = {"disable_env_checker": True, **kwargs}
    try:
        try:
            env = gymnasium.make(task, **{"render_mode": "rgb_array", **kwargs})
        except TypeError:  # The constructor knows no render_mode.
            env = gymnasium.make(task, **kwargs)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise UserError(f"env.kwargs do not fit gym_{task}: {error}") from error
    except gymnasium.error.UnregisteredEnv as error:
        raise UserError(f"unknown task 'gym_{task}': {str(error).splitlines()[0]}") from error
    except gymnasium.error.DependencyNotInstalled as error:
        raise UserError(f"gym_{task} needs a package: {error}") from error
    return GymEnv(env, seed=seed, action_repeat=action_repeat, time_limit=time_limit)
