"""Learning in imagination: what the actor does in the model, and the losses on it."""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from common.distributions import Joint
from common.dynamics.base import State
from common.learning.normalize import (
    Spread,
    initial_magnitude,
    initial_spread,
    offset_and_scale,
    stream_norm,
    update_spread,
)
from common.learning.schedules import parse_schedule
from common.model.imagine import Trajectory, imagine
from common.model.world_model import WorldModel
from common.types import Array, Params
from dreamer.config import BehaviorConfig
from dreamer.losses import Returns, actor_loss, compute_returns, critic_loss
from dreamer.networks import Networks


class Noise(NamedTuple):
    """Random numbers of one imagination.

    Attributes:
        latent: For the imagined latents ``[H, N, ...]``; None for modes.
        action: For the imagined actions, uniforms ``[H, N, ...]``.
    """

    latent: Array | None
    action: Array


Normalisers = dict[str, Any]
"""Running statistics: "reward", a magnitude; "return", a ``Spread``, if returns are normalised."""


class Imagined(NamedTuple):
    """What learning in imagination computed, for tests and metrics.

    Attributes:
        trajectory: Imagined features and actions ``[H + 1, N, ...]`` and policies.
        reward: Normalised rewards ``[H + 1, N]``.
        discount: Discounts ``[H + 1, N]``.
        target: Lambda-returns ``[H, N]``.
        weight: Weights of the states ``[H, N]``.
        normalisers: What is counted of rewards and returns, this update included.
        metrics: Scalars.
    """

    trajectory: Trajectory
    reward: Array
    discount: Array
    target: Array
    weight: Array
    normalisers: Normalisers
    metrics: dict[str, Array]


