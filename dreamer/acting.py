"""How Dreamer acts: it infers the latent state, and the actor answers to it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from common.agent import NORMALISERS
from common.checks import check_choice
from common.distributions import action_noise_size, uniform_noise
from common.distributions.exploration import add_action_noise
from common.errors import UserError
from common.learning.normalize import natural
from common.model.memory import LatentMemory, empty_memory, infer_state
from common.model.world_model import WorldModel
from common.types import Array, Key, Mode, Params, Rows
from dreamer.config import BehaviorConfig
from dreamer.networks import Networks


class ActNoise(NamedTuple):
    """All random numbers of one step of acting.

    Attributes:
        latent: For the latents ``[N, ...]``.
        action: For the actions, uniforms ``[N, ...]``.
        exploration: For the exploration noise, uniforms ``[N, ...]``.
    """

    latent: Array
    action: Array
    exploration: Array


class Acting:
    """Acts with the parameters of "world_model" and "actor", and values by the "critic"."""

    def __init__(
        self, model: WorldModel, networks: Networks, behavior: BehaviorConfig, evaluate: str
    ):
        """Keeps the parts.

        Args:
            model: The world model.
            networks: Actor and critic.
            behavior: Whose exploration noise and normalisation of values count here.
            evaluate: What the policy does when it is evaluated, "mode" or "sample".
        """
        self._model, self._networks = model, networks
        self._exploration_noise = behavior.exploration_noise
        self._value_norm, self._evaluate = behavior.value_norm, evaluate

    def initial_carry(self, num_envs: int) -> LatentMemory:
        """Returns the memory before the first row."""
        return empty_memory(self._model, num_envs)

    def act(
        self, params: Params, key: Key, carry: LatentMemory, observation: Rows, mode: Mode
    ) -> tuple[Array, LatentMemory]:
        """Chooses actions; see ``common.agent.Agent``."""
        keys = jax.random.split(key, 3)
        amount = carry.action.shape[0]
        shape = amount, action_noise_size(self._model.actions)
        noise = ActNoise(
            self._model.draw_noise(keys[0], (amount,)),
            uniform_noise(keys[1], shape),
            uniform_noise(keys[2], shape),
        )
        return self.act_with_noise(params, noise, carry, observation, mode)

    def act_with_noise(
        self, params: Params, noise: ActNoise, carry: LatentMemory, observation: Rows, mode: Mode
    ) -> tuple[Array, LatentMemory]:
        """Chooses actions with given random numbers."""
        check_choice("mode", mode, Mode)
        model, world = self._model, params["world_model"]
        statistics = params.get(NORMALISERS, {}).get("vectors")
        state = infer_state(model, world, statistics, noise.latent, carry, observation)
        policy = self._networks.policy(params["actor"], model.feature(world, state))
        if mode == "eval" and self._evaluate == "mode":
            action = policy.mode()
        else:
            action = policy.sample(noise.action)
            if self._exploration_noise and mode != "eval":
                action = add_action_noise(
                    action, noise.exploration, self._exploration_noise, model.actions
                )
        return action, LatentMemory(state, action)

    def policy(self, params: Params, key: Key, states: Any) -> Array:
        """Draws actions ``[M, A]`` of the policy in latent states ``[M]``."""
        feature = self._model.feature(params["world_model"], states)
        noise = uniform_noise(key, (feature.shape[0], action_noise_size(self._model.actions)))
        return self._networks.policy(params["actor"], feature).sample(noise)

    def value(self, params: Params, state: Any) -> Array:
        """Returns the critic's mean ``[...]``; see ``common.agent.Agent``.

        Raises:
            UserError: The parameters hold no critic, as exports of version 0.1.
        """
        if "critic" not in params:
            raise UserError(
                "this export has no critic, because version 0.1 wrote it; go on with its run, "
                "which writes a new one at the next checkpoint"
            )
        state = state.state if isinstance(state, LatentMemory) else state
        feature = self._model.feature(params["world_model"], state)
        value = self._networks.value(params["critic"], feature).mean()
        return natural(value, params.get(NORMALISERS, {}).get("value"), self._value_norm)
