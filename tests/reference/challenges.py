"""The challenges of applied reinforcement learning, one number and one step at a time."""

from __future__ import annotations

import numpy as np


def late(values: list, steps: int) -> list:
    """What arrives of an episode's values where everything is so many steps late."""
    return [values[max(0, t - steps)] for t in range(len(values))]


def repeated(actions: list, prob: float, steps: int, rng: np.random.Generator) -> list:
    """What is performed of an episode's actions: each again, so often, with a probability."""
    performed = []
    while len(performed) < len(actions):
        chosen = actions[len(performed)]
        times = 1 + (steps if rng.random() < prob else 0)
        performed += [chosen] * times
    return performed[: len(actions)]


def arrived(
    values: list[np.ndarray],
    gaussian: float,
    dropped: tuple[float, int],
    stuck: tuple[float, int],
    parts: list[int],
    smooth: list[bool],
    limit: float,
    rngs: list[np.random.Generator],
) -> list[np.ndarray]:
    """What arrives of an episode's vectors: noise, then lost numbers, then stuck ones.

    A fault that begins at step t lasts for the steps t to t + steps - 1, and none of the same
    number begins before it is over.
    """
    amount = max(parts, default=-1) + 1
    lost_until, stuck_until = [0] * amount, [0] * amount
    result: list[np.ndarray] = []
    for t, value in enumerate(values):
        noise = rngs[0].standard_normal(len(value)) if gaussian else np.zeros(len(value))
        for until, (prob, steps), rng in (
            (lost_until, dropped, rngs[1]), (stuck_until, stuck, rngs[2]),
        ):  # fmt: skip
            for part, chance in enumerate(rng.random(amount)):
                if t >= until[part] and chance < prob:
                    until[part] = t + steps
        vector = []
        for i, number in enumerate(value):
            if smooth[i] and gaussian:
                number = min(max(number + gaussian * noise[i], -limit), limit)
            if smooth[i] and t < lost_until[parts[i]]:
                number = 0.0
            if t < stuck_until[parts[i]] and t > 0:
                number = result[-1][i]
            vector.append(number)
        result.append(np.array(vector, np.float32))
    return result
