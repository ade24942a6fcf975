"""The episodes that the recorded logs hold, as their environment would have given them."""

from __future__ import annotations

import numpy as np

STEPS = (11, 7)
"""Transitions of each episode; the second one really ended."""


def arm(number, steps=None):
    """Observations ``[T + 1, ...]``, actions and rewards ``[T, ...]`` of a body."""
    rng, steps = np.random.default_rng(number), steps or STEPS[number]
    observations = {
        "height": rng.normal(size=steps + 1).astype(np.float32),
        "joints": rng.normal(size=(steps + 1, 3)).astype(np.float32),
    }
    actions = rng.uniform(-2, 2, (steps, 2)).astype(np.float32)
    return observations, actions, rng.normal(size=steps).astype(np.float32)


def game(number):
    """The same of a game with pictures and choices."""
    rng, steps = np.random.default_rng(number), STEPS[number]
    pictures = rng.integers(0, 256, (steps + 1, 32, 32, 3)).astype(np.uint8)
    return pictures, rng.integers(0, 3, steps), rng.normal(size=steps).astype(np.float32)
