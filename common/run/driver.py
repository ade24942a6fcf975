"""Steps environments with a policy and turns what comes back into rows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from common.agent import Agent
from common.envs.base import Envs
from common.errors import UserError, warn_once
from common.rows import LOG_PREFIX, without_log
from common.run.clocks import announced
from common.spaces import ActionSpec
from common.types import Mode, Params, Rows

NumpyRows = dict[str, np.ndarray]

LONGEST = 27_000
"""Agent steps after which an episode without a known limit counts as one that never ends; as
many as the longest of an Atari game."""


class Policy(Protocol):
    """Chooses actions; remembers what it needs for each environment."""

    def __call__(self, rows: NumpyRows) -> np.ndarray:
        """Returns actions ``[N, A]`` for rows ``[N, ...]``."""


class RandomPolicy:
    """Draws uniform random actions."""

    def __init__(self, actions: ActionSpec, seed: int):
        """Seeds the draws."""
        self._actions = actions
        self._rng = np.random.default_rng(seed)

    def __call__(self, rows: NumpyRows) -> np.ndarray:
        """Ignores the observation, not the number of environments."""
        return self._actions.sample(self._rng, len(rows["is_first"]))


class ActFunction:
    """An agent's ``act``, compiled once for each mode and number of environments."""

    def __init__(self, agent: Agent, announce: bool = False):
        """Wraps ``agent.act`` so that splitting the key costs no call of its own.

        Args:
            agent: The agent.
            announce: Whether to print that it compiles.
        """
        self.agent = agent
        self._announce = announce
        self._compiled: set[tuple[Mode, int]] = set()

        def act(params: Params, key: Any, carry: Any, rows: Any, mode: Mode) -> tuple:
            key, now = jax.random.split(key)
            action, carry = agent.act(params, now, carry, rows, mode)
            return key, action, carry

        self._act = jax.jit(act, static_argnames="mode")

    @functools.cached_property
    def pack(self) -> Callable[[Any], Rows]:
        """Turns a carry into what the replay keeps of it, of an agent that says how."""
        return jax.jit(self.agent.latents.pack)

    def __call__(self, params: Params, key: Any, carry: Any, rows: Any, mode: Mode) -> tuple:
        """Returns ``(next key, action [N, A], carry)``."""
        kind = mode, len(rows["is_first"])
        if kind in self._compiled or not self._announce:
            return self._act(params, key, carry, rows, mode)
        self._compiled.add(kind)
        with announced(f"compiling the policy ({mode}, {kind[1]} environment(s))"):
            return jax.block_until_ready(self._act(params, key, carry, rows, mode))


class AgentPolicy:
    """An agent that acts: parameters, random key and memory of each environment."""

    def __init__(self, act: ActFunction, params: Params, num_envs: int, seed: int, mode: Mode):
        """Starts with empty memory.

        Args:
            act: The compiled acting function.
            params: What ``agent.params`` returned; may be replaced between steps.
            num_envs: Environments that will be acted in.
            seed: Seed of the draws.
            mode: "train" explores, "eval" does what the agent does when it is evaluated.
        """
        self.params = params
        self.key = jax.random.key(seed)
        self._act = act
        self._mode = mode
        self._carry = act.agent.initial_carry(num_envs)

    def __call__(self, rows: NumpyRows) -> np.ndarray:
        """Acts on the newest rows."""
        self.key, action, self._carry = self._act(
            self.params, self.key, self._carry, without_log(rows), mode=self._mode
        )
        return np.asarray(action)

    @property
    def latents(self) -> NumpyRows:
        """What the replay keeps of the latent states of the newest rows, by name ``[N, ...]``."""
        return jax.device_get(self._act.pack(self._carry))


class Episode(NamedTuple):
    """A finished episode.

    Attributes:
        env: Number of the environment.
        episode_return: Undiscounted sum of raw rewards.
        length: Agent steps.
        extras: Sums of the environment's own ``log/`` entries, those that it had.
    """

    env: int
    episode_return: float
    length: int
    extras: dict[str, float]


class EpisodeMeter:
    """Adds up rewards and steps of each environment until its episode ends."""

    def __init__(self, num_envs: int):
        """Starts with empty sums."""
        self._sums: list[dict[str, float]] = [{} for _ in range(num_envs)]
        self.lengths = np.zeros(num_envs, np.int64)
        """Agent steps of the running episodes ``[N]``."""

    def add(self, rows: Mapping[str, np.ndarray]) -> list[Episode]:
        """Takes one row of each environment; returns the episodes that ended with it."""
        done = []
        watched = ["reward", *(key for key in rows if key.startswith(LOG_PREFIX))]
        for env, first in enumerate(rows["is_first"]):
            if first:
                self._sums[env], self.lengths[env] = {}, 0
            else:
                self.lengths[env] += 1
            sums = self._sums[env]
            for key in watched:
                if not np.isnan(rows[key][env]):
                    sums[key] = sums.get(key, 0.0) + float(rows[key][env])
            if rows["is_last"][env]:
                done.append(self.so_far(env))
        return done

    def so_far(self, env: int) -> Episode:
        """Returns the newest episode of an environment, over or not."""
        extras = {key: value for key, value in self._sums[env].items() if key != "reward"}
        return Episode(env, self._sums[env]["reward"], int(self.lengths[env]), extras)


class Driver:
    """Alternates between a policy and the environments.

    ``act`` sends actions and returns at once; ``receive`` waits for the rows. What the
    caller does between the two overlaps with the environments' work.
    """

    def __init__(self, envs: Envs):
        """Takes over the environments; the first rows are those of a reset."""
        self._envs = envs
        self._action = np.zeros((envs.num_envs, envs.action_spec.size), np.float32)
        self._rows: NumpyRows | None = None
        self.meter = EpisodeMeter(envs.num_envs)
        """Of the episodes that are running."""
        self.episodes: list[Episode] = []
        """Episodes that ended with the newest rows."""
        self.overdue = np.zeros(0, np.int64)
        """Environments whose episode is as long as the longest, and goes on."""

    def act(self, policy: Policy | None) -> None:
        """Sends the policy's actions; before the first rows there is nothing to choose.

        Raises:
            UserError: The actions are not finite.
        """
        if self._rows is not None and policy is not None:
            self._action = policy(self._rows)
        try:
            self._envs.step_async(self._action)
        except FloatingPointError as error:
            raise UserError(f"{error}: learning diverged; lower the learning rates") from error

    def receive(self) -> NumpyRows:
        """Waits for the rows ``[N, ...]``; ``action`` is the one that led to each of them."""
        rows = self._envs.step_wait()
        self._rows = rows
        self.episodes = self.meter.add(rows)
        longest = self._envs.max_steps or LONGEST
        self.overdue = np.flatnonzero((self.meter.lengths >= longest) & ~rows["is_last"])
        if self.overdue.size:
            warn_once(
                f"an episode has gone on for {longest:,} agent steps; if episodes do not end by "
                "themselves, set --env.time_limit (in simulator steps); evaluations cut them there"
            )
        kept = ~rows["is_first"][:, None]
        return {**rows, "action": self._action * kept}
