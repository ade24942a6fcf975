"""Episodic curiosity's network: is one observation within k steps of another (arXiv:1810.02274)?

A comparator gets what the encoder makes of two observations, e_i and e_j, and answers with the
probability that few steps lie between them. From every replayed row i one later row of the same
episode is drawn that is near, 1 to k steps away, and one that is far, more than g k steps (k is
5 and g is 5 as published), where the window holds such:

    L = − ½ mean of ln p(e_i, e_near) − ½ mean of ln (1 − p(e_i, e_far))

Each pair comes in random order. The paper draws as many of both; here each kind weighs one half.
The bonus itself is computed while acting, see ``memory``, and noted with the rows; the network
learns from replayed ones, with the encoder as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from common.nets.layers import INITS, MLP, Dense
from common.nets.precision import Precision, wrap
from common.types import Array, Key, Params
from dreamer.exploration.config import CuriosityConfig, ExplorationConfig
from dreamer.exploration.intrinsic import Intrinsic, Seen, Sizes
from dreamer.exploration.memory import BONUS
from dreamer.exploration.stream import make_stream


class Pairs(NamedTuple):
    """Rows of windows, each with another one.

    Attributes:
        near: Numbers of the near row ``[B, T]``.
        far: Numbers of the far row ``[B, T]``.
        near_counts: Whether there is a near row ``[B, T]``.
        far_counts: Whether there is a far row ``[B, T]``.
    """

    near: Array
    far: Array
    near_counts: Array
    far_counts: Array


def draw_pairs(noise: Array, is_first: Array, steps: int, gap: int) -> Pairs:
    """Draws a near and a far row for each row of a batch.

    Args:
        noise: Uniforms ``[2, B, T]``, for near and far rows.
        is_first: Whether rows begin an episode ``[B, T]``.
        steps: Largest distance of a near row, k.
        gap: Far rows are further away than this many times k.
    """
    length = is_first.shape[1]
    row = jnp.arange(length)
    # The last row of the episode of each row, which is before the next beginning.
    begins = jnp.where(is_first, row, length)
    following = jnp.concatenate([begins[:, 1:], jnp.full((len(begins), 1), length)], 1)
    last = jax.lax.cummin(following, 1, reverse=True) - 1

    def draw(noise: Array, low: Array, high: Array) -> tuple[Array, Array]:
        amount = high - low + 1
        offset = jnp.floor(noise * amount).astype(jnp.int32)
        found = low + jnp.clip(offset, 0, jnp.maximum(amount - 1, 0))
        return jnp.clip(found, 0, length - 1), amount > 0

    near, near_counts = draw(noise[0], row + 1, jnp.minimum(row + steps, last))
    far, far_counts = draw(noise[1], row + steps * gap + 1, last)
    return Pairs(near, far, near_counts, far_counts)


class Comparator(NamedTuple):
    """The network, as pure functions.

    Attributes:
        init: ``(key) -> params``.
        compare: ``(params, x [..., E], y [..., E]) -> logits [...]`` of being near; leading axes
            are broadcast.
    """

    init: Callable[[Key], Params]
    compare: Callable[[Params, Array, Array], Array]


def make_comparator(config: CuriosityConfig, embed: int, precision: Precision) -> Comparator:
    """Builds the network.

    Args:
        config: Its layers.
        embed: Entries of what the encoder makes of an observation, E.
        precision: Number format of the layers' arithmetic.
    """
    layers = config.layers, config.units, config.activation, config.norm

    def network(x: Array, y: Array) -> Array:
        hidden = MLP(*layers, init=config.init)(jnp.concatenate(jnp.broadcast_arrays(x, y), -1))
        return Dense(1, "out", INITS[config.init])(hidden)[..., 0]

    both = hk.without_apply_rng(hk.transform(network))
    empty = jnp.zeros((1, embed))
    return Comparator(lambda key: both.init(key, empty, empty), wrap(both.apply, precision))


def comparator_loss(
    logits_near: Array, logits_far: Array, pairs: Pairs
) -> tuple[Array, dict[str, Array]]:
    """Returns the loss of the module's docstring, and how often the answer is right.

    Args:
        logits_near: Of the near pairs ``[B, T]``.
        logits_far: Of the far pairs ``[B, T]``.
        pairs: Which of them there are.
    """

    def mean(values: Array, counts: Array) -> Array:
        weight = counts.astype(jnp.float32)
        return (weight * values).sum() / jnp.maximum(weight.sum(), 1)

    near = mean(jax.nn.softplus(-logits_near), pairs.near_counts)
    far = mean(jax.nn.softplus(logits_far), pairs.far_counts)
    right = mean(logits_near > 0, pairs.near_counts), mean(logits_far < 0, pairs.far_counts)
    value = 0.5 * (near + far)
    return value, {"comparator_loss": value, "near_right": right[0], "far_right": right[1]}


def make_curiosity(
    config: ExplorationConfig, sizes: Sizes, precision: Precision, comparator: Comparator
) -> Intrinsic:
    """Builds the reward: a head of the noted bonuses, beside the network that these come from.

    Args:
        config: Head, steps and gap.
        sizes: Of what the world model infers.
        precision: Number format of the layers' arithmetic.
        comparator: The network.
    """
    curiosity = config.curiosity
    head = make_stream(config.head, sizes, precision, noted)

    def init(key: Key) -> Params:
        keys = jax.random.split(key)
        return {"head": head.init(keys[0]), "comparator": comparator.init(keys[1])}

    def draw_noise(key: Key, shape: tuple[int, int]) -> Array:
        return jax.random.uniform(key, (4, *shape))

    def loss(params: Params, noise: Array, seen: Seen) -> tuple[Array, dict[str, Array]]:
        value, metrics = head.loss(params["head"], None, seen)
        embed, rows = seen.losses.embed, jnp.arange(noise.shape[1])[:, None]
        pairs = draw_pairs(noise[:2], seen.batch["is_first"], curiosity.steps, curiosity.gap)

        def compare(other: Array, order: Array) -> Array:
            turned = (order < 0.5)[..., None]
            first, second = jnp.where(turned, embed, other), jnp.where(turned, other, embed)
            return comparator.compare(params["comparator"], first, second)

        near = compare(embed[rows, pairs.near], noise[2])
        far = compare(embed[rows, pairs.far], noise[3])
        apart, more = comparator_loss(near, far, pairs)
        return value + apart, metrics | more

    return Intrinsic(init, loss, lambda params, x: head.reward(params["head"], x), draw_noise)


def noted(seen: Seen) -> tuple[Array, Array]:
    """Returns the bonuses that were noted with rows ``[B, T]``, and which rows have one."""
    bonus = seen.batch[BONUS]
    return bonus[..., 0], bonus[..., 1] > 0
