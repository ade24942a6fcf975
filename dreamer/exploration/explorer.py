"""An actor and a critic more, which learn to find what is new, beside those of the task.

They are trained on the same world model and from the same replayed states, on the reward

    r = scale · r_intrinsic + task_scale · r_task

and act while experience is collected. The task's actor and critic learn in the same updates from
what they find, and are evaluated: how well they do without ever having acted is the zero-shot
evaluation of Plan2Explore (arXiv:2005.05960).

A value counts what comes after a state, also where the task's includes the state's own reward: no
imagined action led to a replayed state, so that its intrinsic reward is not known (as ``R`` in
``dreamer.losses``), nor does the magnitude that rewards are divided by count it. Nothing here takes
a gradient with respect to the world model or the task's networks, and nothing of theirs changes by
it.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from common.distributions import action_noise_size, uniform_noise
from common.dynamics.base import State
from common.learning.optimizers import make_optimizer
from common.model.imagine import Trajectory
from common.model.losses import Losses
from common.model.world_model import WorldModel
from common.types import Array, Key, Params, Rows
from dreamer import behavior as imagination
from dreamer.behavior import Behavior
from dreamer.config import BehaviorConfig, Config, ReplayValueConfig
from dreamer.exploration.disagreement import make_disagreement
from dreamer.exploration.intrinsic import Intrinsic, find_sizes, look
from dreamer.exploration.reachability import Comparator, make_comparator, make_curiosity
from dreamer.exploration.stream import make_stream, surprise_stream
from dreamer.learn import TrainState, learn_behavior, learn_part
from dreamer.networks import Networks

INTRINSIC = "intrinsic"
"""Name of what the reward learns among the explorer's parameters."""


class ExplorerNoise(NamedTuple):
    """All random numbers of one update.

    Attributes:
        imagination: As of the task's behaviour.
        intrinsic: Of the reward's own loss; None where it draws nothing.
    """

    imagination: imagination.Noise
    intrinsic: Array | None


