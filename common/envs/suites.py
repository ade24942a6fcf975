"""Suites of others by their Gymnasium interface: Crafter, MiniGrid, ViZDoom, Meta-World, DMLab.

Each comes with a package of its own, which ``docs/environments.md`` says how to install. A task is
the suite's prefix and a name that the suite knows; what it is called with are ``env.kwargs``.
Pictures become ``size`` x ``size`` pixels, the mean of those that they cover.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import TimeLimit

from common.errors import UserError, nearest
from common.rows import LOG_PREFIX

SIZE = 64
CRAFTER = ("reward", "noreward")
_ACHIEVEMENT = LOG_PREFIX + "achievement_"


class Picture(gymnasium.ObservationWrapper):
    """Makes one picture of an observation square and small, and calls it "image".

    Args:
        env: Shows a Dict.
        key: Of the picture, uint8 ``[H, W, 3]``.
        size: Its height and width.
        others: Which of the other observations stay.
    """

    def __init__(self, env: gymnasium.Env, key: str, size: int, others: tuple[str, ...] = ()):
        super().__init__(env)
        self._key, self._size, self._others = key, size, others
        spaces = {name: env.observation_space[name] for name in others}
        image = gymnasium.spaces.Box(0, 255, (size, size, 3), np.uint8)
        self.observation_space = gymnasium.spaces.Dict(spaces | {"image": image})

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """Returns the observation with the small picture."""
        from PIL import Image

        picture = Image.fromarray(observation[self._key])
        if picture.size != (self._size, self._size):
            picture = picture.resize((self._size, self._size), Image.Resampling.BOX)
        return {name: observation[name] for name in self._others} | {"image": np.asarray(picture)}


class Crafter(gymnasium.Env):
    """Crafter (arXiv:2109.06780), whose own class is older than Gymnasium.

    An achievement is logged as 1 in the step that unlocks it, so that the sum over an episode says
    whether it was. Death ends an episode for good, its 10,000 steps only cut it.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    render_mode = "rgb_array"

    def __init__(self, reward: bool, size: int = SIZE, length: int = 10_000):
        """Builds the world.

        Args:
            reward: Whether health and achievements reward.
            size: Height and width of the picture.
            length: Steps of the longest episode.
        """
        module = _library("crafter")
        self._make = functools.partial(module.Env, size=(size, size), reward=reward, length=length)
        self._world = self._make(seed=0)
        self.spec = EnvSpec("Crafter-v1", entry_point=None, max_episode_steps=length)
        self.observation_space = gymnasium.spaces.Box(0, 255, (size, size, 3), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(len(self._world.action_names))
        self._unlocked: set[str] = set()

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        """Begins an episode in a new world."""
        super().reset(seed=seed)
        if seed is not None:
            self._world = self._make(seed=seed)
        self._unlocked = set()
        return self._world.reset(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, float]]:
        """Does one action."""
        picture, reward, done, info = self._world.step(int(action))
        log = {}
        for name, amount in info["achievements"].items():
            new = amount > 0 and name not in self._unlocked
            self._unlocked |= {name} if new else set()
            log[_ACHIEVEMENT + name] = float(new)
        dead = info["discount"] == 0
        return picture, float(reward), done and dead, done and not dead, log

    def render(self) -> np.ndarray:
        """Returns the world as it is seen, larger."""
        return self._world.render((256, 256))


class MetaWorld(gymnasium.Wrapper):
    """A task of Meta-World (arXiv:1910.10897); its goals depend on the seed that it is built with.

    1 is logged in the first step of an episode that Meta-World calls a success.
    """

    def __init__(self, make: Callable[..., gymnasium.Env]):
        """Builds it with the seed 0; ``make`` takes another."""
        super().__init__(make(seed=0))
        self._make, self._done = make, False

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        """Begins an episode; with a seed the goals are drawn anew."""
        self._done = False
        if seed is not None:
            self.env.close()
            self.env = self._make(seed=seed)
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        """Does one action."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        new = bool(info.get("success")) and not self._done
        self._done |= new
        log = {LOG_PREFIX + "success": float(new)}
        return observation, float(reward), terminated, truncated, log


class Timeout(gymnasium.Wrapper):
    """Tells ViZDoom's limit of time from an end of the task, which it does not."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        """Does one action."""
        observation, reward, over, truncated, info = self.env.step(action)
        cut = over and self.env.unwrapped.game.is_episode_timeout_reached()
        return observation, reward, over and not cut, truncated or cut, info


