"""What stands between an agent and its environment: delays, noise, faults, meaningless numbers.

In the suite's order, per agent step:

- an observation: Gaussian noise, dropped numbers, stuck numbers; then all of it is delayed; then
  come the numbers that mean nothing;
- an action: delay, Gaussian noise (clipped), dropped, stuck, repetition;
- a reward: delay.

Every part draws from a generator of its own, so that one does not depend on whether another is on.
All of them begin anew with every episode.
"""

from __future__ import annotations

import collections
from typing import Any

import numpy as np

from common.envs.base import Env, Row
from common.envs.challenges.config import ChallengeConfig, FaultConfig
from common.errors import UserError
from common.spaces import ActionSpec, ObservationSpec

DUMMY = "dummy"
CONSTRAINTS = "constraints"
MULTIOBJ = "multiobj"
_OWN = (CONSTRAINTS, MULTIOBJ)
"""Observations that the suite adds after its noise."""


class Delay:
    """Gives back what it was given some steps before; until then the first of the episode.

    Args:
        steps: How many.
    """

    def __init__(self, steps: int):
        self._steps = steps
        self._waiting: collections.deque[Any] = collections.deque()

    def reset(self) -> None:
        """Begins an episode."""
        self._waiting.clear()

    def next(self, newest: Any) -> Any:
        """Takes what is new, and returns what is due."""
        if not self._waiting:
            self._waiting.extend([newest] * self._steps)
        self._waiting.append(newest)
        return self._waiting.popleft()


class Fault:
    """Which of some numbers are at fault: with a probability it begins, then it lasts.

    Args:
        prob: The probability, of every number and step.
        steps: How long it lasts.
        size: How many numbers there are.
        rng: Where chance comes from.
    """

    def __init__(self, prob: float, steps: int, size: int, rng: np.random.Generator):
        self._prob, self._steps, self._rng = prob, steps, rng
        self._left = np.zeros(size, int)

    def reset(self) -> None:
        """Begins an episode."""
        self._left[:] = 0

    def next(self) -> np.ndarray:
        """Returns which numbers ``[size]`` are at fault in the next step."""
        begins = self._rng.random(self._left.size) < self._prob
        self._left[begins & (self._left == 0)] = self._steps
        faulty = self._left > 0
        self._left[faulty] -= 1
        return faulty


class Repetition:
    """Performs an action again, instead of what is chosen next.

    Args:
        prob: Probability with which one is repeated.
        steps: How often.
        rng: Where chance comes from.
    """

    def __init__(self, prob: float, steps: int, rng: np.random.Generator):
        self._prob, self._steps, self._rng = prob, steps, rng
        self._left, self._held = 0, np.zeros(0)

    def reset(self) -> None:
        """Begins an episode."""
        self._left = 0

    def next(self, action: np.ndarray) -> np.ndarray:
        """Returns the action to perform instead of the one that was chosen."""
        if self._left:
            self._left -= 1
            return self._held
        if self._rng.random() < self._prob:
            self._left, self._held = self._steps, action
        return action


class Channel:
    """Numbers on their way: noise, then dropped, then stuck ones.

    Args:
        gaussian: Standard deviation of the noise.
        dropped: Probability and steps of numbers that are lost.
        stuck: Probability and steps of numbers that stay what they were.
        parts: Of every entry, the number of the part that it belongs to ``[D]``: entries of a part
            are at fault together.
        noisy: Which entries have noise and can be 0 ``[D]``.
        limit: Noise leads no further than this from 0.
        rngs: Three generators.
    """

    def __init__(
        self,
        gaussian: float,
        dropped: tuple[float, int],
        stuck: tuple[float, int],
        parts: np.ndarray,
        noisy: np.ndarray,
        limit: float,
        rngs: list[np.random.Generator],
    ):
        self._gaussian, self._parts, self._noisy, self._limit = gaussian, parts, noisy, limit
        size = int(parts.max(initial=-1)) + 1
        self._rng = rngs[0]
        self._dropped = Fault(*dropped, size, rngs[1])
        self._stuck = Fault(*stuck, size, rngs[2])
        self._before: np.ndarray | None = None

    def reset(self) -> None:
        """Begins an episode."""
        self._before = None
        self._dropped.reset()
        self._stuck.reset()

    def next(self, numbers: np.ndarray) -> np.ndarray:
        """Returns what arrives of numbers ``[D]``."""
        arrived = numbers.astype(np.float32)
        if self._gaussian:
            noise = self._gaussian * self._rng.standard_normal(numbers.size)
            noisy = np.clip(arrived + noise, -self._limit, self._limit)
            arrived = np.where(self._noisy, noisy, arrived).astype(np.float32)
        arrived[self._dropped.next()[self._parts] & self._noisy] = 0
        stuck = self._stuck.next()[self._parts]
        if self._before is not None:
            arrived[stuck] = self._before[stuck]
        self._before = arrived
        return arrived.copy()


