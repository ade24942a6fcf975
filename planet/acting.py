"""From a model to an action: the search, and the noise that is added while collecting."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from common.distributions import action_noise_size, uniform_noise
from common.distributions.exploration import add_action_noise
from common.spaces import ActionSpec
from common.types import Array, Key, Mode, Params
from planet.candidates import Belief, Rollout, initial_belief
from planet.config import Config
from planet.planner import first_belief, make_planner


class Actor:
    """Plans in any model; remembers nothing itself."""

    def __init__(self, config: Config, actions: ActionSpec, rollout: Rollout):
        """Builds the planner.

        Args:
            config: Its ``planner`` and ``exploration_noise`` apply.
            actions: The flat action vector.
            rollout: The model.

        Raises:
            UserError: An option of the planner with an impossible value.
        """
        self._config, self._actions, self._rollout = config, actions, rollout
        self._plan = make_planner(config.planner, actions)

    def initial_belief(self, num_envs: int) -> Belief:
        """Returns what is left of a search before the first one ``[N, H, A]``."""
        return initial_belief(self._actions, num_envs, self._config.planner.horizon)

    def act(
        self,
        params: Params,
        keys: tuple[Key, Key],
        start: Any,
        belief: Belief,
        is_first: Array,
        mode: Mode,
    ) -> tuple[Array, Belief]:
        """Searches for the next action.

        Args:
            params: Of the model.
            keys: For the search and for the noise.
            start: What the model plans from ``[N, ...]``.
            belief: What the last search left.
            is_first: Where an episode begins ``[N]``.
            mode: "train" adds noise to the action.

        Returns:
            Actions ``[N, A]``, and what is left of the search.
        """
        config, actions = self._config, self._actions
        belief = first_belief(config.planner, actions, belief, is_first)
        plan = self._plan(self._rollout, params, keys[0], start, belief=belief)
        action = plan.action
        if mode == "train" and config.exploration_noise:
            amount = jnp.shape(is_first)[0]
            uniforms = uniform_noise(keys[1], (amount, action_noise_size(actions)))
            action = add_action_noise(action, uniforms, config.exploration_noise, actions)
        return action, plan.belief
