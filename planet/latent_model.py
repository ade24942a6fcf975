"""A world model as planners see it: its memory is a latent state, imagination is its prior."""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from common.agent import NORMALISERS
from common.dynamics.base import State
from common.learning.constraint import MULTIPLIER, penalised
from common.model.vectors import Statistics
from common.model.world_model import WorldModel
from common.rows import without_latents
from common.types import Array, Key, Params, Rows
from planet.model import Memory, PlannedModel
from planet.search import Future, Rollout


class Learned(NamedTuple):
    """What a world model has learned, and what it has counted.

    Attributes:
        params: Of its ``init``.
        statistics: Of vectors; None for the model's own.
        multiplier: Weight of the cost that it predicts; None where no costs count.
    """

    params: Params
    statistics: Statistics | None
    multiplier: Array | None = None


def learned_part(params: Params) -> Learned:
    """Returns what planning takes of an agent's parameters for acting, whose world model it is."""
    counted = params.get(NORMALISERS, {})
    return Learned(params["world_model"], counted.get("vectors"), counted.get(MULTIPLIER))


def latent_model(model: WorldModel, image_bits: int = 8) -> PlannedModel:
    """Returns the interface of planned models of a world model.

    Args:
        model: The world model; params are ``Learned``.
        image_bits: Bits that the memory sees of images; ``loss`` takes what it is given.
    """
    score = latent_rollout(model)

    def init(key: Key) -> Learned:
        return Learned(model.init(key), model.statistics)

    def loss(learned: Learned, key: Key, batch: Rows) -> tuple[Array, dict[str, Array]]:
        return model.loss(
            learned.params, key, batch, statistics=learned.statistics, float_images=True
        )

    def remember(learned: Learned, keys: Array, state: State, rows: Rows) -> State:
        rows = quantize_images(keys[0], rows, image_bits)
        noise = model.draw_noise(keys[1], rows["is_first"].shape)
        return model.observe_step(
            learned.params, noise, state, rows, learned.statistics, float_images=True
        )

    def start(learned: Learned, keys: Array, state: State) -> State:
        del learned, keys
        return state

    def imagine(
        learned: Learned, key: Key, start: State, actions: Array
    ) -> tuple[dict[str, Array], Array]:
        params, statistics, _ = learned
        states = model.imagine(params, key, start, actions)
        reward = model.reward(params, model.feature(params, states)).mean()
        return model.decode(params, states, statistics), reward

    def rollout(learned: Learned, key: Key, start: State, actions: Array) -> Future:
        return score(learned.params, key, start, actions, learned.multiplier)

    memory = Memory(model.initial, remember, draws=2)
    return PlannedModel(init, loss, memory, start, imagine, rollout)


def latent_rollout(model: WorldModel) -> Rollout:
    """Predicts mean rewards along one sampled trajectory of each sequence.

        reward_k = r(s_k) - λ c(s_k),  continues_k = p(s_k goes on),  s_k ~ prior(s_{k-1}, a_k)

    Without a discount head the model knows of no ends; without a multiplier λ no costs count.

    Args:
        model: The world model; params are those of its ``init``, start is a state ``[N]``.
    """

    def rollout(
        params: Params, key: Key, start: Any, actions: Array, multiplier: Array | None = None
    ) -> Future:
        chex.assert_rank(actions, 4)
        num_envs, candidates, horizon, size = actions.shape
        chex.assert_equal(size, model.actions.size)
        chex.assert_tree_shape_prefix(start, (num_envs,))
        amount = num_envs * candidates
        # Candidates of one environment stay side by side: [N, J] -> [N J].
        states = jax.tree.map(lambda x: jnp.repeat(x, candidates, axis=0), start)
        noise = model.draw_noise(key, (horizon, amount))
        steps = actions.reshape(amount, horizon, size).swapaxes(0, 1)

        def step(state: Any, now: tuple[Array, Array]) -> tuple[Any, Array]:
            state = model.imagine_step(params, now[1], state, now[0])
            return state, model.feature(params, state)

        last, features = jax.lax.scan(step, states, (steps, noise))
        each = lambda x: jnp.moveaxis(x, 0, 1).reshape(num_envs, candidates, horizon)  # noqa: E731
        continues = None
        if model.config.predict_discount:
            discount = model.discount(params, features).mean()
            continues = each(discount / model.config.discount_factor)
        last = jax.tree.map(lambda x: x.reshape(num_envs, candidates, *x.shape[1:]), last)
        reward = model.reward(params, features).mean()
        if multiplier is not None:
            reward = penalised(reward, model.cost(params, features).mean(), multiplier)
        return Future(each(reward), continues, last)

    return rollout


def quantize_images(key: Key, rows: Rows, bits: int) -> Rows:
    """Reduces uint8 images to some bits and fills the rest with noise.

    ``floor(x / 2^(8 - bits)) / 2^bits + U(0, 1 / 2^bits) - 0.5``, as in PlaNet's code
    (after Kingma and Dhariwal, arXiv:1807.03039). With 8 bits the rows stay as they are.

    Args:
        key: For the noise.
        rows: Arrays; those of type uint8 are images, but for what is kept of latent states.
        bits: Bits to keep, 1 to 8.
    """
    if bits == 8:
        return rows
    levels = 2**bits
    images = sorted(name for name, x in without_latents(rows).items() if x.dtype == jnp.uint8)
    keys = dict(zip(images, jax.random.split(key, max(1, len(images))), strict=False))

    def quantize(name: str) -> Array:
        kept = jnp.asarray(rows[name] // (256 // levels), jnp.float32)
        return (kept + jax.random.uniform(keys[name], kept.shape)) / levels - 0.5

    return {name: quantize(name) if name in keys else x for name, x in rows.items()}
