"""Small environments whose best return is known."""

from __future__ import annotations

import os

import gymnasium
import numpy as np
from gymnasium import spaces


class Corridor(gymnasium.Env):
    """Nine cells, a start in the middle, and a door at one of the two ends.

    Every step costs 0.1. The door, whose side is seen, pays 1 and ends the episode; the
    other end is a wall. After 20 steps the episode is truncated. Optimum: four steps to
    the door, ``1 - 4 * 0.1 = 0.6``. A random walk would take 48 steps on average.
    """

    OPTIMUM = 0.6

    def __init__(self):
        self.observation_space = spaces.Box(-1, 1, (10,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cell, self.steps = 4, 0
        self.door = int(self.np_random.integers(2)) * 8
        return self.observe(), {}

    def step(self, action):
        self.cell = min(max(self.cell + 2 * int(action) - 1, 0), 8)
        self.steps += 1
        found = self.cell == self.door
        return self.observe(), float(found) - 0.1, found, self.steps == 20, {}

    def observe(self):
        return np.append(np.eye(9)[self.cell], self.door / 4 - 1).astype(np.float32)


class Wind(gymnasium.Env):
    """A point on a line, blown towards one of the two ends, that should stay in the middle.

    The action moves it by up to 0.3, the wind by 0.15 to the side that is seen. A step
    pays ``1 - x²``; leaving [-1, 1] ends the episode, which is truncated after 15 steps.
    Optimum: stand still at 0 against the wind, 15.
    """

    OPTIMUM = 15.0

    def __init__(self):
        self.observation_space = spaces.Box(-2, 2, (2,), np.float32)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.steps = 0.0, 0
        self.wind = float(self.np_random.choice([-1, 1]))
        return self.observe(), {}

    def step(self, action):
        self.x += 0.3 * float(action[0]) + 0.15 * self.wind
        self.steps += 1
        out = abs(self.x) > 1
        return self.observe(), 1 - min(self.x**2, 1), out, self.steps == 15, {}

    def observe(self):
        return np.array([self.x, self.wind], np.float32)


class Toll(gymnasium.Env):
    """Pays the action a, and costs a² where it is above 0.

    Who earns the reward less the cost takes 1/2, as does who may cost 1/4 a step: the multiplier
    is then 1. Who heeds no cost takes 1.
    """

    LENGTH = 5
    BEST, COST = 0.5 * LENGTH, 0.25 * LENGTH

    def __init__(self):
        self.observation_space = spaces.Box(0, 1, (1,), np.float32)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observe(), {}

    def step(self, action):
        self.steps += 1
        taken = float(action[0])
        info = {"cost": max(taken, 0.0) ** 2}
        return self.observe(), taken, False, self.steps == self.LENGTH, info

    def observe(self):
        return np.array([self.steps / self.LENGTH], np.float32)


class Echo(gymnasium.Env):
    """Pays the action; shows how many steps were made, and a picture of that where wanted.

    Args:
        end: Steps of an episode.
        pixels: Whether there is an image besides the number.
        broken: A file whose existence turns every observation into NaN.
    """

    def __init__(self, end: int = 5, pixels: bool = False, broken: str = ""):
        self.end, self.pixels, self.broken = end, pixels, broken
        space = {"count": spaces.Box(0, np.inf, (1,), np.float32)}
        if pixels:
            space["image"] = spaces.Box(0, 255, (32, 32, 3), np.uint8)
        self.observation_space = spaces.Dict(space)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)
        self.render_mode = "rgb_array"

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self.observe(), {"log/twice": 0.0}

    def step(self, action):
        self.count += 1
        reward = float(action[0])
        over = self.count == self.end
        return self.observe(), reward, over, False, {"log/twice": 2 * reward}

    def observe(self):
        count = np.nan if self.broken and os.path.exists(self.broken) else self.count
        observation = {"count": np.array([count], np.float32)}
        return observation | ({"image": self.render()} if self.pixels else {})

    def render(self):
        return np.full((32, 32, 3), 10 * self.count, np.uint8)
