"""Dreamer: a world model, and an actor and a critic that learn in its imagination.

One update, as in DreamerV2 (arXiv:2010.02193):

1. The world model takes a gradient step on a batch of replayed sequences.
2. From every posterior state of the batch, as the old weights inferred it, the actor
   acts for H steps in the world model with the new weights.
3. Actor and critic take a gradient step on the imagined trajectories.
4. Every ``slow_target_update`` updates, the first included, the slow critic is copied.

Each optimizer sees the gradient with respect to its own parameters only.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from common.agent import Agent, OpenLoop
from common.distributions import Joint, action_noise_size, uniform_noise
from common.distributions.exploration import add_action_noise
from common.dynamics.base import State
from common.learning.normalize import initial_magnitude, stream_norm
from common.learning.optimizers import make_optimizer
from common.learning.schedules import parse_schedule
from common.model.imagine import Trajectory, imagine, open_loop
from common.model.learn import learn_model
from common.model.losses import Losses
from common.model.world_model import WorldModel, world_model
from common.spaces import ActionSpec, ObservationSpec
from common.types import Array, Key, Mode, Params, Rows
from dreamer.config import BehaviorConfig, Config
from dreamer.losses import Returns, actor_loss, compute_returns, critic_loss
from dreamer.networks import Networks, make_networks


class TrainState(NamedTuple):
    """Everything that an update changes.

    Attributes:
        params: Of "world_model", "actor", "critic" and "slow_critic".
        optimizers: Optimizer states of "world_model", "actor" and "critic".
        reward_magnitude: Running magnitude of the imagined rewards.
        updates: Number of updates so far.
    """

    params: dict[str, Params]
    optimizers: dict[str, Any]
    reward_magnitude: Array
    updates: Array


class Noise(NamedTuple):
    """All random numbers of one update.

    Attributes:
        posterior: For the latents of the batch ``[B, T, ...]``.
        latent: For the imagined latents ``[H, B T, ...]``.
        action: For the imagined actions, uniforms ``[H, B T, ...]``.
        overshooting: For latent overshooting; None without it.
    """

    posterior: Array
    latent: Array
    action: Array
    overshooting: Array | None = None


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


class Behavior(NamedTuple):
    """What learning in imagination computed, for tests and metrics.

    Attributes:
        trajectory: Imagined features and actions ``[H + 1, N, ...]`` and policies.
        reward: Normalised rewards ``[H + 1, N]``.
        discount: Discounts ``[H + 1, N]``.
        target: Lambda-returns ``[H, N]``.
        weight: Weights of the states ``[H, N]``.
        reward_magnitude: The next running magnitude of the rewards.
        metrics: Scalars.
    """

    trajectory: Trajectory
    reward: Array
    discount: Array
    target: Array
    weight: Array
    reward_magnitude: Array
    metrics: dict[str, Array]


class Carry(NamedTuple):
    """What acting remembers: latent state and previous action of each environment."""

    state: State
    action: Array


class Dreamer:
    """The parts of Dreamer bound to one configuration; ``make_agent`` shows them as an Agent."""

    def __init__(self, model: WorldModel, networks: Networks, config: Config):
        """Keeps the parts and builds the optimizers.

        Args:
            model: The world model.
            networks: Actor and critic.
            config: Behaviour and optimizers.

        Raises:
            UserError: A schedule or an optimizer is unknown.
        """
        self.model = model
        self.networks = networks
        self.config = config
        self.optimizers = {
            "world_model": make_optimizer(config.model_opt),
            "actor": make_optimizer(config.actor_opt),
            "critic": make_optimizer(config.critic_opt),
        }
        behavior = config.behavior
        self.gradient = behavior.actor_grad
        if self.gradient == "auto":
            self.gradient = "reinforce" if model.actions.discrete else "dynamics"
        self.entropy_scale = parse_schedule(behavior.actor_entropy)
        self.mix = parse_schedule(behavior.actor_grad_mix)

    def init(self, key: Key) -> TrainState:
        """Draws all weights."""
        keys = jax.random.split(key)
        params = {"world_model": self.model.init(keys[0])}
        feature = self.model.feature(params["world_model"], self.model.initial(1))
        params |= self.networks.init(keys[1], feature)
        states = {name: opt.init(params[name]) for name, opt in self.optimizers.items()}
        return TrainState(params, states, initial_magnitude(), jnp.zeros((), jnp.int32))

    def initial_carry(self, num_envs: int) -> Carry:
        """Returns the memory before the first row."""
        return Carry(self.model.initial(num_envs), jnp.zeros((num_envs, self.model.actions.size)))

    def act(
        self, params: Params, key: Key, carry: Carry, observation: Rows, mode: Mode
    ) -> tuple[Array, Carry]:
        """Chooses actions; see ``common.agent.Agent``."""
        keys = jax.random.split(key, 3)
        amount = carry.action.shape[0]
        shape = amount, action_noise_size(self.model.actions)
        noise = ActNoise(
            self.model.draw_noise(keys[0], (amount,)),
            uniform_noise(keys[1], shape),
            uniform_noise(keys[2], shape),
        )
        return self.act_with_noise(params, noise, carry, observation, mode)

    def act_with_noise(
        self, params: Params, noise: ActNoise, carry: Carry, observation: Rows, mode: Mode
    ) -> tuple[Array, Carry]:
        """Chooses actions with given random numbers."""
        model = self.model
        rows = {**observation, "action": carry.action}
        state = model.observe_step(params["world_model"], noise.latent, carry.state, rows)
        feature = model.feature(params["world_model"], state)
        policy = self.networks.policy(params["actor"], feature)
        if mode == "eval":
            action = policy.mode()
        else:
            action = policy.sample(noise.action)
            scale = self.config.behavior.exploration_noise
            if scale:
                action = add_action_noise(action, noise.exploration, scale, model.actions)
        return action, Carry(state, action)

    def update(
        self, state: TrainState, key: Key, batch: Rows
    ) -> tuple[TrainState, dict[str, Array]]:
        """Makes one update; see the module's docstring."""
        state, metrics, _ = self.update_with_noise(
            state, self.draw_noise(key, batch["reward"].shape), batch
        )
        return state, metrics

    def draw_noise(self, key: Key, shape: tuple[int, int]) -> Noise:
        """Draws the random numbers of one update on a batch of shape ``(B, T)``."""
        keys = jax.random.split(key, 3)
        steps = self.config.behavior.horizon, shape[0] * shape[1]
        return Noise(
            self.model.draw_noise(keys[0], shape),
            self.model.draw_noise(keys[1], steps),
            uniform_noise(keys[2], (*steps, action_noise_size(self.model.actions))),
            self.model.draw_overshooting(jax.random.fold_in(key, 3), shape),
        )

    def update_with_noise(
        self, state: TrainState, noise: Noise, batch: Rows, start: State | None = None
    ) -> tuple[TrainState, dict[str, Array], tuple[Losses, Behavior]]:
        """Makes one update with given random numbers, from a given latent state ``[B]``."""
        params, optimizers, metrics, losses = self.update_model(
            state, noise.posterior, batch, start, noise.overshooting
        )
        state = state._replace(params=params, optimizers=optimizers)
        flatten = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
        starts = jax.tree.map(lambda x: jax.lax.stop_gradient(flatten(x)), losses.observed.states)
        state, behavior = self.update_behavior(state, noise, starts, flatten(batch["is_terminal"]))
        return state, metrics | behavior.metrics, (losses, behavior)

    def update_model(
        self,
        state: TrainState,
        noise: Array,
        batch: Rows,
        start: State | None,
        overshooting: Array | None = None,
    ) -> tuple[dict[str, Params], dict[str, Any], dict[str, Array], Losses]:
        """Takes one gradient step of the world model."""
        name = "world_model"
        step = learn_model(
            self.model, self.optimizers[name], state.params[name], state.optimizers[name],
            noise, batch, start, overshooting,
        )  # fmt: skip
        params = state.params | {name: step.params}
        return params, state.optimizers | {name: step.optimizer}, step.metrics, step.losses

    def update_behavior(
        self, state: TrainState, noise: Noise, start: State, is_terminal: Array
    ) -> tuple[TrainState, Behavior]:
        """Takes one gradient step of actor and critic.

        Args:
            state: The training state, its world model already updated.
            noise: Random numbers of the imagination.
            start: Start states ``[N]``.
            is_terminal: Whether the start states are terminal ``[N]``.
        """
        losses = functools.partial(self.behavior_loss, state, noise, start, is_terminal)
        grads, behavior = jax.grad(losses, has_aux=True)(state.params["actor"])
        params, optimizers, actor_metrics = self._step(state, "actor", grads)
        grads, critic_metrics = jax.grad(self.value_loss, has_aux=True)(
            state.params["critic"], behavior
        )
        state = state._replace(params=params, optimizers=optimizers)
        params, optimizers, step_metrics = self._step(state, "critic", grads)
        params["slow_critic"] = slow_copy(
            params["slow_critic"], params["critic"], state.updates, self.config.behavior
        )
        metrics = behavior.metrics | actor_metrics | critic_metrics | step_metrics
        state = TrainState(params, optimizers, behavior.reward_magnitude, state.updates + 1)
        return state, behavior._replace(metrics=metrics)

    def report(self, params: Params, key: Key, batch: Rows) -> dict[str, OpenLoop]:
        """Predicts images from actions alone; see ``common.model.imagine.open_loop``."""
        return open_loop(self.model, params["world_model"], key, batch)

    def behavior_loss(
        self, state: TrainState, noise: Noise, start: State, is_terminal: Array, actor: Params
    ) -> tuple[Array, Behavior]:
        """Imagines trajectories under the actor and returns its loss on them."""
        config, model, networks = self.config.behavior, self.model, self.networks
        world = state.params["world_model"]

        def act(feature: Array, uniforms: Array) -> tuple[Array, Joint]:
            policy = networks.policy(actor, feature)
            action = policy.sample(uniforms)
            return jax.lax.stop_gradient(action) if self.gradient == "reinforce" else action, policy

        trajectory = imagine(model, world, act, start, noise.latent, noise.action)
        raw_reward = model.reward(world, trajectory.features)
        reward, magnitude = stream_norm(raw_reward, state.reward_magnitude, config.reward_norm)
        discount = model.discount(world, trajectory.features)
        if model.config.predict_discount:
            true = model.config.discount_factor * (1 - is_terminal.astype(jnp.float32))
            discount = jnp.concatenate([true[None], discount[1:]])
        loss, returns, metrics = self.policy_loss(state, trajectory, reward, discount)
        metrics |= {
            "imagination/reward_mean": raw_reward.mean(),
            "imagination/reward_std": raw_reward.std(),
        }
        behavior = Behavior(
            trajectory, reward, discount, returns.target, returns.weight, magnitude, metrics
        )
        return loss, jax.lax.stop_gradient(behavior)

    def policy_loss(
        self,
        state: TrainState,
        trajectory: Trajectory,
        reward: Array,
        discount: Array,
    ) -> tuple[Array, Returns, dict[str, Array]]:
        """Returns the actor's loss on a trajectory with rewards and discounts ``[H + 1, N]``."""
        config, networks = self.config.behavior, self.networks
        slow = state.params["slow_critic" if config.slow_target else "critic"]
        value = networks.value(slow, trajectory.features)
        returns = compute_returns(
            reward, discount, value, lambda_=config.lambda_, include_start=config.include_start
        )
        policy = jax.tree.map(lambda x: x[:-1], trajectory.policies)
        loss, metrics = actor_loss(
            policy, trajectory.actions[1:-1], returns, value[:-2],
            gradient=self.gradient, mix=self.mix(state.updates),
            entropy_scale=self.entropy_scale(state.updates),
        )  # fmt: skip
        metrics = {f"actor/{k}": v for k, v in (metrics | {"loss": loss}).items()}
        metrics["imagination/return_mean"] = returns.target.mean()
        metrics["critic/slow_value_mean"] = value.mean()
        return loss, returns, metrics

    def value_loss(self, critic: Params, behavior: Behavior) -> tuple[Array, dict[str, Array]]:
        """Returns the critic's loss on imagined trajectories, and metrics."""
        value = self.networks.value(critic, behavior.trajectory.features[:-1])
        loss = critic_loss(
            value, behavior.target, behavior.weight,
            include_start=self.config.behavior.include_start,
        )  # fmt: skip
        return loss, {"critic/loss": loss, "critic/value_mean": value.mean()}

    def _step(
        self, state: TrainState, name: str, grads: Params
    ) -> tuple[dict[str, Params], dict[str, Any], dict[str, Array]]:
        """Applies one optimizer; returns all parameters, all optimizer states and metrics."""
        params, optimizer, metrics = self.optimizers[name].update(
            grads, state.optimizers[name], state.params[name]
        )
        metrics = {f"{name}/{key}": value for key, value in metrics.items()}
        return state.params | {name: params}, state.optimizers | {name: optimizer}, metrics


def slow_copy(slow: Params, critic: Params, updates: Array, config: BehaviorConfig) -> Params:
    """Returns the slow critic after an update of the critic.

    Args:
        slow: The slow critic.
        critic: The critic.
        updates: Updates of the critic before this one. After the very first the copy is
            complete, whatever the share.
        config: When and how much to copy.
    """
    share = jnp.where(updates == 0, 1.0, config.slow_target_fraction)
    share = jnp.where(updates % config.slow_target_update == 0, share, 0.0)
    return jax.tree.map(lambda old, new: share * new + (1 - share) * old, slow, critic)


def make_agent(
    config: Config, observations: dict[str, ObservationSpec], actions: ActionSpec
) -> Agent:
    """Builds Dreamer for flat observation and action specs.

    Raises:
        UserError: An option with an impossible value.
    """
    model = world_model(config.world_model, observations, actions)
    networks = make_networks(config.actor, config.critic, actions)
    dreamer = Dreamer(model, networks, config)
    acting = ("world_model", "actor")
    return Agent(
        init=dreamer.init,
        params=lambda state: {name: state.params[name] for name in acting},
        initial_carry=dreamer.initial_carry,
        act=dreamer.act,
        update=dreamer.update,
        report=dreamer.report,
    )
