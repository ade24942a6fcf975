"""Learning in imagination: what the actor does in the model, and the losses on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from common.distributions import Joint
from common.dynamics.base import State
from common.errors import UserError
from common.learning import constraint as costs
from common.learning.normalize import (
    by_magnitude,
    initial_magnitude,
    initial_spread,
    natural,
    normalised,
    offset_and_scale,
    stream_norm,
    update_spread,
)
from common.learning.schedules import parse_schedule
from common.model.imagine import Trajectory, imagine
from common.model.world_model import WorldModel
from common.types import Array, Params, Rows
from dreamer.config import BehaviorConfig
from dreamer.losses import (
    Returns,
    actor_loss,
    cloning_loss,
    compute_returns,
    critic_loss,
    replay_returns,
)
from dreamer.networks import Networks


class Noise(NamedTuple):
    """Random numbers of one imagination.

    Attributes:
        latent: For the imagined latents ``[H, N, ...]``; None for modes.
        action: For the imagined actions, uniforms ``[H, N, ...]``.
    """

    latent: Array | None
    action: Array


Reward = Callable[[Params, Trajectory], Array]
"""``(params, trajectory) -> [H + 1, N]``, the reward of every imagined state."""
Clone = Callable[[Params], Array]
"""``(actor parameters) -> loss`` of imitating the actions of a batch."""
Normalisers = dict[str, Any]
"""Running statistics: "reward", a magnitude; "return", "advantage" and "value", each a ``Spread``
where it is normalised; and "multiplier", the weight of the cost, where costs count."""


class Imagined(NamedTuple):
    """What learning in imagination computed, for tests and metrics.

    Attributes:
        trajectory: Imagined features and actions ``[H + 1, N, ...]`` and policies.
        reward: Normalised rewards ``[H + 1, N]``.
        discount: Discounts ``[H + 1, N]``.
        target: Lambda-returns ``[H, N]``.
        weight: Weights of the states ``[H, N]``.
        normalisers: What is counted of rewards, returns and so on, this update included.
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

    def __init__(
        self,
        model: WorldModel,
        networks: Networks,
        config: BehaviorConfig,
        reward: Reward | None = None,
        constraint: costs.ConstraintConfig = costs.NO_CONSTRAINT,
        starts_count: bool = True,
    ):
        """Keeps the parts.

        Args:
            model: The world model.
            networks: Actor and critic.
            config: How they learn.
            reward: What they learn to collect; None for the task's reward.
            constraint: What it costs to do what must not be done, which the model predicts.
            starts_count: Whether rewards of start states are any, and are measured.

        Raises:
            UserError: A schedule is unknown, or options do not fit the actions.
        """
        self._model, self._networks, self._config = model, networks, config
        self._constraint, self._measured = constraint, slice(0 if starts_count else 1, None)
        self._reward = reward or self._task_reward
        self.gradient = config.actor_grad
        if self.gradient == "auto":
            self.gradient = "reinforce" if model.actions.discrete else "dynamics"
        if config.start_gradients and self.gradient != "reinforce":
            raise UserError(
                f"behavior.start_gradients goes with behavior.actor_grad reinforce, which is "
                f"{self.gradient} here"
            )
        costs.check_head(constraint, model.cost is not None)
        self._norms = {
            "return": config.return_norm,
            "advantage": config.advantage_norm,
            "value": config.value_norm,
        }
        self.entropy_scale = parse_schedule(config.actor_entropy)
        self.mix = parse_schedule(config.actor_grad_mix)

    def initial_normalisers(self) -> Normalisers:
        """Returns the statistics before the first update."""
        on = [name for name, norm in self._norms.items() if norm.method != "none"]
        counted = {"reward": initial_magnitude(), **{name: initial_spread() for name in on}}
        return counted | costs.initial_multiplier(self._constraint)

    def actor_loss(
        self,
        actor: Params,
        params: Params,
        normalisers: Normalisers,
        updates: Array,
        noise: Noise,
        start: State,
        is_terminal: Array,
        clone: Clone | None = None,
    ) -> tuple[Array, Imagined]:
        """Imagines trajectories under the actor and returns its loss on them.

        Args:
            actor: Parameters of the actor, with respect to which the loss is differentiated.
            params: Of "world_model", "critic", "slow_critic" and what the reward needs.
            normalisers: What is counted of rewards and returns so far.
            updates: Updates so far.
            noise: Random numbers of the imagination.
            start: Start states ``[N]``.
            is_terminal: Whether the start states are terminal ``[N]``.
            clone: The loss that it has instead of that on trajectories; None for none.
        """
        world = params["world_model"]
        trajectory = self._imagine(actor, world, start, noise)
        raw_reward = self._reward(params, trajectory)
        counted: Normalisers = {}
        if self._constraint.counts:
            cost = self._model.cost(world, trajectory.features).mean()
            raw_reward = costs.penalised(raw_reward, cost, normalisers[costs.MULTIPLIER])
            weight = costs.next_multiplier(
                normalisers[costs.MULTIPLIER], cost[1:], self._constraint
            )
            counted[costs.MULTIPLIER] = weight
        norm, measured = self._config.reward_norm, raw_reward[self._measured]
        reward, magnitude = stream_norm(raw_reward, normalisers["reward"], norm, measured)
        discount = self._discount(world, trajectory, is_terminal)
        loss, returns, spreads, metrics = self.policy_loss(
            params, updates, trajectory, reward, discount, normalisers
        )
        if clone is not None:
            loss = clone(actor)
            metrics["actor/loss"] = loss
        normalisers = {**normalisers, **spreads, **counted, "reward": magnitude}
        metrics |= {
            "imagination/reward_mean": measured.mean(),
            "imagination/reward_std": measured.std(),
        }
        if counted:
            metrics |= {"constraint/cost": cost[1:].mean(), "constraint/weight": weight}
        imagined = Imagined(
            trajectory, reward, discount, returns.target, returns.weight, normalisers, metrics
        )
        return loss, jax.lax.stop_gradient(imagined)

    def clone(self, features: Array, batch: Rows) -> Clone | None:
        """Returns the loss of imitating a batch; None where the actor learns by imagination.

        Args:
            features: Of the rows' states ``[B, T, D]``, which take no gradient.
            batch: The rows ``[B, T, ...]``.
        """
        if self._config.method != "cloning":
            return None
        features = jax.lax.stop_gradient(features)
        return lambda actor: cloning_loss(
            self._networks.policy(actor, features), batch["action"], batch["is_first"]
        )

    def _task_reward(self, params: Params, trajectory: Trajectory) -> Array:
        return self._model.reward(params["world_model"], trajectory.features).mean()

    def _imagine(self, actor: Params, world: Params, start: State, noise: Noise) -> Trajectory:
        """Lets the actor act in the model.

        REINFORCE takes no gradient through the model. The policy is then computed once more, of
        all states at once, so that its gradient needs no loop over the steps backwards.
        """
        model = self._model

        def act(feature: Array, uniforms: Array) -> tuple[Array, Joint]:
            policy = self._networks.policy(actor, feature)
            return policy.sample(uniforms), policy

        trajectory = imagine(model, world, act, start, noise.latent, noise.action)
        if self.gradient != "reinforce":
            return trajectory
        trajectory = jax.lax.stop_gradient(trajectory)
        features = trajectory.features
        if self._config.start_gradients:
            first = model.feature(world, start)[None]
            features = jnp.concatenate([first, features[1:]])
        policies = self._networks.policy(actor, features[:-1])
        return trajectory._replace(features=features, policies=policies)

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
        normalisers: Normalisers,
    ) -> tuple[Array, Returns, Normalisers, dict[str, Array]]:
        """Returns the actor's loss on a trajectory with rewards and discounts ``[H + 1, N]``.

        Whatever is normalised is counted first, and then divided by what is counted; returned are
        the statistics after it. Values are undone by the statistics before it.
        """
        chex.assert_rank([reward, discount], 2)
        config, model = self._config, self._model.config
        slow = params["slow_critic" if config.slow_target else "critic"]
        value = self._value(slow, trajectory.features, normalisers)
        returns = compute_returns(
            reward, discount, value, lambda_=config.lambda_, include_reward=config.include_reward,
            first=1.0 if model.soft_discount else model.discount_factor,
        )  # fmt: skip
        spreads = self._count(normalisers, returns.target, "return", "value")
        policies, actions, target, baseline, weight = self._decisions(trajectory, returns, value)
        scale = 1.0
        if "return" in spreads:
            scale = offset_and_scale(spreads["return"], config.return_norm)[1]
        advantage = (target - baseline) / scale
        spreads |= self._count(normalisers, advantage, "advantage")
        advantage = normalised(advantage, spreads.get("advantage"), config.advantage_norm)
        loss, metrics = actor_loss(
            policies, actions, target, advantage, weight, gradient=self.gradient,
            mix=self.mix(updates), entropy_scale=self.entropy_scale(updates), scale=scale,
        )  # fmt: skip
        metrics = {f"actor/{k}": v for k, v in (metrics | {"loss": loss}).items()}
        metrics["imagination/return_mean"] = returns.target.mean()
        metrics["critic/slow_value_mean"] = value.mean()
        if "return" in spreads:
            metrics["imagination/return_scale"] = scale
        return loss, returns, spreads, metrics

    def _count(self, normalisers: Normalisers, x: Array, *names: str) -> Normalisers:
        """Returns those of the named statistics that there are, with values more."""
        x = jax.lax.stop_gradient(x)
        return {
            name: update_spread(normalisers[name], x, self._norms[name])
            for name in names
            if name in normalisers
        }

    def _value(self, critic: Params, features: Array, normalisers: Normalisers) -> Array:
        """What a critic expects, as large as returns are."""
        mean = self._networks.value(critic, features).mean()
        return natural(mean, normalisers.get("value"), self._config.value_norm)

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
        self,
        critic: Params,
        slow_critic: Params,
        imagined: Imagined,
        first: Array | None = None,
    ) -> tuple[Array, dict[str, Array]]:
        """Returns the critic's loss on imagined trajectories, and metrics.

        Args:
            critic: Parameters of the critic, with respect to which it is differentiated.
            slow_critic: Of its slow copy.
            imagined: The trajectories.
            first: Features of the replayed states ``[N, D]`` that take a gradient; None for those
                of the trajectories, which take none.
        """
        features = imagined.trajectory.features[:-1]
        if first is not None:
            features = jnp.concatenate([first[None], features[1:]])
        returns = Returns(imagined.target, imagined.weight)
        loss, value = self._critic_loss(
            critic, slow_critic, features, returns, imagined.normalisers,
            self._config.slow_regularizer,
        )  # fmt: skip
        return loss, {"critic/loss": loss, "critic/value_mean": value.mean()}

    def replay_loss(
        self,
        critic: Params,
        slow_critic: Params,
        features: Array,
        batch: Rows,
        bootstrap: Array,
        normalisers: Normalisers,
    ) -> tuple[Array, Normalisers, dict[str, Array]]:
        """Returns the critic's loss on replayed rows; see ``dreamer.losses``.

        Args:
            critic: Parameters of the critic.
            slow_critic: Of its slow copy.
            features: Of the rows ``[K, B, D]``.
            batch: Their rewards, as the model learns them, and flags ``[K, B]``.
            bootstrap: Imagined returns from each row ``[K, B]``.
            normalisers: What is counted so far, to which the returns of the rows are added.
        """
        model = self._model.config
        following = jnp.concatenate([batch["is_first"][1:], batch["is_last"][-1:]])
        # As imagined rewards are, which the bootstraps are made of.
        reward = by_magnitude(batch["reward"], normalisers["reward"], self._config.reward_norm)
        returns = replay_returns(
            reward, bootstrap, batch["is_last"] | following, batch["is_terminal"],
            discount_factor=model.discount_factor, lambda_=self._config.lambda_,
        )  # fmt: skip
        normalisers = {**normalisers, **self._count(normalisers, returns.target, "value")}
        loss, _ = self._critic_loss(
            critic, slow_critic, features[:-1], returns, normalisers,
            self._config.replay_value.slow_regularizer,
        )  # fmt: skip
        return loss, normalisers, {"critic/replay_loss": loss}

    def _critic_loss(
        self,
        critic: Params,
        slow_critic: Params,
        features: Array,
        returns: Returns,
        normalisers: Normalisers,
        near: float,
    ) -> tuple[Array, Array]:
        """Returns the critic's loss, and what it says on the scale on which it learns.

        ``near`` is how much it is held near the slow critic.
        """
        config, value = self._config, self._networks.value(critic, features)
        target = normalised(returns.target, normalisers.get("value"), config.value_norm)
        loss = critic_loss(
            value, target, returns.weight, include_start=config.include_start,
            slow=self._networks.value(slow_critic, features).mean() if near else None,
            slow_scale=near,
        )  # fmt: skip
        return loss, value.mean()
