"""Learning of TD-MPC2: one update of model, values and policy (arXiv:2310.16828, public code).

One update:

1. The encoder encodes all rows but the first; policy and target values give the targets there.
2. Everything but the policy takes a gradient step on the rollout from the first row.
3. The policy takes one at the states of that rollout, by the values as they are now.
4. The target values move towards the values.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from common.learning.optimizers import Optimizer, OptimizerConfig, OptimizerState, make_optimizer
from common.types import Array, Key, Params, Rows
from planet.tdmpc2.config import TDMPC2Config
from planet.tdmpc2.losses import (
    Losses,
    ModelLosses,
    Noise,
    PolicyLosses,
    Window,
    make_window,
    termination_metrics,
)
from planet.tdmpc2.networks import Networks, draw_pair

MODEL, POLICY = "model", "policy"
"""What has an optimizer of its own."""
MARGIN = 1e-6
"""Added to the norm of gradients where they are clipped, as PyTorch does."""


class TrainState(NamedTuple):
    """Everything that an update changes.

    Attributes:
        params: By component, of ``Networks.init``.
        target_q: The target ensemble of values, as ``params["q"]``.
        optimizers: States of the optimizers of "model" and "policy".
        scale: The running scale of the policy's loss.
        carried: Of several tasks, the gradient that the policy's loss left for their embeddings;
            the public code adds it to that of the next update.
    """

    params: dict[str, Params]
    target_q: Params
    optimizers: dict[str, OptimizerState]
    scale: Array
    carried: dict[str, Params]


class Found(NamedTuple):
    """What an update computed on its way.

    Attributes:
        next_z: Encodings of rows 1 to H, ``[H, B, L]``.
        target: Targets of the values ``[H, B]``.
        model: See ``ModelLosses``.
        policy: See ``PolicyLosses``.
    """

    next_z: Array
    target: Array
    model: ModelLosses
    policy: PolicyLosses


class Learner:
    """The update bound to networks and options.

    Attributes:
        losses: Its losses.
        optimizers: Of "model", which is all but the policy, and of "policy".
    """

    def __init__(
        self,
        networks: Networks,
        config: TDMPC2Config,
        discount: float | Sequence[float],
        actions: int,
    ):
        """Builds losses and optimizers.

        Args:
            networks: Of ``make_networks`` with the same options.
            config: All options.
            discount: Of the next value, see ``episode_discount``; of several tasks, for each.
            actions: Entries of an action, A.
        """
        self._networks, self._config, self._actions = networks, config, actions
        self.losses = Losses(networks, config, discount)
        self.optimizers = {
            MODEL: clipped_optimizer(config.model_opt),
            POLICY: clipped_optimizer(config.policy_opt),
        }

    def init(self, key: Key) -> TrainState:
        """Draws all weights; the target values begin as a copy of the values."""
        params = self._networks.init(key)
        optimizers = {
            MODEL: self.optimizers[MODEL].init(_all_but_policy(params)),
            POLICY: self.optimizers[POLICY].init(params[POLICY]),
        }
        carried = jax.tree.map(jnp.zeros_like, _tasks(params))
        target_q = jax.tree.map(jnp.copy, params["q"])
        return TrainState(params, target_q, optimizers, jnp.ones(()), carried)

    def updates(self, state: TrainState) -> Array:
        """Returns how many updates were made, int32 ``[]``, without those that were left out."""
        return optax.tree.get_all_with_path(state.optimizers[MODEL].inner, "count")[0][1]

    def draw_noise(self, key: Key, shape: tuple[int, int]) -> Noise:
        """Draws the random numbers of one update on a batch of shape ``(B, H + 1)``."""
        config, networks, batch, steps = self._config, self._networks, shape[0], shape[1] - 1
        keys = jax.random.split(key, 8)

        def keep(key: Key, members: int, times: int) -> Array | None:
            size = members, times, batch, config.units
            return draw_kept(key, config.dropout, size) if config.dropout else None

        return Noise(
            first_shift=networks.draw_shift(keys[0], (batch,)),
            next_shift=networks.draw_shift(keys[1], (steps, batch)),
            target=jax.random.normal(keys[2], (steps, batch, self._actions)),
            target_pair=draw_pair(keys[3], config.num_q),
            keep=keep(keys[4], config.num_q, steps),
            policy=jax.random.normal(keys[5], (steps + 1, batch, self._actions)),
            policy_pair=draw_pair(keys[6], config.num_q),
            policy_keep=keep(keys[7], 2, steps + 1),
        )

    def update(
        self, state: TrainState, key: Key, batch: Rows
    ) -> tuple[TrainState, dict[str, Array]]:
        """Makes one update on rows ``[B, H + 1, ...]``; see the module's docstring."""
        noise = self.draw_noise(key, batch["reward"].shape)
        state, metrics, _ = self.update_with_noise(state, noise, batch)
        return state, metrics

    def update_with_noise(
        self, state: TrainState, noise: Noise, batch: Rows
    ) -> tuple[TrainState, dict[str, Array], Found]:
        """Makes one update with given random numbers."""
        window, losses = make_window(batch, self._config.horizon), self.losses
        params = self._networks.limit(state.params, window.observation)
        later = {key: x[1:] for key, x in window.observation.items()}
        next_z = jax.lax.stop_gradient(self._networks.encode(params, later, noise.next_shift))
        target = losses.target(params, state.target_q, next_z, window, noise)

        (loss, model), grads = jax.value_and_grad(losses.model, has_aux=True)(
            _all_but_policy(params), window, next_z, target, noise
        )
        grads |= jax.tree.map(jnp.add, _tasks(grads), state.carried)
        state, metrics = self._step(state._replace(params=params), MODEL, grads)
        params = self._networks.limit(state.params, window.observation)
        metrics |= _model_metrics(loss, model, window)
        states = jax.lax.stop_gradient(model.states)
        (loss, policy), grads = jax.value_and_grad(losses.policy, has_aux=True)(
            {POLICY: params[POLICY]} | _tasks(params), params, state.scale, states,
            window.weight, noise,
        )  # fmt: skip
        state, more = self._step(state._replace(params=params), POLICY, grads[POLICY])
        metrics |= more | _policy_metrics(loss, policy)
        target_q = move_target(state.target_q, state.params["q"], self._config.tau)
        state = state._replace(target_q=target_q, scale=policy.scale, carried=_tasks(grads))
        return state, metrics, Found(next_z, target, model, policy)

    def _step(
        self, state: TrainState, name: str, grads: Params
    ) -> tuple[TrainState, dict[str, Array]]:
        """Applies one optimizer; returns the next state and metrics."""
        params = state.params[POLICY] if name == POLICY else _all_but_policy(state.params)
        params, optimizer, metrics = self.optimizers[name].update(
            grads, state.optimizers[name], params
        )
        state = state._replace(
            params=state.params | ({POLICY: params} if name == POLICY else params),
            optimizers=state.optimizers | {name: optimizer},
        )
        return state, {f"{name}/{key}": value for key, value in metrics.items()}