class Challenged:
    """An environment that is reached only in the ways that the options say.

    Noise and faults are for vectors of numbers: images and one-hot choices arrive as they are, but
    late. Discrete actions may be late, stuck or repeated.

    Args:
        env: The environment.
        config: The options.
        seed: Seed of everything that is random here.

    Raises:
        UserError: There is nothing that noise or faults could change.
    """

    def __init__(self, env: Env, config: ChallengeConfig, seed: int):
        self._env, self._config = env, config
        rngs = [np.random.default_rng(one) for one in np.random.SeedSequence([seed, 2]).spawn(8)]
        self._actions = _action_channel(env.action_spec, config, rngs[:3])
        self._repetition = Repetition(
            config.repetition.actions_prob, config.repetition.actions_steps, rngs[3]
        )
        self._keys = _noisy_keys(env.observation_specs, config)
        self._observations = _observation_channel(
            env.observation_specs, self._keys, config, rngs[4:7]
        )
        self._dummies = rngs[7]
        delay = config.delay
        self._late = [Delay(one) for one in (delay.actions, delay.observations, delay.rewards)]
        self.observation_specs = dict(env.observation_specs)
        if config.dimensions:
            if DUMMY in self.observation_specs:
                raise UserError(
                    f"env.challenge.dimensions adds an observation {DUMMY!r}, which this task has "
                    "already; leave it 0"
                )
            self.observation_specs[DUMMY] = ObservationSpec((config.dimensions,), "vector")
            self.observation_specs = dict(sorted(self.observation_specs.items()))

    def reset(self) -> Row:
        """Begins an episode and returns its reset row."""
        for part in (*self._late, self._actions, self._repetition, self._observations):
            part.reset()
        return self._observed(self._env.reset())

    def step(self, action: np.ndarray) -> Row:
        """Takes one flat action ``[A]``; returns the row of what arrives."""
        actions, _, rewards = self._late
        arrived = self._actions.next(actions.next(np.array(action, np.float32)))
        row = self._observed(self._env.step(self._repetition.next(arrived)))
        row["reward"] = rewards.next(row["reward"])
        return row

    def __getattr__(self, name: str) -> Any:
        """Finds everything else at the environment itself."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._env, name)

    def _observed(self, row: Row) -> Row:
        specs = self._env.observation_specs
        if self._keys:
            arrived = self._observations.next(np.concatenate([row[key] for key in self._keys]))
            ends = np.cumsum([specs[key].shape[0] for key in self._keys])[:-1]
            row |= zip(self._keys, np.split(arrived, ends), strict=True)
        seen = {key: row[key] for key in specs if key != MULTIOBJ}
        row |= self._late[1].next(seen)
        if self._config.dimensions:
            row[DUMMY] = self._dummies.standard_normal(self._config.dimensions).astype(np.float32)
        return row


def _noisy_keys(specs: dict[str, ObservationSpec], config: ChallengeConfig) -> list[str]:
    """Returns the observations that noise and faults can change; none where nothing is on."""
    option = _first_on(config, "observations")
    if not option:
        return []
    keys = [
        key
        for key, spec in specs.items()
        if spec.kind == "vector" and not spec.choices and key not in _OWN
    ]
    if not keys:
        raise UserError(
            f"env.challenge.{option} is for vectors, and this task shows none (only images or "
            "choices); leave it 0, or show vectors too (control suite: --env.state true)"
        )
    return keys


def _first_on(config: ChallengeConfig, what: str, *leave: str) -> str:
    """Returns the name of the first noise or fault of observations or actions that is on."""
    probs = {
        f"gaussian.{what}": getattr(config.gaussian, what),
        f"dropped.{what}_prob": getattr(config.dropped, f"{what}_prob"),
        f"stuck.{what}_prob": getattr(config.stuck, f"{what}_prob"),
    }
    return next((name for name, on in probs.items() if on and name not in leave), "")


def _observation_channel(
    specs: dict[str, ObservationSpec],
    keys: list[str],
    config: ChallengeConfig,
    rngs: list[np.random.Generator],
) -> Channel:
    size = sum(specs[key].shape[0] for key in keys)
    return Channel(
        config.gaussian.observations, *_faults(config, "observations"), np.arange(size),
        np.ones(size, bool), np.inf, rngs,
    )  # fmt: skip


def _action_channel(
    spec: ActionSpec, config: ChallengeConfig, rngs: list[np.random.Generator]
) -> Channel:
    parts, noisy = [], []
    for part in spec.parts:
        smooth = part.kind == "continuous"
        first = parts[-1] + 1 if parts else 0
        parts += range(first, first + part.size) if smooth else [first] * part.size
        noisy += [smooth] * part.size
    option = _first_on(config, "actions", "stuck.actions_prob")
    if option and not any(noisy):
        raise UserError(
            f"env.challenge.{option} is for continuous actions, and this task's are choices; leave "
            "it 0 (delay, stuck and repetition are for choices too)"
        )
    return Channel(
        config.gaussian.actions, *_faults(config, "actions"), np.array(parts, int),
        np.array(noisy, bool), 1.0, rngs,
    )  # fmt: skip


def _faults(config: ChallengeConfig, what: str) -> list[tuple[float, int]]:
    def one(fault: FaultConfig) -> tuple[float, int]:
        return getattr(fault, f"{what}_prob"), getattr(fault, f"{what}_steps")

    return [one(config.dropped), one(config.stuck)]
