"""Episodes of a linear system whose next row is known, for the contenders."""

from __future__ import annotations

import numpy as np

from tests.planet.linear_system import BODIES

PLANE, GAIN = BODIES["plane"]


def linear_episode(rng, rows=20, offset=(0.0, 0.0)):
    """x' = M x + G a around an offset, reward 3 - |x - offset|^2 / 2, from random states."""
    state = rng.uniform(-1.5, 1.5, 2).astype(np.float32)
    states, actions = [state], [np.zeros(1, np.float32)]
    for _ in range(rows - 1):
        actions.append(rng.uniform(-1, 1, 1).astype(np.float32))
        states.append(PLANE @ states[-1] + GAIN @ actions[-1])
    states = np.stack(states)
    rewards = 3 - np.square(states).sum(-1) / 2
    rewards[0] = 0
    first = np.arange(rows) == 0
    return {
        "state": (states + np.asarray(offset)).astype(np.float32),
        "action": np.stack(actions),
        "reward": rewards.astype(np.float32),
        "is_first": first,
        "is_last": first[::-1].copy(),
        "is_terminal": np.zeros(rows, bool),
    }


def linear_episodes(seed, count=30, **kwargs):
    """Several of them."""
    rng = np.random.default_rng(seed)
    return [linear_episode(rng, **kwargs) for _ in range(count)]
