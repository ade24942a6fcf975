"""From rows to actions: the model's memory, the search in it, and noise while collecting."""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from common.checks import check_choice
from common.distributions import action_noise_size, uniform_noise
from common.distributions.exploration import add_action_noise
from common.spaces import ActionSpec
from common.types import Array, Key, Mode, Params, Rows
from planet.beliefs import in_one_hots
from planet.model import PlannedModel
from planet.planner import Searcher
from planet.search import Plan


class Carry(NamedTuple):
    """What acting remembers of each environment.

    Attributes:
        memory: What the model remembers ``[N, ...]``.
        action: Previous action ``[N, A]``.
        belief: What the last search left, for warm starts.
    """

    memory: Any
    action: Array
    belief: Any


class Controller:
    """Searches for every action in a model; all that it remembers is in the carry."""

    def __init__(
        self,
        model: PlannedModel,
        searcher: Searcher,
        actions: ActionSpec,
        exploration_noise: float = 0.0,
        explore: bool = False,
    ):
        """Joins a model and a search.

        Args:
            model: Its ``memory`` and ``start`` apply.
            searcher: Finds an action from what ``model.start`` returns.
            actions: The flat action vector.
            exploration_noise: As of ``planet.config.Config``; in mode "train" only.
            explore: As of ``PlannerConfig``; in mode "train" only.
        """
        self._model, self._searcher = model, searcher
        self._actions, self._noise, self._explore = actions, exploration_noise, explore

    def initial_carry(self, num_envs: int) -> Carry:
        """Returns the memory before the first row."""
        action = jnp.zeros((num_envs, self._actions.size))
        memory = self._model.memory.initial(num_envs)
        return Carry(memory, action, self._searcher.initial(num_envs))

    def act(
        self, params: Params, key: Key, carry: Carry, observation: Rows, mode: Mode
    ) -> tuple[Array, Carry]:
        """Chooses actions; see ``common.agent.Agent``."""
        check_choice("mode", mode, Mode)
        memory, is_first = self._model.memory, observation["is_first"]
        chex.assert_shape(is_first, carry.action.shape[:1])
        keys = jax.random.split(key, memory.draws + 2)
        own, search, explore = keys[: memory.draws], keys[-2], keys[-1]
        previous = jnp.where(is_first[:, None], 0, carry.action)
        rows = {**observation, "action": previous}
        remembered = memory.remember(params, own, carry.memory, rows)
        start = self._model.start(params, own, remembered)
        plan = self._searcher.search(params, search, start, carry.belief, is_first)
        action = self._disturb(explore, plan) if mode == "train" else plan.action
        return action, Carry(remembered, action, plan.belief)

    def _disturb(self, key: Key, plan: Plan) -> Array:
        action = plan.action
        if self._noise:
            uniforms = uniform_noise(key, (len(action), action_noise_size(self._actions)))
            action = add_action_noise(action, uniforms, self._noise, self._actions)
        if not self._explore:
            return action
        moved = deviate(plan, jax.random.normal(jax.random.fold_in(key, 1), action.shape))
        return jnp.where(in_one_hots(self._actions), action, moved)


def deviate(plan: Plan, noise: Array) -> Array:
    """Returns the plan's action, moved by normal noise ``[N, A]`` of the plan's deviations."""
    return jnp.clip(plan.action + plan.belief.std[:, 0] * noise, -1, 1)
