"""How the small actor acts, in the place of the learner, which only says what states are worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from common.agent import NORMALISERS, SMALL_ACTOR, NoiseSpec, Reactive
from common.checks import check_choice
from common.distributions import Joint, action_noise_size, uniform_noise
from common.distributions.exploration import add_action_noise
from common.dynamics.base import State
from common.errors import UserError
from common.model.world_model import WorldModel
from common.types import Array, Key, Mode, Params, Rows
from dreamer.acting import Acting
from dreamer.config import Config
from dreamer.distillation.distiller import Distiller
from dreamer.distillation.network import SmallMemory

_ONLY_LEARNS = ("decoder", "reward", "discount")
"""Parts of a world model that acting does without."""


def acting_amount(params: Params) -> int:
    """Returns how many of an agent's parameters acting needs.

    Args:
        params: As ``Agent.params`` returns them; with those of a small actor, that acts alone.
    """
    needed = params.get(SMALL_ACTOR)
    if needed is None:
        world = params["world_model"].items()
        needed = {name: part for name, part in world if name not in _ONLY_LEARNS}, params["actor"]
    return sum(jnp.size(x) for x in jax.tree.leaves(needed))


class SmallActing:
    """Acts with the parameters of the small actor alone.

    Attributes:
        policy: That of latent states, the learner's.
        specs: As of ``Acting``.
    """

    def __init__(self, distiller: Distiller, model: WorldModel, learner: Acting, config: Config):
        """Keeps the parts.

        Args:
            distiller: Has the small actor, and says what the replay keeps of it.
            model: The learner's world model.
            learner: Values the latent states of the learner.
            config: How evaluated policies act, and the noise of those that collect.
        """
        self._functions, self._distiller = distiller.functions, distiller
        self._model, self._actions, self._learner = model, model.actions, learner
        self.policy, self.specs = learner.policy, distiller.specs
        self._noise, self._evaluate = config.behavior.exploration_noise, config.actor.evaluate

    def initial_carry(self, num_envs: int) -> SmallMemory:
        """Returns the memory before the first row."""
        return SmallMemory(
            self._functions.initial(num_envs), jnp.zeros((num_envs, self._actions.size))
        )

    def act(
        self, params: Params, key: Key, carry: SmallMemory, observation: Rows, mode: Mode
    ) -> tuple[Array, SmallMemory]:
        """Chooses actions; see ``common.agent.Agent``."""
        check_choice("mode", mode, Mode)
        hidden, policy = self._see(params, carry, observation)
        if mode == "eval" and self._evaluate == "mode":
            return (action := policy.mode()), SmallMemory(hidden, action)
        keys = jax.random.split(key)
        shape = carry.action.shape[0], action_noise_size(self._actions)
        action = policy.sample(uniform_noise(keys[0], shape))
        if self._noise and mode != "eval":
            noise = uniform_noise(keys[1], shape)
            action = add_action_noise(action, noise, self._noise, self._actions)
        return action, SmallMemory(hidden, action)

    def reactive(self) -> Reactive:
        """Returns how it acts when it is evaluated."""
        draws = self._evaluate == "sample"
        uniforms = NoiseSpec("uniform", (action_noise_size(self._actions),))

        def act(
            params: Params, noise: Mapping[str, Array], carry: SmallMemory, observation: Rows
        ) -> tuple[Array, SmallMemory]:
            hidden, policy = self._see(params, carry, observation)
            action = policy.sample(noise["action"]) if draws else policy.mode()
            return action, SmallMemory(hidden, action)

        return Reactive({"action": uniforms} if draws else {}, self.initial_carry, act)

    def _see(self, params: Params, carry: SmallMemory, observation: Rows) -> tuple[Array, Joint]:
        """Returns what is remembered with the newest rows, and the policy."""
        small, statistics = params[SMALL_ACTOR], params.get(NORMALISERS, {}).get("vectors")
        rows = {**observation, "action": carry.action}
        hidden = self._functions.step(small, statistics, carry.hidden, rows)
        return hidden, self._functions.policy(small, hidden)

    def inferred(self, carry: SmallMemory) -> State:
        """Returns the empty latent states ``[N]``: nobody has inferred any."""
        return self._model.initial(carry.hidden.shape[0])

    def keep(self, carry: SmallMemory) -> Rows:
        """Returns what the replay keeps of the newest rows; see ``Acting.keep``."""
        return self._distiller.pack(carry.hidden)

    def value(self, params: Params, state: Any) -> Array:
        """Returns what the small actor expects of what it remembers ``[N]``, or the learner's
        critic of latent states ``[...]``.

        Raises:
            UserError: The state is latent, and the parameters are those of the small actor alone.
        """
        if isinstance(state, SmallMemory):
            return self._functions.value(params[SMALL_ACTOR], state.hidden).mean()
        if "critic" not in params:
            raise UserError(
                "this export holds a small actor alone, which knows no latent states; give an "
                "observation, or the carry that act returned"
            )
        return self._learner.value(params, state)
