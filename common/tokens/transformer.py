"""A transformer over the numbers of rows, each a token: what dynamics and policies share.

A step of D observation entries o, the reward r that arrived with them and the A entries of
the next action a is one block of L = D + 1 + A tokens:

    ... | o_t,1 ... o_t,D  r_t  a_t+1,1 ... a_t+1,A | o_t+1,1 ...

Observations stand in the order of their sorted keys, each row-major. With u the numbers as
units in [-1, 1], E the embedding of units and P learned vectors,

    x_t,i = E(u_t,i) + P_i,   h = transformer(x),   logits = W_out n(h)

where attention has a learned bias for each distance in steps. Tokens see those before them,
or their whole block and those before it. They attend to ``context`` steps, the present one
included.

Bodies of different sizes are padded to the largest. Entries that a body lacks are masked:
no other token sees them. Nothing else names the body.

Keys and values of a context are computed once. ``branch`` lets J imagined futures share
them; each has keys and values of its own for what it imagines,

    2 layers kv_heads width / heads   floats for each token, L tokens for each step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from common.distributions import uniform_noise
from common.nets.attention import KeysAndValues, make_layer
from common.nets.layers import Dense, LayerNorm, layer_norm
from common.tokens.config import TDMConfig
from common.tokens.tokeniser import Tokeniser
from common.types import Array, Key

OCTAVES = 6
"""Frequencies of the embedding "fourier", each twice the one before."""

Cache = tuple[tuple[Array, ...], tuple[Array, ...]]
"""Keys and values of each layer, ``[N, kv_heads, M, width / heads]`` for M tokens."""


class Context(NamedTuple):
    """What is remembered of observed rows; M tokens.

    Attributes:
        keys: Of each layer ``[N, kv_heads, M, width / heads]``.
        values: In the shape of the keys.
        seen: Tokens that later ones see, by episode and body ``[N, M]``.
        last: What the first imagined step begins with: of the dynamics, the newest
            observation and reward as units ``[N, D + 1]``; of the policy, the output at the
            newest reward ``[N, width]``.
        present: Which tokens of a block the body has ``[N, L]``.
    """

    keys: tuple[Array, ...]
    values: tuple[Array, ...]
    seen: Array
    last: Array
    present: Array


class Futures(NamedTuple):
    """J futures of each context, imagined so far; S tokens of room.

    Attributes:
        context: What all futures of a row share.
        keys: Of each layer, futures of a row side by side ``[N J, kv_heads, S, width / heads]``.
        values: In the shape of the keys.
        last: What the next step begins with, as in the context ``[N, J, ...]``.
        count: Steps imagined so far, int32.
    """

    context: Context
    keys: tuple[Array, ...]
    values: tuple[Array, ...]
    last: Array
    count: Array


def branch(context: Context, candidates: int, steps: int) -> Futures:
    """Returns J futures of each context, with room for so many steps and nothing imagined yet."""

    def room(x: Array) -> Array:
        count, groups, _, size = x.shape
        return jnp.zeros((count * candidates, groups, steps * context.present.shape[1], size))

    last = jnp.repeat(context.last[:, None], candidates, 1)
    keys, values = jax.tree.map(room, (context.keys, context.values))
    return Futures(context, keys, values, last, jnp.zeros((), jnp.int32))


class TokenTransformer:
    """Weights of the transformer, and its two ways of running; for use in a Haiku module."""

    def __init__(self, config: TDMConfig, observation_size: int, action_size: int, *, blocks: bool):
        """Creates all weights.

        Args:
            config: Sizes and the embedding.
            observation_size: Observation entries of the largest body, D.
            action_size: Action entries of the largest body, A.
            blocks: Whether tokens see their whole block and not only those before them.
        """
        self._config, self._blocks = config, blocks
        self.block = observation_size + 1 + action_size
        normal = hk.initializers.RandomNormal(0.1)
        inputs = config.bins if config.embedding == "bins" else 1 + 2 * OCTAVES
        self._embedding = hk.get_parameter("embedding", (inputs, config.width), init=normal)
        self._place = hk.get_parameter("place", (self.block, config.width), init=normal)
        self._layers = [
            make_layer(
                f"layer{layer}",
                width=config.width,
                heads=config.heads,
                kv_heads=config.kv_heads,
                units=config.units,
                window=config.context,
            )
            for layer in range(config.layers)
        ]
        self._norm = LayerNorm(name="norm").parameters(config.width)
        self._out = Dense(config.bins, name="out").parameters(config.width)

    def observe(self, units: Array, group: Array, present: Array) -> tuple[Array, Cache, Array]:
        """Runs over all tokens at once.

        Args:
            units: Of tokens in their order, the last block perhaps unfinished ``[N, n]``.
            group: Tokens see only those with the number of their own ``[N, n]``.
            present: Which tokens of a block the body has ``[N, L]``.

        Returns:
            Outputs ``[N, n, width]``, keys and values, and the tokens that later ones of the
            last token's group see ``[N, n]``.
        """
        index = jnp.arange(units.shape[1])
        blocks = -(-index.size // self.block)
        present = jnp.tile(present, (1, blocks))[:, : index.size]
        mask, distance = self._reach(index, index)
        mask = mask & (group[:, :, None] == group[:, None])
        mask &= present[:, None] | jnp.eye(index.size, dtype=bool)

        x = self._embed(units, index, present)
        keys, values = [], []
        for layer in self._layers:
            x, (memory,) = layer(x, lambda key, value: (KeysAndValues(key, value, mask, distance),))
            keys.append(memory.keys)
            values.append(memory.values)
        return x, (tuple(keys), tuple(values)), present & (group == group[:, -1:])

    def extend(
        self, context: Context, cache: Cache, begin: Array, units: Array
    ) -> tuple[Array, Cache]:
        """Appends tokens to imagined ones.

        Args:
            context: What was observed.
            cache: Keys and values of imagined tokens.
            begin: Imagined tokens so far.
            units: The next tokens ``[N J, n]``.

        Returns:
            Outputs ``[N J, n, width]``, and the cache with the new tokens.
        """
        count, length = context.seen.shape
        present = jnp.repeat(context.present, units.shape[0] // count, 0)
        index = length + begin + jnp.arange(units.shape[1])
        near, far = self._reach(index, jnp.arange(length))
        shared = near & context.seen[:, None], far
        imagined = length + jnp.arange(cache[0][0].shape[2])
        near, far = self._reach(index, imagined)
        has_key = present[:, imagined % self.block][:, None]
        own = near & (has_key | (index[:, None] == imagined)), far

        x = self._embed(units, index, present[:, index % self.block])
        layers = []
        for layer, *observed, keys, values in zip(
            self._layers, context.keys, context.values, *cache, strict=True
        ):

            def remember(key: Array, value: Array, keys=keys, values=values, observed=observed):
                pairs = (keys, key), (values, value)
                both = (jax.lax.dynamic_update_slice_in_dim(*pair, begin, 2) for pair in pairs)
                return KeysAndValues(*observed, *shared), KeysAndValues(*both, *own)

            x, (_, imagined_now) = layer(x, remember)
            layers.append(imagined_now[:2])
        return x, tuple(zip(*layers, strict=True))

    def draw(
        self,
        context: Context,
        cache: Cache,
        begin: Array,
        hidden: Array,
        keys: Array,
        choose: Callable[[Key, Array], Array],
    ) -> tuple[Array, Cache]:
        """Chooses tokens one after another, each given those before it.

        Args:
            context: What was observed.
            cache: Keys and values of imagined tokens.
            begin: Imagined tokens so far.
            hidden: The output whose logits are those of the first token ``[N J, width]``.
            keys: One for each token ``[n]``.
            choose: ``(key, logits [..., bins]) -> units [...]``.

        Returns:
            Units ``[N J, n]``, and the cache with all new tokens but the last.
        """
        first = choose(keys[0], self.logits(hidden))

        def entry(carry: tuple, now: tuple[Array, Key]) -> tuple[tuple, Array]:
            unit, cache = carry
            place, key = now
            hidden, cache = self.extend(context, cache, begin + place, unit[:, None])
            unit = choose(key, self.logits(hidden[:, 0]))
            return (unit, cache), unit

        places = jnp.arange(keys.shape[0] - 1)
        (_, cache), others = jax.lax.scan(entry, (first, cache), (places, keys[1:]))
        return jnp.concatenate([first[:, None], others.swapaxes(0, 1)], 1), cache

    def logits(self, hidden: Array) -> Array:
        """Turns outputs ``[..., width]`` into the logits of later tokens ``[..., bins]``."""
        kernel, bias = self._out
        return (layer_norm(hidden, *self._norm) @ kernel + bias).astype(jnp.float32)

    def _reach(self, queries: Array, keys: Array) -> tuple[Array, Array]:
        """Which places a token sees by order and distance, and the distances in steps."""
        distance = queries[:, None] // self.block - keys // self.block
        earlier = distance >= 0 if self._blocks else queries[:, None] >= keys
        return earlier & (distance < self._config.context), distance

    def _embed(self, units: Array, index: Array, present: Array) -> Array:
        """Embeds tokens ``[N, n]`` at some places ``[n]``; what a body lacks has no value."""
        if self._config.embedding == "bins":
            place = jnp.clip((units + 1) / 2 * self._config.bins - 0.5, 0, self._config.bins - 1)
            below = jnp.minimum(place.astype(jnp.int32), self._config.bins - 2)
            share = (place - below)[..., None]
            value = (1 - share) * self._embedding[below] + share * self._embedding[below + 1]
        else:
            units = jnp.clip(units, -1, 1)[..., None]
            angle = units * jnp.pi * 2.0 ** jnp.arange(OCTAVES)
            value = jnp.concatenate([units, jnp.sin(angle), jnp.cos(angle)], -1) @ self._embedding
        return value * present[..., None] + self._place[index % self.block]


def choose(tokens: Tokeniser, decode: str, key: Key, logits: Array) -> Array:
    """Turns logits ``[..., bins]`` into units ``[...]``.

    Args:
        tokens: The bins.
        decode: A "sample", the "mean" value, or the centre of the likeliest bin, "argmax".
        key: For samples.
        logits: Of all bins.
    """
    if decode == "argmax":
        return tokens.center(logits.argmax(-1))
    probs = jax.nn.softmax(logits)
    if decode == "mean":
        return tokens.mean(probs)
    # Inverse CDF: one uniform instead of a Gumbel variable for each bin.
    reached = jnp.cumsum(probs, -1)
    noise = uniform_noise(key, logits.shape[:-1])[..., None] * reached[..., -1:]
    return tokens.center((reached < noise).sum(-1))


def cross_entropy(logits: Array, target: Array) -> Array:
    """Returns -log p of target tokens ``[...]`` by logits ``[..., bins]``."""
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), target[..., None], -1)[..., 0]


def mean_where(x: Array, counts: Array) -> Array:
    """Returns the mean of the entries that count, 0 where none does."""
    return jnp.where(counts, x, 0).sum() / jnp.maximum(counts.sum(), 1)