class Explorer:
    """The parts of exploration bound to one configuration.

    Attributes:
        intrinsic: The reward.
        behavior: The losses of actor and critic.
        comparator: The network of episodic curiosity; None with other methods.
        embed: Entries of what the encoder makes of an observation, E.
        optimizers: Of "actor", "critic" and what the reward learns.
    """

    def __init__(self, model: WorldModel, networks: Networks, config: Config):
        """Builds them.

        Args:
            model: The world model.
            networks: Actor and critic, of which it has parameters of its own.
            config: Method, weights, behaviour and optimizers.

        Raises:
            UserError: An option with an impossible value.
        """
        self._model, self._networks, self._options = model, networks, config.exploration
        self._config = own_behavior(config)
        self.behavior = Behavior(
            model, networks, self._config, self.reward, config.constraint, starts_count=False
        )
        sizes = find_sizes(model)
        self.embed, precision = sizes.embed, model.config.precision
        self.comparator: Comparator | None = None
        options = self._options
        if options.method == "plan2explore":
            self.intrinsic: Intrinsic = make_disagreement(options.ensemble, sizes, precision)
        elif options.method == "surprise":
            stream = surprise_stream(model, options.surprise)
            self.intrinsic = make_stream(options.head, sizes, precision, stream)
        else:
            self.comparator = make_comparator(options.curiosity, sizes.embed, precision)
            self.intrinsic = make_curiosity(options, sizes, precision, self.comparator)
        # Of a joint optimizer's rates, some are of parameters that are not here.
        joint = dataclasses.replace(config.model_opt, rates={})
        actor, critic = (joint,) * 2 if config.joint else (config.actor_opt, config.critic_opt)
        each = {"actor": actor, "critic": critic, INTRINSIC: options.opt}
        self.optimizers = {name: make_optimizer(one) for name, one in each.items()}

    def init(self, key: Key, feature: Array) -> tuple[Params, Any, Any]:
        """Draws all weights; returns parameters, optimizer states and normalisers.

        Args:
            key: For the weights.
            feature: Any feature ``[1, D]``, for its size.
        """
        keys = jax.random.split(key)
        params = self._networks.init(keys[0], feature)
        params[INTRINSIC] = self.intrinsic.init(keys[1])
        if self._config.slow_initial_copy:
            params["slow_critic"] = jax.tree.map(jnp.copy, params["critic"])
        optimizers = {name: opt.init(params[name]) for name, opt in self.optimizers.items()}
        return params, optimizers, self.behavior.initial_normalisers()

    def draw_noise(self, key: Key, shape: tuple[int, int], starts: int) -> ExplorerNoise:
        """Draws the random numbers of one update.

        Args:
            key: For all of them.
            shape: Of the batch, ``(B, T)``.
            starts: Start states of the imagination, N.
        """
        keys = jax.random.split(key, 3)
        steps = self._config.horizon, starts
        actions = uniform_noise(keys[1], (*steps, action_noise_size(self._model.actions)))
        imagined = imagination.Noise(self._model.draw_noise(keys[0], steps), actions)
        return ExplorerNoise(imagined, self.intrinsic.draw_noise(keys[2], shape))

    def acting_params(self, params: Params) -> Params:
        """Returns what acting needs of its parameters."""
        needed = ("actor", INTRINSIC) if self.comparator else ("actor",)
        return {name: params[name] for name in needed}

    def reward(self, params: Params, trajectory: Trajectory) -> Array:
        """Returns the reward of imagined states ``[H + 1, N]``.

        Args:
            params: Of the "world_model", and its own.
            trajectory: What was imagined.
        """
        options = self._options
        reward = options.scale * self.intrinsic.reward(params[INTRINSIC], trajectory)
        if options.task_scale:
            task = self._model.reward(params["world_model"], trajectory.features)
            reward += options.task_scale * task.mean()
        return reward

    def update(
        self,
        state: TrainState,
        world: Params,
        noise: ExplorerNoise,
        batch: Rows,
        losses: Losses,
        start: State,
        is_terminal: Array,
    ) -> tuple[TrainState, dict[str, Array]]:
        """Takes a gradient step of the reward's own parameters, then of actor and critic.

        Args:
            state: Of the explorer alone, with the updates before this one.
            world: Parameters of the world model, as the task's behaviour imagined with them.
            noise: Random numbers.
            batch: Replayed rows ``[B, T, ...]``.
            losses: Of the world model on them.
            start: Start states ``[N]``.
            is_terminal: Whether the start states are terminal ``[N]``.
        """
        start = jax.lax.stop_gradient(start)
        grads, learned = jax.grad(self.intrinsic.loss, has_aux=True)(
            state.params[INTRINSIC],
            noise.intrinsic,
            look(self._model, world, batch, losses),
        )
        state, stepped = learn_part(self.optimizers, state, INTRINSIC, grads)
        state = state._replace(params=state.params | {"world_model": world})
        state, imagined = learn_behavior(
            self.behavior, self.optimizers, self._config, state,
            noise.imagination, start, is_terminal,
        )  # fmt: skip
        own = {name: params for name, params in state.params.items() if name != "world_model"}
        metrics = {f"{INTRINSIC}/{name}": value for name, value in learned.items()}
        metrics |= stepped | imagined.metrics
        return state._replace(params=own), {f"explorer/{key}": x for key, x in metrics.items()}


def own_behavior(config: Config) -> BehaviorConfig:
    """Returns how the explorer's actor and critic learn: as the task's, but for what depends on
    the rewards of replayed states."""
    return dataclasses.replace(
        config.behavior,
        include_start=True,
        include_reward=False,
        start_gradients=False,
        replay_value=ReplayValueConfig(),
        reward_norm=config.exploration.intrinsic_norm,
    )
