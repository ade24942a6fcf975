"""How Dreamer acts: it infers the latent state, and the actor answers to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from common.agent import EXPLORER, NORMALISERS, NoiseSpec, Reactive
from common.checks import check_choice
from common.distributions import action_noise_size, uniform_noise
from common.distributions.exploration import add_action_noise
from common.dynamics.base import State
from common.errors import UserError
from common.learning.normalize import natural
from common.model.memory import LatentMemory, empty_memory, infer_state
from common.model.world_model import WorldModel
from common.rows import EXPLORES, Specs
from common.types import Array, Key, Mode, Params, Rows
from dreamer.config import BehaviorConfig
from dreamer.exploration.memory import BONUS, NOTES, EpisodicMemory
from dreamer.exploration.remembering import Remembering
from dreamer.networks import Networks


class ActNoise(NamedTuple):
    """All random numbers of one step of acting.

    Attributes:
        latent: For the latents ``[N, ...]``; None for the likeliest ones.
        action: For the actions, uniforms ``[N, ...]``; None where none is drawn.
        exploration: For the exploration noise, uniforms ``[N, ...]``; None where there is none.
        replacement: For the episodic memory, uniforms ``[N]``; None without one.
    """

    latent: Array | None
    action: Array | None = None
    exploration: Array | None = None
    replacement: Array | None = None


class CuriousMemory(NamedTuple):
    """As ``LatentMemory``, with what the running episodes have shown."""

    state: State
    action: Array
    episodes: EpisodicMemory


class Acting:
    """Acts with the parameters of "world_model" and "actor", and values by the "critic".

    While it collects, the actor is that of the "explorer", where there are parameters of one.

    Attributes:
        specs: What the replay keeps of a carry beside the latent states.
    """

    def __init__(
        self,
        model: WorldModel,
        networks: Networks,
        behavior: BehaviorConfig,
        evaluate: str,
        remembering: Remembering | None = None,
    ):
        """Keeps the parts.

        Args:
            model: The world model.
            networks: Actor and critic.
            behavior: Whose exploration noise and normalisation of values count here.
            evaluate: What the policy does when it is evaluated, "mode" or "sample".
            remembering: How episodic curiosity remembers; None without it.
        """
        self._model, self._networks = model, networks
        self._behavior, self._evaluate = behavior, evaluate
        self._remembering = remembering
        self.specs: Specs = NOTES if remembering else {}

    def initial_carry(self, num_envs: int) -> LatentMemory | CuriousMemory:
        """Returns the memory before the first row."""
        empty = empty_memory(self._model, num_envs)
        if self._remembering is None:
            return empty
        return CuriousMemory(*empty, self._remembering.initial(num_envs))

    def act(
        self, params: Params, key: Key, carry: Any, observation: Rows, mode: Mode
    ) -> tuple[Array, Any]:
        """Chooses actions; see ``common.agent.Agent``."""
        keys = jax.random.split(key, 3)
        amount = carry.action.shape[0]
        shape = amount, action_noise_size(self._model.actions)
        noise = ActNoise(
            self._model.draw_noise(keys[0], (amount,)),
            uniform_noise(keys[1], shape),
            uniform_noise(keys[2], shape),
            uniform_noise(jax.random.fold_in(key, 3), (amount,)) if self._remembering else None,
        )
        return self.act_with_noise(params, noise, carry, observation, mode)

    def act_with_noise(
        self, params: Params, noise: ActNoise, carry: Any, observation: Rows, mode: Mode
    ) -> tuple[Array, Any]:
        """Chooses actions with given random numbers."""
        check_choice("mode", mode, Mode)
        model, world = self._model, params["world_model"]
        statistics = params.get(NORMALISERS, {}).get("vectors")
        memory = LatentMemory(carry.state, carry.action)
        state = infer_state(model, world, statistics, noise.latent, memory, observation)
        feature = model.feature(world, state)
        policy = self._networks.policy(params["actor"], feature)
        explorer = params.get(EXPLORER) if mode == "train" else None
        if mode == "eval" and self._evaluate == "mode":
            action = policy.mode()
        else:
            action = policy.sample(noise.action)
            if explorer is not None:
                other = self._networks.policy(explorer["actor"], feature).sample(noise.action)
                explores = observation.get(EXPLORES, jnp.ones(len(other), bool))
                action = jnp.where(explores[:, None], other, action)
            if self._behavior.exploration_noise and mode != "eval":
                action = add_action_noise(
                    action, noise.exploration, self._behavior.exploration_noise, model.actions
                )
        if self._remembering is None:
            return action, LatentMemory(state, action)
        episodes = carry.episodes
        if explorer is not None:
            episodes = self._remembering.remember(
                explorer, world, statistics, episodes, {**observation, "action": carry.action},
                noise.replacement,
            )  # fmt: skip
        return action, CuriousMemory(state, action, episodes)

    def reactive(self) -> Reactive:
        """Returns how it acts when it is evaluated; episodes that it remembers are left out."""
        noise = {"latent": self._model.latent_noise}
        if self._evaluate == "sample":
            shape = (action_noise_size(self._model.actions),)
            noise["action"] = NoiseSpec("uniform", shape)
        alone = Acting(self._model, self._networks, self._behavior, self._evaluate)

        def act(
            params: Params, noise: Mapping[str, Array], carry: LatentMemory, observation: Rows
        ) -> tuple[Array, LatentMemory]:
            drawn = ActNoise(noise.get("latent"), noise.get("action"))
            return alone.act_with_noise(params, drawn, carry, observation, "eval")

        return Reactive(noise, alone.initial_carry, act)

    def inferred(self, carry: Any) -> State:
        """Returns the latent states that were inferred of the newest rows ``[N]``."""
        return carry.state

    def keep(self, carry: Any) -> Rows:
        """Returns what the replay keeps of the newest rows, the arrays of ``specs`` ``[N, D]``."""
        return {BONUS: carry.episodes.note} if self._remembering else {}

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
        state = state.state if isinstance(state, LatentMemory | CuriousMemory) else state
        feature = self._model.feature(params["world_model"], state)
        value = self._networks.value(params["critic"], feature).mean()
        return natural(value, params.get(NORMALISERS, {}).get("value"), self._behavior.value_norm)
