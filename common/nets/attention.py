"""Transformer blocks over a sliding window, as pure functions of their weights.

Shape letters beside the glossary: M tokens remembered from before, G heads of keys and
values, E entries of one head.
"""

from __future__ import annotations

from collections.abc import Callable

import haiku as hk
import jax
import jax.numpy as jnp

from common.nets.layers import Dense, LayerNorm, layer_norm
from common.types import Array

Block = Callable[[Array, Array, Array, Array], tuple[Array, Array, Array]]
"""(tokens [N, T, D], keys [N, G, M, E], values [N, G, M, E], mask [N, T, M + T]) -> the next
tokens [N, T, D], and keys and values [N, G, M + T, E] with those of the T tokens behind."""


def make_block(
    name: str, *, width: int, heads: int, kv_heads: int, units: int, window: int
) -> Block:
    """Creates the weights of a block inside a Haiku transform.

    With n the layer norm, x the tokens and t, s their places in time:

        q, k, v = split(W n(x) + b),  weights = softmax_s(q_t k_s / sqrt(E) + bias_{t-s})
        y  = x + W_o weights v
        x' = y + W_2 gelu(W_1 n(y))

    Positions enter as a learned bias for each head and distance (T5, arXiv:1910.10683),
    so that what a block computes does not depend on where a sequence was cut. Query heads
    share ``kv_heads`` heads of keys and values (arXiv:2305.13245), which makes what has to be
    remembered ``heads / kv_heads`` times smaller.

    Args:
        name: Prefix of the layers' names.
        width: Entries of a token, D.
        heads: Heads of queries; E = width / heads.
        kv_heads: Heads of keys and values, G.
        units: Units of the feed-forward part.
        window: Distances that have a bias, 0 to window - 1; the mask must hide larger ones.
    """
    size = width // heads
    sizes = width, kv_heads * size, kv_heads * size

    def dense(part: str, inputs: int, outputs: int) -> tuple[Array, Array]:
        return Dense(outputs, name=f"{name}_{part}").parameters(inputs)

    norm = LayerNorm(name=f"{name}_norm").parameters(width)
    mix_in, mix_out = dense("mix_in", width, sum(sizes)), dense("mix_out", width, width)
    distances = _Distances(name=f"{name}_distance")(heads, window)
    feed_norm = LayerNorm(name=f"{name}_feed_norm").parameters(width)
    feed_in, feed_out = dense("feed_in", width, units), dense("feed_out", units, width)

    def block(x: Array, keys: Array, values: Array, mask: Array) -> tuple[Array, Array, Array]:
        mixed = _affine(layer_norm(x, *norm), mix_in)
        query, key, value = (
            part.reshape(*x.shape[:2], -1, size).swapaxes(1, 2)
            for part in jnp.split(mixed, (sizes[0], sizes[0] + sizes[1]), -1)
        )
        keys = jnp.concatenate([keys, key], 2)
        values = jnp.concatenate([values, value], 2)
        y = x + _affine(_attend(query, keys, values, mask, distances), mix_out)
        hidden = jax.nn.gelu(_affine(layer_norm(y, *feed_norm), feed_in))
        return y + _affine(hidden, feed_out), keys, values

    return block


class _Distances(hk.Module):
    """Creates the bias of each head and distance; at first distances do not matter."""

    def __call__(self, heads: int, window: int) -> Array:
        return hk.get_parameter("bias", (heads, window), init=jnp.zeros)


def _attend(query: Array, keys: Array, values: Array, mask: Array, distances: Array) -> Array:
    """Mixes values ``[N, G, S, E]`` for queries ``[N, heads, T, E]``; returns ``[N, T, D]``.

    The queries belong to the last T of the S tokens.
    """
    batch, heads, steps, size = query.shape
    groups, length = keys.shape[1:3]
    grouped = heads // groups, steps
    # Heads that share keys are rows of the same matrix product.
    query = query.reshape(batch, groups, -1, size)
    scores = (query @ keys.swapaxes(2, 3)).astype(jnp.float32) * size**-0.5
    scores = scores.reshape(batch, groups, *grouped, length)
    distance = jnp.arange(length - steps, length)[:, None] - jnp.arange(length)
    bias = jnp.take(distances, jnp.clip(distance, 0, distances.shape[1] - 1), axis=1)
    scores += bias.reshape(groups, *grouped, length)
    weights = jax.nn.softmax(jnp.where(mask[:, None, None], scores, -jnp.inf))
    mixed = weights.astype(values.dtype).reshape(batch, groups, -1, length) @ values
    mixed = mixed.reshape(batch, heads, steps, size).swapaxes(1, 2)
    return mixed.reshape(batch, steps, heads * size)


def _affine(x: Array, weights: tuple[Array, Array]) -> Array:
    return x @ weights[0] + weights[1]
