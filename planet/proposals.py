"""Sequences that planners try besides those drawn from their belief."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from common.spaces import ActionSpec
from common.types import Array, Key, Params
from planet.beliefs import draw_noise, in_one_hots, initial_belief, sample
from planet.search import Proposal


def random_walk(actions: ActionSpec, amount: int, horizon: int, step: float = 0.3) -> Proposal:
    """Sequences whose actions change little from step to step.

    Continuous entries start uniformly and take normal steps, clipped to [-1, 1]; a one-hot
    block makes a new random choice with probability ``step`` and else keeps the last one.

    Args:
        actions: The flat action vector.
        amount: Sequences for each environment.
        horizon: Steps of a sequence.
        step: Standard deviation of a step, and probability of a new choice.
    """

    def propose(params: Params, key: Key, start: Any) -> Array:
        num_envs = jax.tree.leaves(start)[0].shape[0]
        keys = jax.random.split(key, 4)
        # Drawn from the initial belief: choices are uniform, continuous entries normal.
        begin = initial_belief(actions, num_envs, horizon)
        noise = draw_noise(keys[0], actions, (num_envs, amount, horizon))
        drawn = sample(noise, begin, actions)
        first = jax.random.uniform(keys[1], drawn.shape[:2] + drawn.shape[3:], minval=-1)
        noise = step * jax.random.normal(keys[2], drawn.shape)
        renew = jax.random.uniform(keys[3], drawn.shape[:3]) < step
        categorical = in_one_hots(actions)

        def move(last: Array, now: tuple[Array, Array, Array]) -> tuple[Array, Array]:
            choice, noise, renew = now
            kept = jnp.where(renew[..., None], choice, last)
            action = jnp.where(categorical, kept, jnp.clip(last + noise, -1, 1))
            return action, action

        begin = jnp.where(categorical, drawn[:, :, 0], first)
        steps = jax.tree.map(lambda x: jnp.moveaxis(x, 2, 0), (drawn, noise, renew))
        _, walked = jax.lax.scan(move, begin, steps)
        return jnp.moveaxis(walked, 0, 2)

    return propose