class Behavior:
    """The losses of actor and critic, bound to one configuration.

    Attributes:
        gradient: "dynamics", "reinforce" or "both".
        entropy_scale: ``(updates) -> weight`` of the policy's entropy.
        mix: ``(updates) -> share`` of the gradient through the model, of "both".
    """

    def __init__(self, model: WorldModel, networks: Networks, config: BehaviorConfig):
        """Keeps the parts.

        Args:
            model: The world model.
            networks: Actor and critic.
            config: How they learn.

        Raises:
            UserError: A schedule is unknown.
        """
        self._model, self._networks, self._config = model, networks, config
        self.gradient = config.actor_grad
        if self.gradient == "auto":
            self.gradient = "reinforce" if model.actions.discrete else "dynamics"
        self.entropy_scale = parse_schedule(config.actor_entropy)
        self.mix = parse_schedule(config.actor_grad_mix)

    def initial_normalisers(self) -> Normalisers:
        """Returns the statistics before the first update."""
        spread = {"return": initial_spread()} if self._config.return_norm.method != "none" else {}
        return {"reward": initial_magnitude(), **spread}

    def actor_loss(
        self,
        actor: Params,
        params: Params,
        normalisers: Normalisers,
        updates: Array,
        noise: Noise,
        start: State,
        is_terminal: Array,
    ) -> tuple[Array, Imagined]:
        """Imagines trajectories under the actor and returns its loss on them.

        Args:
            actor: Parameters of the actor, with respect to which the loss is differentiated.
            params: Of "world_model", "critic" and "slow_critic".
            normalisers: What is counted of rewards and returns so far.
            updates: Updates so far.
            noise: Random numbers of the imagination.
            start: Start states ``[N]``.
            is_terminal: Whether the start states are terminal ``[N]``.
        """
        model, world = self._model, params["world_model"]

        def act(feature: Array, uniforms: Array) -> tuple[Array, Joint]:
            policy = self._networks.policy(actor, feature)
            action = policy.sample(uniforms)
            return jax.lax.stop_gradient(action) if self.gradient == "reinforce" else action, policy

        trajectory = imagine(model, world, act, start, noise.latent, noise.action)
        raw_reward = model.reward(world, trajectory.features).mean()
        reward, magnitude = stream_norm(raw_reward, normalisers["reward"], self._config.reward_norm)
        discount = self._discount(world, trajectory, is_terminal)
        loss, returns, spread, metrics = self.policy_loss(
            params, updates, trajectory, reward, discount, normalisers.get("return")
        )
        normalisers = {"reward": magnitude} | ({} if spread is None else {"return": spread})
        metrics |= {
            "imagination/reward_mean": raw_reward.mean(),
            "imagination/reward_std": raw_reward.std(),
        }
        imagined = Imagined(
            trajectory, reward, discount, returns.target, returns.weight, normalisers, metrics
        )
        return loss, jax.lax.stop_gradient(imagined)

    def _discount(self, world: Params, trajectory: Trajectory, is_terminal: Array) -> Array:
        """Returns the discounts ``[H + 1, N]``; the first is the true one, see ``losses``.

        In V3 it is predicted, as all others are.
        """
        config = self._model.config
        discount = self._model.discount(world, trajectory.features).mean()
        if not self._config.include_reward:
            return discount
        if self._config.include_start and not config.predict_discount:
            return discount
        goes_on = 1 - is_terminal * jnp.float32(config.predict_discount)
        first = goes_on * (config.discount_factor if self._config.include_start else 1.0)
        return jnp.concatenate([first[None], discount[1:]])

    def policy_loss(
        self,
        params: Params,
        updates: Array,
        trajectory: Trajectory,
        reward: Array,
        discount: Array,
        spread: Spread | None = None,
    ) -> tuple[Array, Returns, Spread | None, dict[str, Array]]:
        """Returns the actor's loss on a trajectory with rewards and discounts ``[H + 1, N]``.

        With a spread of the returns so far, it is updated first, and then returned as well.
        """
        chex.assert_rank([reward, discount], 2)
        config = self._config
        slow = params["slow_critic" if config.slow_target else "critic"]
        value = self._networks.value(slow, trajectory.features).mean()
        returns = compute_returns(
            reward, discount, value, lambda_=config.lambda_, include_reward=config.include_reward
        )
        scale = 1.0
        if spread is not None:
            target = jax.lax.stop_gradient(returns.target)
            spread = update_spread(spread, target, config.return_norm)
            scale = offset_and_scale(spread, config.return_norm)[1]
        loss, metrics = actor_loss(
            *self._decisions(trajectory, returns, value), gradient=self.gradient,
            mix=self.mix(updates), entropy_scale=self.entropy_scale(updates), scale=scale,
        )  # fmt: skip
        metrics = {f"actor/{k}": v for k, v in (metrics | {"loss": loss}).items()}
        metrics["imagination/return_mean"] = returns.target.mean()
        metrics["critic/slow_value_mean"] = value.mean()
        if spread is not None:
            metrics["imagination/return_scale"] = scale
        return loss, returns, spread, metrics

    def _decisions(
        self, trajectory: Trajectory, returns: Returns, value: Array
    ) -> tuple[Joint, Array, Array, Array, Array]:
        """Returns policies, actions, returns, baselines and weights, row by row of a decision."""
        if not self._config.include_reward:
            actions = trajectory.actions[1:]
            return trajectory.policies, actions, returns.target, value[:-1], returns.weight
        # The reward of a state is in its return: a choice first shows in that of the next one.
        policies = jax.tree.map(lambda x: x[:-1], trajectory.policies)
        weight = returns.weight[:-1] if self._config.include_start else returns.weight[1:]
        return policies, trajectory.actions[1:-1], returns.target[1:], value[:-2], weight

    def critic_loss(
        self, critic: Params, slow_critic: Params, imagined: Imagined
    ) -> tuple[Array, dict[str, Array]]:
        """Returns the critic's loss on imagined trajectories, and metrics."""
        config, features = self._config, imagined.trajectory.features[:-1]
        value = self._networks.value(critic, features)
        near = config.slow_regularizer
        loss = critic_loss(
            value, imagined.target, imagined.weight, include_start=config.include_start,
            slow=self._networks.value(slow_critic, features).mean() if near else None,
            slow_scale=near,
        )  # fmt: skip
        return loss, {"critic/loss": loss, "critic/value_mean": value.mean().mean()}


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
