"""What the sweep goes through: tasks, challenges, and how strong each is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from common.envs.challenges.published import TASKS

RWRL_TASKS = tuple(f"{domain}_{task}" for domain, tasks in TASKS.items() for task in tasks)
NONE = "none"
"""The challenge that is none, with which every other one begins."""


class Point(NamedTuple):
    """One challenge in one strength.

    Attributes:
        challenge: Its name.
        strength: How strong, a number or a word.
        words: Of the train command.
    """

    challenge: str
    strength: str
    words: tuple[str, ...]


_SWEEPS: dict[str, tuple[str, Sequence[object], str]] = {
    "action_delay": ("delay.actions", (3, 6, 9), "delay (agent steps)"),
    "observation_delay": ("delay.observations", (3, 6, 9), "delay (agent steps)"),
    "reward_delay": ("delay.rewards", (10, 20, 40), "delay (agent steps)"),
    "action_noise": ("gaussian.actions", (0.1, 0.2, 0.3), "noise (standard deviation)"),
    "observation_noise": ("gaussian.observations", (0.1, 0.2, 0.3), "noise (standard deviation)"),
    "dropped": ("dropped.observations_prob", (0.01, 0.05, 0.1), "probability per step"),
    "stuck": ("stuck.observations_prob", (0.01, 0.05, 0.1), "probability per step"),
    "repetition": ("repetition.actions_steps", (1, 2, 3), "repetitions of an action"),
    "dimensions": ("dimensions", (10, 20, 50), "random numbers added"),
    "perturbed": ("perturb.strength", ("easy", "medium", "hard"), "strength"),
    "safety": ("safety.coeff", (1, 0.5, 0.3), "coefficient, less is harder"),
}
"""The option that each challenge varies, its strengths, and what they are, with their unit."""

_ALWAYS = {
    "repetition": ("repetition.actions_prob", "1"),
    "perturbed": ("perturb.param", "auto", "perturb.scheduler", "uniform"),
    "safety": ("safety.constraints", "all"),
}
"""What a challenge has in every strength."""


def _words(*pairs: object) -> tuple[str, ...]:
    names = (f"--env.challenge.{name}" for name in pairs[::2])
    return tuple(word for pair in zip(names, map(str, pairs[1::2]), strict=True) for word in pair)


def _points() -> Iterator[Point]:
    yield Point(NONE, "0", ())
    for challenge, (option, strengths, _) in _SWEEPS.items():
        for strength in strengths:
            words = _words(*_ALWAYS.get(challenge, ()), option, strength)
            yield Point(challenge, str(strength), words)
    for strength in ("easy", "medium", "hard"):
        yield Point("combined", strength, ("--configs", f"rwrl_{strength}"))


POINTS = {f"{point.challenge}-{point.strength}": point for point in _points()}
"""Every point by its name, such as "action_delay-3"."""

SCALES = {
    NONE: "",
    **{name: scale for name, (_, _, scale) in _SWEEPS.items()},
    "combined": "preset",
}
"""What the strengths of each challenge are, with their unit, to name an axis."""


def find_point(game: str) -> tuple[str, Point]:
    """Returns task and point of a job's name, such as "walker_walk.action_delay-3".

    Raises:
        KeyError: It is none of the sweep.
    """
    task, _, point = game.partition(".")
    return task, POINTS[point]
