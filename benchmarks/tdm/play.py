"""Plays episodes by planning in a learned model, or with a cloned policy."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np

from benchmarks.tdm.contenders import Contender, Fitted
from common.envs.base import Envs
from common.envs.config import EnvConfig
from common.run.driver import NumpyRows
from common.run.evaluation import play
from common.spaces import ActionSpec
from common.tokens.steps import Steps, pad
from common.types import Array, Key
from planet.candidates import Belief, initial_belief
from planet.config import PlannerConfig
from planet.planner import first_belief, make_planner

Act = Callable[[Fitted, Key, Steps, Belief | None], tuple[Array, Belief | None]]
"""(fitted, key, past [N, T], belief) -> actions [N, A] and the next belief."""


class Past:
    """The last rows of some environments, oldest first.

    Where an episode is shorter, its first rows are repeated in front, each marked as the first
    of an episode, so that models take them for none of its past.
    """

    def __init__(self, length: int, observation_size: int, action_size: int):
        """Remembers nothing yet.

        Args:
            length: Rows to keep, T.
            observation_size: Observation entries of the model.
            action_size: Action entries of the model.
        """
        self._length, self._sizes = length, (observation_size, action_size)
        self._steps: Steps | None = None

    def add(self, rows: NumpyRows, action: np.ndarray) -> Steps:
        """Takes the newest rows ``[N, ...]``; returns the past ``[N, T]``.

        Args:
            rows: What the environments returned.
            action: What led to them ``[N, A]``; ignored in first rows.
        """
        kept = np.where(rows["is_first"][:, None], 0, action).astype(np.float32)
        names = [name for name in rows if "/" not in name]
        now = {name: rows[name][:, None] for name in names} | {"action": kept[:, None]}
        newest = jax.tree.map(np.asarray, pad(now, *self._sizes))
        if self._steps is None:
            old = [np.repeat(x, self._length, 1) for x in newest[:4]]
            old[3] = np.ones_like(old[3])
        else:
            old = self._steps[:4]
        shifted = [np.concatenate([x[:, 1:], y], 1) for x, y in zip(old, newest[:4], strict=True)]
        self._steps = Steps(*shifted, *newest[4:])
        return self._steps


class PastPolicy:
    """Acts on the last rows of each environment."""

    def __init__(
        self, act: Act, fitted: Fitted, past: Past, belief: Belief | None, size: int, seed: int
    ):
        """Starts with an empty past.

        Args:
            act: Compiled.
            fitted: Its parameters.
            past: Rows that it sees.
            belief: What its first call is given.
            size: Action entries of the body.
            seed: Seed of the draws.
        """
        self._act, self._fitted, self._past, self._belief = act, fitted, past, belief
        self._key, self._action, self._size = jax.random.key(seed), None, size

    def __call__(self, rows: NumpyRows) -> np.ndarray:
        """Chooses actions ``[N, A]``."""
        if self._action is None:
            self._action = np.zeros((len(rows["is_first"]), self._size), np.float32)
        steps = self._past.add(rows, self._action)
        self._key, now = jax.random.split(self._key)
        action, self._belief = self._act(self._fitted, now, steps, self._belief)
        self._action = np.asarray(action)[:, : self._size]
        return self._action


@functools.lru_cache(maxsize=32)
def planning(contender: Contender, planner: PlannerConfig, actions: ActionSpec) -> Act:
    """Returns planning in a model as one compiled function."""
    plan = make_planner(planner, actions)

    @jax.jit
    def act(fitted: Fitted, key: Key, steps: Steps, belief: Belief) -> tuple[Array, Belief]:
        keys = jax.random.split(key)
        start = contender.start(fitted, keys[0], steps)
        first = first_belief(planner, actions, belief, steps.is_first[:, -1])
        chosen = plan(contender.rollout, fitted, keys[1], start, belief=first)
        return chosen.action, chosen.belief

    return act


@functools.lru_cache(maxsize=32)
def cloning(act: Callable[[Fitted, Key, Steps], Array]) -> Act:
    """Returns a cloned policy as one compiled function."""
    compiled = jax.jit(act)
    return lambda fitted, key, steps, belief: (compiled(fitted, key, steps), belief)


def returns(
    task: str,
    env: EnvConfig,
    episodes: int,
    seed: int,
    make_act: Callable[[ActionSpec], Act],
    fitted: Fitted,
    context: int,
    sizes: Sequence[int],
    planner: PlannerConfig | None = None,
) -> np.ndarray:
    """Plays episodes side by side, so that all are planned for in one call.

    Args:
        task: Task of the environments.
        env: How they are built.
        episodes: Episodes, E.
        seed: Of environments and draws.
        make_act: Returns the compiled function for the actions of the body.
        fitted: Its parameters.
        context: Rows that it sees.
        sizes: Observation and action entries of the model.
        planner: Gives the size of the first belief; None where nothing is planned.

    Returns:
        The return of each episode ``[E]``.
    """

    def policy(envs: Envs) -> PastPolicy:
        actions = envs.action_spec
        belief = planner and initial_belief(actions, envs.num_envs, planner.horizon)
        past = Past(context, *sizes)
        return PastPolicy(make_act(actions), fitted, past, belief, actions.size, seed)

    return play(task, env, episodes, seed, policy).tasks[task].returns
