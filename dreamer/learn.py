"""What an update changes, and one step of actor and critic, whichever they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from common.dynamics.base import State
from common.learning.optimizers import Optimizer
from common.types import Array, Params
from dreamer import behavior as imagination
from dreamer.behavior import Behavior, Clone, Imagined
from dreamer.config import BehaviorConfig


class TrainState(NamedTuple):
    """Everything that an update changes.

    Attributes:
        params: Of "world_model", "actor", "critic" and "slow_critic", and of the "explorer", the
            "small_actor" or the "ensemble" where there is one.
        optimizers: Optimizer states of "world_model", "actor" and "critic", or of "joint"; and
            those of the "explorer", the "small_actor" or the "ensemble".
        normalisers: What is counted and not learned: "vectors", the statistics of the world
            model's vectors, and those of ``Behavior.initial_normalisers``; and the "explorer"'s.
        updates: Number of updates so far.
    """

    params: dict[str, Params]
    optimizers: dict[str, Any]
    normalisers: dict[str, Any]
    updates: Array


def learn_behavior(
    behavior: Behavior,
    optimizers: Mapping[str, Optimizer],
    config: BehaviorConfig,
    state: TrainState,
    noise: imagination.Noise,
    start: State,
    is_terminal: Array,
    pull: Callable[[Params], Array] | None = None,
    clone: Clone | None = None,
) -> tuple[TrainState, Imagined]:
    """Takes one gradient step of actor and critic.

    Args:
        behavior: Their losses.
        optimizers: Of "actor" and "critic".
        config: When the slow critic is copied.
        state: The training state, its world model already updated.
        noise: Random numbers of the imagination.
        start: Start states ``[N]``.
        is_terminal: Whether the start states are terminal ``[N]``.
        pull: ``(actor parameters) -> loss`` that is added to the actor's; None for none.
        clone: As of ``Behavior.actor_loss``.
    """

    def actor_loss(actor: Params, *args: Any) -> tuple[Array, Imagined]:
        loss, imagined = behavior.actor_loss(actor, *args, clone)
        if pull is None:
            return loss, imagined
        more = pull(actor)
        metrics = imagined.metrics | {"actor/distill_loss": jax.lax.stop_gradient(more)}
        return loss + more, imagined._replace(metrics=metrics)

    grads, imagined = jax.grad(actor_loss, has_aux=True)(
        state.params["actor"], state.params, state.normalisers, state.updates,
        noise, start, is_terminal,
    )  # fmt: skip
    state, actor_metrics = learn_part(optimizers, state, "actor", grads)
    grads, critic_metrics = jax.grad(behavior.critic_loss, has_aux=True)(
        state.params["critic"], state.params["slow_critic"], imagined
    )
    state, step_metrics = learn_part(optimizers, state, "critic", grads)
    slow = slow_copy(state.params["slow_critic"], state.params["critic"], state.updates, config)
    state = state._replace(
        params=state.params | {"slow_critic": slow},
        normalisers=state.normalisers | imagined.normalisers,
        updates=state.updates + 1,
    )
    metrics = imagined.metrics | actor_metrics | critic_metrics | step_metrics
    return state, imagined._replace(metrics=metrics)


def learn_part(
    optimizers: Mapping[str, Optimizer], state: TrainState, name: str, grads: Params
) -> tuple[TrainState, dict[str, Array]]:
    """Applies one optimizer; returns the next state and metrics."""
    params, optimizer, metrics = optimizers[name].update(
        grads, state.optimizers[name], state.params[name]
    )
    state = state._replace(
        params=state.params | {name: params}, optimizers=state.optimizers | {name: optimizer}
    )
    return state, {f"{name}/{key}": value for key, value in metrics.items()}


def slow_copy(slow: Params, critic: Params, updates: Array, config: BehaviorConfig) -> Params:
    """Returns the slow critic after an update of the critic.

    Args:
        slow: The slow critic.
        critic: The critic.
        updates: Updates of the critic before this one. After the very first the copy is
            complete, whatever the share, unless it was one from the start.
        config: When and how much to copy.
    """
    share = config.slow_target_fraction
    if not config.slow_initial_copy:
        share = jnp.where(updates == 0, 1.0, share)
    share = jnp.where(updates % config.slow_target_update == 0, share, 0.0)
    return jax.tree.map(lambda old, new: share * new + (1 - share) * old, slow, critic)
