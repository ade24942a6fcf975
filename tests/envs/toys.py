"""Small environments for the tests; workers import them by name."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Counter(gymnasium.Env):
    """Counts simulator steps; the reward of step n is n. Shows every kind of space.

    Args:
        end: Simulator steps per episode.
        truncate: Whether the episode ends by truncation instead of termination.
    """

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, end: int = 6, truncate: bool = False):
        self.observation_space = spaces.Dict(
            {
                "count": spaces.Box(-np.inf, np.inf, (), np.float64),
                "image": spaces.Box(0, 255, (32, 40), np.uint8),
                "inner": spaces.Dict({"bits": spaces.MultiBinary(2)}),
                "multi": spaces.MultiDiscrete([2, 3]),
                "random": spaces.Box(0, 1, (2, 2), np.float32),
                "which": spaces.Discrete(3, start=1),
            }
        )
        self.action_space = spaces.Dict(
            {
                "jump": spaces.Discrete(2),
                "keys": spaces.MultiDiscrete([2, 3]),
                "move": spaces.Box(np.array([0.0, -2.0], np.float32), 2.0),
            }
        )
        self.render_mode = "rgb_array"
        self.end, self.truncate = end, truncate
        self.actions: list[Any] = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self.observe(), {"log/count": 0}

    def step(self, action):
        self.actions.append(action)
        self.count += 1
        over = self.count >= self.end
        info = {"log/count": self.count, "other": 1}
        ended = over and not self.truncate
        return self.observe(), float(self.count), ended, over and self.truncate, info

    def observe(self):
        return {
            "count": float(self.count),
            "image": np.full((32, 40), self.count, np.uint8),
            "inner": {"bits": np.array([1, 0], np.int8)},
            "multi": np.array([1, 2]),
            "random": self.np_random.random((2, 2), np.float32),
            "which": 2,
        }

    def render(self):
        return np.full((16, 16, 3), self.count, np.uint8)


class Faulty(gymnasium.Env):
    """Shows its step count and its random number, and fails in a chosen way.

    Args:
        fault: "raise", "exit", "kill", "hang", "build" or "stuck" while it is built, or a bad
            observation: "nan", "shape", "dtype", "ragged", "large", or what else a step returns:
            "reward", "word", "digit", "ends".
        at: The step that fails; 0 is the reset.
        once: A file whose absence makes the fault happen, and which it creates, so that
            the copy that follows is sound. Empty: the fault happens every time.
    """

    def __init__(self, fault: str = "", at: int = 2, once: str = ""):
        if fault == "build":
            raise RuntimeError("the maze has no exit")
        while fault == "stuck":
            if once:
                open(once, "w").close()
            time.sleep(0.1)
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)
        self.fault, self.at, self.once = fault, at, once

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count, self.number = 0, self.np_random.random()
        return self.observe(), {}

    def step(self, action):
        self.count += 1
        rewards = {"word": "much", "digit": "1", "reward": np.inf}
        reward = rewards.get(self.fault, 1.0) if self.count == self.at else 1.0
        over = np.array([False, True]) if self.fault == "ends" and self.count == self.at else False
        return self.observe(), reward, False, over, {}

    def observe(self):
        observation = np.array([self.count, self.number], np.float32)
        if self.count != self.at or (self.once and os.path.exists(self.once)):
            return observation
        if self.once:
            open(self.once, "w").close()
        if self.fault == "raise":
            raise RuntimeError("the motor burnt out")
        if self.fault == "exit":
            raise SystemExit(0)
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        while self.fault == "hang":
            time.sleep(0.1)
        if self.fault == "ragged":
            return (observation, 1.0)
        if self.fault == "nan":
            observation[1] = np.nan
        if self.fault == "large":
            return observation.astype(np.float64) * 1e300
        if self.fault == "shape":
            return observation[:1]
        return np.array(["a", "b"]) if self.fault == "dtype" else observation


class OldStyle(Faulty):
    """Returns four values from a step, as Gym did before 0.26."""

    def step(self, action):
        return self.observe(), 1.0, False, {}


class Single(gymnasium.Env):
    """One of which only one may be alive in a process; its episodes have ``end`` steps."""

    alive = 0

    def __init__(self, end: int = 12):
        if Single.alive:
            raise RuntimeError("cannot create a second one")
        Single.alive = 1
        self.observation_space = spaces.Box(0, np.inf, (1,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.end = end

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.count += 1
        return np.full(1, self.count, np.float32), 1.0, False, self.count >= self.end, {}

    def close(self):
        Single.alive = 0


class Fixed(gymnasium.Env):
    """Has a given observation space and shows draws from it, and a given ``info``."""

    def __init__(self, space: gymnasium.Space, info: Any = None):
        self.observation_space, self.info = space, info
        self.action_space = spaces.Discrete(2)
        self.shown: list[Any] = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.count = 0
        return self.observe(), self.info

    def step(self, action):
        self.count += 1
        return self.observe(), 1.0, False, self.count == 4, self.info

    def observe(self):
        self.shown.append(self.observation_space.sample())
        return self.shown[-1]


class Pictures(Single):
    """Shows the pictures that it is given, one after the other, the last again and again.

    Args:
        pictures: Arrays; or an error that ``render`` raises.
    """

    metadata = {"render_modes": ["rgb_array"]}
    render_mode = "rgb_array"

    def __init__(self, *pictures: Any):
        Single.alive = 0
        super().__init__(end=5)
        self.pictures = list(pictures)

    def render(self):
        picture = self.pictures.pop(0) if len(self.pictures) > 1 else self.pictures[0]
        if isinstance(picture, Exception):
            raise picture
        return picture


def transparent():
    """A factory of an environment whose pictures have an alpha channel."""
    return Pictures(np.full((40, 30, 4), 9, np.uint8))


def floating():
    """A factory of an environment whose pictures are floats."""
    return Pictures(np.zeros((40, 30, 3)))


def broken():
    """A factory of an environment that cannot draw."""
    return Pictures(OSError("no display"))


class Modules(Faulty):
    """Says which libraries its process has loaded; pays 1 in a worker without any of them."""

    WATCHED = ("jax", "haiku", "optax", "tensorflow_probability", "orbax", "matplotlib")

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0], self.loaded()

    def step(self, action):
        observation, *_ = super().step(action)
        info = self.loaded()
        return observation, float(list(info.values()) == [0] * 6 + [1]), False, False, info

    def loaded(self):
        info = {f"log/{name}": float(name in sys.modules) for name in self.WATCHED}
        return info | {"log/worker": float(multiprocessing.parent_process() is not None)}


NOT_AN_ENVIRONMENT = 3


def make_number() -> int:
    """A factory that returns no environment."""
    return NOT_AN_ENVIRONMENT
