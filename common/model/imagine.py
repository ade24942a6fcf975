"""Roll-outs of a world model under a policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from common.agent import OpenLoop
from common.dynamics.base import Noise, State
from common.model.vectors import Statistics
from common.model.world_model import WorldModel
from common.nets.precision import ready
from common.nets.scan import recurrent_scan
from common.types import Array, Key, Params, Rows

Policy = Callable[[Array, Array], tuple[Array, Any]]
"""(feature [N, D], noise [N, ...]) -> action [N, A] and the distribution it is from [N]."""


class Trajectory(NamedTuple):
    """An imagined trajectory, time-major.

    Attributes:
        features: Features of the start and of the H imagined states ``[H + 1, N, D]``.
        actions: ``[H + 1, N, A]``; ``actions[t]`` led to ``features[t]``, the first is zero.
        policies: The policy's distributions ``[H, N]``; ``policies[t]``, at ``features[t]``,
            drew ``actions[t + 1]``.
    """

    features: Array
    actions: Array
    policies: Any


def imagine(
    model: WorldModel,
    params: Params,
    policy: Policy,
    start: State,
    latent_noise: Noise,
    action_noise: Array,
) -> Trajectory:
    """Lets a policy act in the model.

    The policy sees ``stop_gradient(feature)``: gradients reach earlier actions through
    the dynamics only, not through what later actions were chosen from.

    Args:
        model: The world model.
        params: Its parameters.
        policy: Chooses an action from a feature. What it stops the gradient of, no later
            state differentiates.
        start: States ``[N]``.
        latent_noise: Noise of the latents ``[H, N, ...]``, or None for modes.
        action_noise: Noise of the actions ``[H, N, ...]``.
    """
    dynamics = model.config.dynamics
    params = {**params, dynamics: ready(params[dynamics], model.config.precision)}
    first = model.feature(params, start)

    def step(carry: tuple[State, Array], noise: tuple[Noise, Array]) -> tuple:
        state, feature = carry
        action, distribution = policy(jax.lax.stop_gradient(feature), noise[1])
        state = model.imagine_step(params, noise[0], state, action)
        feature = model.feature(params, state)
        return (state, feature), (feature, action, distribution)

    noise = latent_noise, action_noise
    # Storing only matrix products for the backward pass and computing the rest again
    # halves its time on CPU: there the elementwise results cost memory traffic.
    kept = jax.checkpoint_policies.dots_saveable
    _, (features, actions, policies) = recurrent_scan(step, (start, first), noise, kept)
    return Trajectory(
        jnp.concatenate([first[None], features]),
        jnp.concatenate([jnp.zeros_like(actions[:1]), actions]),
        policies,
    )


CONTEXT = 5
"""Rows that the model sees before it predicts with closed eyes."""


def open_loop(
    model: WorldModel,
    params: Params,
    key: Key,
    batch: Rows,
    sequences: int = 6,
    statistics: Statistics | None = None,
) -> dict[str, OpenLoop]:
    """Lets the model watch the first rows of a batch and imagine the rest.

    Args:
        model: The world model.
        params: Its parameters.
        key: For the latents.
        batch: Rows ``[B, T, ...]``; T beyond the context of 5 rows.
        sequences: How many sequences of the batch to use.
        statistics: Of vectors; None for the model's own.

    Returns:
        Truth and prediction of each image that the decoder predicts.
    """
    batch = {name: rows[:sequences] for name, rows in batch.items()}
    keys = jax.random.split(key)
    past = {name: rows[:, :CONTEXT] for name, rows in batch.items()}
    seen = model.observe(params, keys[0], past, statistics=statistics)
    last = jax.tree.map(lambda x: x[:, -1], seen)
    imagined = model.imagine(params, keys[1], last, batch["action"][:, CONTEXT:])
    states = jax.tree.map(lambda a, b: jnp.concatenate([a, b], 1), seen, imagined)
    predictions = model.decode(params, states)
    return {
        name: OpenLoop(batch[name], jnp.clip(mean * 255, 0, 255).astype(jnp.uint8))
        for name, mean in predictions.items()
        if model.observations[name].kind == "image"
    }
