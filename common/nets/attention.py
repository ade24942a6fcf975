"""Transformer blocks over a sliding window, as pure functions of their weights.

Shape letters beside the glossary: M tokens remembered from before, G heads of keys and
values, E entries of one head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from common.nets.layers import Dense, LayerNorm, layer_norm
from common.nets.products import product
from common.types import Array

Block = Callable[[Array, Array, Array, Array], tuple[Array, Array, Array]]
"""(tokens [N, T, D], keys [N, G, M, E], values [N, G, M, E], mask [N, T, M + T]) -> the next
tokens [N, T, D], and keys and values [N, G, M + T, E] with those of the T tokens behind."""


class KeysAndValues(NamedTuple):
    """Keys and values that queries attend to.

    A memory of N rows may serve R rows of queries, R / N of them side by side: what they
    share is stored, and multiplied, once.

    Attributes:
        keys: ``[N, G, S, E]``.
        values: ``[N, G, S, E]``.
        mask: Which keys each query sees ``[N, T, S]``; ``[N, 1, S]`` where all see the same.
        distance: From each key to each query, whose bias applies ``[T, S]``.
    """

    keys: Array
    values: Array
    mask: Array
    distance: Array


Remember = Callable[[Array, Array], Sequence[KeysAndValues]]
"""(keys [R, G, T, E], values [R, G, T, E] of the present tokens) -> all they attend to."""
Layer = Callable[[Array, Remember], tuple[Array, Sequence[KeysAndValues]]]
"""(tokens [R, T, D], remember) -> the next tokens [R, T, D], and what ``remember`` returned."""


def make_block(
    name: str, *, width: int, heads: int, kv_heads: int, units: int, window: int
) -> Block:
    """Creates a layer, see ``make_layer``, that attends to the newest tokens of its sequence.

    The mask must hide what is not within the window.
    """
    layer = make_layer(
        name, width=width, heads=heads, kv_heads=kv_heads, units=units, window=window
    )

    def block(x: Array, keys: Array, values: Array, mask: Array) -> tuple[Array, Array, Array]:
        def remember(key: Array, value: Array) -> Sequence[KeysAndValues]:
            length, steps = mask.shape[2], x.shape[1]
            distance = jnp.arange(length - steps, length)[:, None] - jnp.arange(length)
            both = (jnp.concatenate(pair, 2) for pair in ((keys, key), (values, value)))
            return (KeysAndValues(*both, mask, distance),)

        x, (memory,) = layer(x, remember)
        return x, memory.keys, memory.values

    return block


def make_layer(
    name: str, *, width: int, heads: int, kv_heads: int, units: int, window: int
) -> Layer:
    """Creates the weights of a layer inside a Haiku transform.

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
        window: Distances that have a bias, 0 to window - 1; larger ones share the last.
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

    def layer(x: Array, remember: Remember) -> tuple[Array, Sequence[KeysAndValues]]:
        mixed = _affine(layer_norm(x, *norm), mix_in)
        query, key, value = (
            part.reshape(*x.shape[:2], -1, size).swapaxes(1, 2)
            for part in jnp.split(mixed, (sizes[0], sizes[0] + sizes[1]), -1)
        )
        memories = remember(key, value)
        y = x + _affine(_attend(query, memories, distances), mix_out)
        hidden = jax.nn.gelu(_affine(layer_norm(y, *feed_norm), feed_in))
        return y + _affine(hidden, feed_out), memories

    return layer


class _Distances(hk.Module):
    """Creates the bias of each head and distance; at first distances do not matter."""

    def __call__(self, heads: int, window: int) -> Array:
        return hk.get_parameter("bias", (heads, window), init=jnp.zeros)


def _attend(query: Array, memories: Sequence[KeysAndValues], distances: Array) -> Array:
    """Mixes the values of all memories for queries ``[R, heads, T, E]``; returns ``[R, T, D]``."""
    rows, heads, steps, size = query.shape
    scores = [_scores(query, memory, distances) for memory in memories]
    weights = jax.nn.softmax(jnp.concatenate(scores, -1))
    mixed, begin = 0.0, 0
    for memory in memories:
        count, groups, length, _ = memory.values.shape
        shared, queries = rows // count, heads // groups * steps
        part = weights[..., begin : begin + length].astype(memory.values.dtype)
        begin += length
        part = part.reshape(count, shared, groups, queries, length).swapaxes(1, 2)
        part = part.reshape(count, groups, shared * queries, length) @ memory.values
        part = part.reshape(count, groups, shared, queries, size).swapaxes(1, 2)
        mixed += part.reshape(rows, heads, steps, size)
    return mixed.swapaxes(1, 2).reshape(rows, steps, heads * size)


def _scores(query: Array, memory: KeysAndValues, distances: Array) -> Array:
    """Scores of the keys of one memory ``[R, heads, T, S]``, -inf where they are masked."""
    rows, heads, steps, size = query.shape
    count, groups, length, _ = memory.keys.shape
    shared, queries = rows // count, heads // groups * steps
    # Heads that share keys, and rows that share a memory, are rows of the same matrix product.
    query = query.reshape(count, shared, groups, queries, size).swapaxes(1, 2)
    scores = query.reshape(count, groups, shared * queries, size) @ memory.keys.swapaxes(2, 3)
    scores = scores.reshape(count, groups, shared, queries, length).swapaxes(1, 2)
    scores = scores.reshape(count, shared, heads, steps, length)
    index = jnp.clip(memory.distance, 0, distances.shape[1] - 1)
    scores = scores.astype(jnp.float32) * size**-0.5 + jnp.take(distances, index, axis=1)
    return jnp.where(memory.mask[:, None, None], scores, -jnp.inf).reshape(rows, *scores.shape[2:])


def _affine(x: Array, weights: tuple[Array, Array]) -> Array:
    return product(x, weights[0]) + weights[1]
