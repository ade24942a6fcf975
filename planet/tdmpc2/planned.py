"""TD-MPC2's model as planners see it: its memory is the newest latent state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp

from common.types import Array, Key, Params, Rows
from planet.model import Memory, PlannedModel
from planet.search import Future
from planet.tdmpc2.model import Model
from planet.value import Guide

ENDED = 0.5
"""Probability above which an imagined episode is over."""


def planned_model(
    model: Model, size: int, discount: float | Sequence[float], all_members: bool
) -> PlannedModel:
    """Returns the interface of planned models; what learns it is ``planet.tdmpc2.learn``.

        z_{k+1}, reward_k, e_k = step(z_k, a_k),  continues_k = [e_k <= 0.5]
        value = Q(z_H, a), a ~ policy(z_H), by two members of the ensemble, drawn for all

    Args:
        model: The model.
        size: Entries of a state: L, and one for each of several tasks.
        discount: Of the next value; of several tasks, for each.
        all_members: Whether values are those of all members, and not of two.
    """

    def initial(num_envs: int) -> Array:
        return jnp.zeros((num_envs, size))

    def remember(params: Params, keys: Array, memory: Array, rows: Rows) -> Array:
        del memory  # What is seen now says all.
        shift = model.draw_shift(keys[0], rows["is_first"].shape)
        return model.encode(params, rows, shift)

    def start(params: Params, keys: Array, memory: Array) -> Array:
        del params, keys
        return memory

    def follow(params: Params, start: Array, actions: Array) -> tuple[Array, Any]:
        step = lambda z, action: _forward(model, params, z, action)  # noqa: E731
        return jax.lax.scan(step, start, actions)

    def imagine(params: Params, key: Key, start: Array, actions: Array) -> tuple[dict, Array]:
        del key  # Nothing is drawn, and nothing that was seen is predicted.
        _, (reward, _) = follow(params, start, actions.swapaxes(0, 1))
        return {}, reward.swapaxes(0, 1)

    def rollout(params: Params, key: Key, start: Array, actions: Array) -> Future:
        del key
        chex.assert_rank([start, actions], [2, 4])
        z = jnp.broadcast_to(start[:, None], (*actions.shape[:2], start.shape[1]))
        last, (reward, ended) = follow(params, z, jnp.moveaxis(actions, 2, 0))
        each = lambda x: jnp.moveaxis(x, 0, 2)  # noqa: E731
        continues = None if ended is None else each((ended <= ENDED).astype(jnp.float32))
        return Future(each(reward), continues, last)

    def value(params: Params, key: Key, z: Array) -> Array:
        keys = jax.random.split(key)
        action = model.policy(params, keys[0], z)
        if all_members:
            return model.values(params, z, action)
        return model.value(params, keys[1], z, action)[None]

    def step(params: Params, key: Key, z: Array, action: Array) -> Array:
        del key
        return model.step(params, z, action)[0]

    def own_discount(z: Array) -> Array:
        return model.task(z) @ jnp.asarray(discount)

    factor = own_discount if model.task else discount
    guide = Guide(value, model.policy, step, factor, mask=model.mask)
    memory = Memory(initial, remember, draws=1)
    return PlannedModel(None, None, memory, start, imagine, rollout, guide)


def _forward(model: Model, params: Params, z: Array, action: Array) -> tuple[Array, Any]:
    z, reward, ended = model.step(params, z, action)
    return z, (reward, ended)