def clipped_optimizer(config: OptimizerConfig) -> Optimizer:
    """Builds an optimizer that clips as PyTorch does: ``g min(1, clip / (|g| + 1e-6))``.

    Its metric ``grad_norm`` is that before clipping.
    """
    inner = make_optimizer(dataclasses.replace(config, clip=0.0))
    if not config.clip:
        return inner

    def update(
        grads: Params, state: OptimizerState, params: Params
    ) -> tuple[Params, OptimizerState, dict[str, Array]]:
        norm = optax.tree.norm(grads)
        factor = jnp.minimum(1.0, config.clip / (norm + MARGIN))
        grads = jax.tree.map(lambda x: factor * x, grads)
        params, state, metrics = inner.update(grads, state, params)
        return params, state, metrics | {"grad_norm": norm}

    return Optimizer(inner.init, update)


def draw_kept(key: Key, rate: float, shape: Sequence[int]) -> Array:
    """Draws which units dropout leaves, booleans of a shape.

    From 16 random bits each, half as many as ``jax.random.bernoulli`` takes, so that the rate is
    that asked for within 1 / 131072.
    """
    count = math.prod(shape)
    bits = jax.random.bits(key, (-(-count // 2),), jnp.uint32)
    halves = jax.lax.bitcast_convert_type(bits, jnp.uint16).reshape(-1)[:count]
    return halves.reshape(shape) >= round(rate * 2**16)


def move_target(target: Params, params: Params, tau: float) -> Params:
    """Returns the target moved towards the parameters: ``w' + tau (w - w')``."""
    return jax.tree.map(lambda old, new: old + tau * (new - old), target, params)


def _tasks(params: Params) -> dict[str, Params]:
    """Returns the embeddings, or their gradients; nothing of one task."""
    return {name: x for name, x in params.items() if name == "task"}


def _all_but_policy(params: Params) -> dict[str, Params]:
    return {name: x for name, x in params.items() if name != POLICY}


def _model_metrics(loss: Array, model: ModelLosses, window: Window) -> dict[str, Array]:
    metrics = {"loss": loss} | {f"{name}_loss": term for name, term in model.terms.items()}
    if model.termination is not None:
        metrics |= termination_metrics(model.termination, window)
    return {f"{MODEL}/{name}": value for name, value in metrics.items()}


def _policy_metrics(loss: Array, policy: PolicyLosses) -> dict[str, Array]:
    return {
        "policy/loss": loss,
        "policy/entropy": -policy.draw.log_prob.mean(),
        "policy/std": jnp.exp(policy.draw.log_std).mean(),
        "policy/value": policy.value.mean(),
        "policy/scale": policy.scale,
    }