def _crafter(name: str, size: int = SIZE, length: int = 10_000) -> gymnasium.Env:
    if name not in CRAFTER:
        raise UserError(f"unknown task 'crafter_{name}'{nearest(name, CRAFTER)}")
    return Crafter(name == "reward", size, length)


def _minigrid(name: str, size: int = SIZE, **kwargs: Any) -> gymnasium.Env:
    """What lies before the agent, drawn; the mission, which is words, is left out."""
    wrappers = _library("minigrid.wrappers")
    env = _registered("minigrid", f"MiniGrid-{name}", kwargs)
    env = wrappers.RGBImgPartialObsWrapper(env, tile_size=32)
    return TimeLimit(Picture(env, "image", size), env.unwrapped.max_steps)


def _vizdoom(name: str, size: int = SIZE, **kwargs: Any) -> gymnasium.Env:
    _library("vizdoom.gymnasium_wrapper")
    env = _registered("vizdoom", f"Vizdoom{name}", kwargs)
    numbers = [key for key in ("gamevariables",) if key in env.observation_space.spaces]
    picture, limit = Picture(Timeout(env), "screen", size, tuple(numbers)), env.unwrapped
    steps = limit.game.get_episode_timeout() // limit.frame_skip
    return TimeLimit(picture, steps) if steps else picture


def _metaworld(name: str, **kwargs: Any) -> gymnasium.Env:
    names = list(_library("metaworld.env_dict").ALL_V3_ENVIRONMENTS)
    if name not in names:
        raise UserError(f"unknown task 'metaworld_{name}'{nearest(name, names)}")
    given = {"env_name": name} | kwargs
    return MetaWorld(
        lambda seed: _registered("metaworld", "Meta-World/MT1", {"seed": seed} | given)
    )


def _dmlab(
    name: str,
    size: int = SIZE,
    episodic: bool = True,
    renderer: str = "",
    config: dict[str, Any] | None = None,
) -> gymnasium.Env:
    from common.envs.dmlab import Lab

    return Lab(name, size, episodic, renderer, config)


SUITES: dict[str, Callable[..., gymnasium.Env]] = {
    "crafter_": _crafter,
    "minigrid_": _minigrid,
    "vizdoom_": _vizdoom,
    "metaworld_": _metaworld,
    "dmlab_": _dmlab,
}
"""By the prefix of their tasks: what builds one, of the rest of the name and ``env.kwargs``."""
PREFIXES = tuple(SUITES)
REPEATS = {"dmlab_": 4}
"""Usual simulator steps of an action, where it is not 1."""
APART = ("metaworld",)
"""Packages with which pip replaces the control suite's MuJoCo by an older one."""
EXAMPLES = (
    *(f"crafter_{name}" for name in CRAFTER), "minigrid_DoorKey-5x5-v0", "vizdoom_Basic-v1",
    "metaworld_reach-v3", "dmlab_rooms_watermaze",
)  # fmt: skip
"""Names that a misspelt one may have meant."""


def find(task: str) -> Callable[..., gymnasium.Env]:
    """Returns what builds the environment of a task, called with ``env.kwargs``."""
    prefix = next(prefix for prefix in PREFIXES if task.startswith(prefix))
    return functools.partial(SUITES[prefix], task.removeprefix(prefix))


def _library(name: str) -> Any:
    """Imports a package of others.

    Raises:
        UserError: It is not installed.
    """
    package = name.partition(".")[0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of old versions of their libraries.
            return importlib.import_module(name)
    except ImportError as error:
        where = ", in a virtual environment of its own" if package in APART else ""
        raise UserError(
            f"{package} is not installed here ({error}); run pip install {package}{where}, see "
            "docs/environments.md"
        ) from error


def _registered(prefix: str, name: str, kwargs: dict[str, Any]) -> gymnasium.Env:
    """Builds what a package registered.

    Raises:
        UserError: There is no such environment, or it takes other arguments.
    """
    try:
        usual = {"render_mode": "rgb_array", "disable_env_checker": True}
        return gymnasium.make(name, **usual | kwargs)
    except gymnasium.error.UnregisteredEnv as error:
        known = [one for one in gymnasium.registry if one.startswith(name.partition("-")[0][:7])]
        raise UserError(f"unknown {prefix} environment {name!r}{nearest(name, known)}") from error
    except TypeError as error:
        raise UserError(f"env.kwargs do not fit {name}: {error}") from error
