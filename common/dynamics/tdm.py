"""A transformer over tokens as dynamics of state vectors, in the line of TDM (arXiv:2305.10912).

Every number is a token; see ``common.dynamics.tokens`` for the bins. A step of D observation
entries o, the reward r that arrived with them and the A entries of the next action a is
one block of L = D + 1 + A tokens:

    ... | o_t,1 ... o_t,D  r_t  a_t+1,1 ... a_t+1,A | o_t+1,1 ...

Observations stand in the order of their sorted keys, each row-major. With u the numbers as
units in [-1, 1] (actions are such already), E the embedding of units and P learned vectors,

    x_t,i = E(u_t,i) + P_i,   h = transformer(x),   logits = W_out n(h)

where attention has a learned bias for each distance in steps. The logits at a token
belong to a later one, in either of two orders:

- autoregressive: each token sees those before it and predicts the next one, D + 1 passes
  for each imagined step: p(row | past) = prod_i p(o_i | o_<i, past) p(r | o, past);
- parallel: each token sees its whole block, and that of o_t,i predicts o_t+1,i, that of
  r_t predicts r_t+1, one pass for each step: the entries are independent given the past.

The loss is the mean cross-entropy of observation and reward tokens. First rows of episodes
are given, never predicted, actions are inputs only, and ends of episodes are not modelled.

Bodies of different sizes are padded to the largest. Entries that a body lacks are masked:
no other token sees them, and the loss leaves them out. Nothing else names the body.

Tokens attend to ``context`` steps, the present one included, and never beyond the start of
their episode. ``start`` computes the keys and values of a context once. ``branch`` lets J
imagined futures share them; each has keys and values of its own for what it imagines,

    2 layers kv_heads width / heads   floats for each token, L tokens for each step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from common.distributions import uniform_noise
from common.dynamics.steps import Steps, predicted, present_tokens
from common.dynamics.tdm_config import TDMConfig
from common.dynamics.tokens import Tokeniser
from common.errors import UserError
from common.nets.attention import Memory, make_layer
from common.nets.layers import Dense, LayerNorm, layer_norm
from common.types import Array, Key, Params

OCTAVES = 6
"""Frequencies of the embedding "fourier", each twice the one before."""


class Context(NamedTuple):
    """What is remembered of observed rows; M tokens, D + 1 numbers of a row.

    Attributes:
        keys: Of each layer ``[N, kv_heads, M, width / heads]``.
        values: In the shape of the keys.
        seen: Tokens that belong to the newest episode and to the body ``[N, M]``.
        last: The newest observation and reward as units ``[N, D + 1]``.
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
        last: The newest observations and rewards as units ``[N, J, D + 1]``.
        count: Steps imagined so far, int32.
    """

    context: Context
    keys: tuple[Array, ...]
    values: tuple[Array, ...]
    last: Array
    count: Array


class TDMFunctions(NamedTuple):
    """The model as pure functions.

    Attributes:
        init: ``(key) -> params``.
        predict: ``(params, steps [B, T]) -> logits [B, T - 1, D + 1, bins]`` of the rows behind
            the first, each given all before it (and before it in its row).
        start: ``(params, steps [N, T]) -> Context``; the last row is the present one. A short
            past may be filled up in front: rows before the newest ``is_first`` are hidden.
        imagine_step: ``(params, key, futures, action [N, J, A]) -> (observation [N, J, D],
            reward [N, J], futures)``; ``branch`` makes the first futures.
        loss: ``(params, steps [B, T]) -> (loss, metrics)``.
    """

    init: Callable[[Key], Params]
    predict: Callable[[Params, Steps], Array]
    start: Callable[[Params, Steps], Context]
    imagine_step: Callable[[Params, Key, Futures, Array], tuple[Array, Array, Futures]]
    loss: Callable[[Params, Steps], tuple[Array, dict[str, Array]]]


def functions(config: TDMConfig, observation_size: int, action_size: int) -> TDMFunctions:
    """Returns the model as pure functions; the arguments are those of ``TDM``."""
    expected = 1, observation_size + 1
    if config.tokeniser == "uniform" and len(config.low) not in expected:
        raise UserError(
            f"tdm.low has {len(config.low)} entries; expected 1, or {expected[1]}: "
            f"one for each of {observation_size} observation entries and the reward"
        )

    def methods() -> tuple[Callable, tuple[Callable, ...]]:
        model = TDM(config, observation_size, action_size)
        return lambda: None, (model.predict, model.start, model.imagine_step)

    transformed = hk.without_apply_rng(hk.multi_transform(methods))
    predict, start, imagine_step = transformed.apply

    def loss(params: Params, steps: Steps) -> tuple[Array, dict[str, Array]]:
        return _loss(config.tokens(), predict(params, steps), steps)

    return TDMFunctions(transformed.init, predict, start, imagine_step, loss)


def branch(context: Context, candidates: int, steps: int) -> Futures:
    """Returns J futures of each context, with room for so many steps and nothing imagined yet."""

    def room(x: Array) -> Array:
        count, groups, _, size = x.shape
        return jnp.zeros((count * candidates, groups, steps * context.present.shape[1], size))

    last = jnp.repeat(context.last[:, None], candidates, 1)
    keys, values = jax.tree.map(room, (context.keys, context.values))
    return Futures(context, keys, values, last, jnp.zeros((), jnp.int32))


class TDM(hk.Module):
    """The token-level transformer dynamics; see ``TDMFunctions``."""

    def __init__(self, config: TDMConfig, observation_size: int, action_size: int):
        """Creates all weights.

        Args:
            config: Tokens and sizes.
            observation_size: Observation entries of the largest body, D.
            action_size: Action entries of the largest body, A.
        """
        super().__init__(name="tdm")
        self._config, self._tokens = config, config.tokens()
        self._row, self._block = observation_size + 1, observation_size + 1 + action_size
        normal = hk.initializers.RandomNormal(0.1)
        inputs = config.bins if config.embedding == "bins" else 1 + 2 * OCTAVES
        self._embedding = hk.get_parameter("embedding", (inputs, config.width), init=normal)
        self._place = hk.get_parameter("place", (self._block, config.width), init=normal)
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

    def predict(self, steps: Steps) -> Array:
        """Returns the logits of all rows but the first; see ``TDMFunctions``."""
        hidden = self._observe(steps)[0]
        if self._config.order == "parallel":
            hidden = hidden[:, : -self._block]
        else:
            hidden = hidden[:, self._block - 1 : -1]
        batch, _, width = hidden.shape
        return self._logits(hidden.reshape(batch, -1, self._block, width)[:, :, : self._row])

    def start(self, steps: Steps) -> Context:
        """Returns the memory of observed rows; see ``TDMFunctions``."""
        _, keys, values, seen = self._observe(steps)
        # What the first pass of imagination begins with is not remembered yet.
        more = 0 if self._config.order == "parallel" else self._row - 1
        length = (steps.reward.shape[1] - 1) * self._block + more
        keys, values = jax.tree.map(lambda x: x[:, :, :length], (keys, values))
        last = self._tokens.to_unit(predicted(steps)[:, -1])
        return Context(keys, values, seen[:, :length], last, present_tokens(steps))

    def imagine_step(
        self, key: Key, futures: Futures, action: Array
    ) -> tuple[Array, Array, Futures]:
        """Predicts one step of every future; see ``TDMFunctions``."""
        count, candidates = futures.last.shape[:2]
        keys = jax.random.split(key, self._row)
        last = futures.last.reshape(count * candidates, -1)
        action = action.reshape(count * candidates, -1)
        memory, begin = (futures.keys, futures.values), futures.count * self._block
        if self._config.order == "parallel":
            units = jnp.concatenate([last, action], 1)
            hidden, memory = self._extend(futures.context, memory, begin, units)
            row = self._choose(keys[0], self._logits(hidden[:, : self._row]))
        else:
            units = jnp.concatenate([last[:, -1:], action], 1)
            hidden, memory = self._extend(futures.context, memory, begin, units)
            first = self._choose(keys[0], self._logits(hidden[:, -1]))
            begin += units.shape[1]

            def entry(carry: tuple, now: tuple[Array, Key]) -> tuple[tuple, Array]:
                unit, memory = carry
                place, key = now
                hidden, memory = self._extend(futures.context, memory, begin + place, unit[:, None])
                unit = self._choose(key, self._logits(hidden[:, 0]))
                return (unit, memory), unit

            places = jnp.arange(self._row - 1)
            (_, memory), others = jax.lax.scan(entry, (first, memory), (places, keys[1:]))
            row = jnp.concatenate([first[:, None], others.swapaxes(0, 1)], 1)
        row = row.reshape(count, candidates, -1)
        values = self._tokens.from_unit(row)
        observation = values[..., :-1] * futures.context.present[:, None, : self._row - 1]
        futures = Futures(futures.context, *memory, row, futures.count + 1)
        return observation, values[..., -1], futures

    def _observe(self, steps: Steps) -> tuple[Array, tuple, tuple, Array]:
        """Runs over all tokens at once.

        Returns:
            Outputs ``[B, T L, width]``, keys and values of each layer, and the tokens that
            belong to the last row's episode and to the body ``[B, T L]``.
        """
        batch, time = steps.reward.shape
        row = self._tokens.to_unit(predicted(steps))
        # The last row's next action is not known; no token that is used sees it.
        action = jnp.pad(steps.action[:, 1:], ((0, 0), (0, 1), (0, 0)))
        units = jnp.concatenate([row, action], -1).reshape(batch, -1)
        episode = jnp.repeat(jnp.cumsum(steps.is_first, 1), self._block, 1)
        present = jnp.tile(present_tokens(steps), (1, time))
        index = jnp.arange(time * self._block)
        mask, distance = self._reach(index, index)
        mask = mask & (episode[:, :, None] == episode[:, None])
        mask &= present[:, None] | jnp.eye(index.size, dtype=bool)

        x = self._embed(units, index, present)
        keys, values = [], []
        for layer in self._layers:
            x, (memory,) = layer(x, lambda key, value: (Memory(key, value, mask, distance),))
            keys.append(memory.keys)
            values.append(memory.values)
        return x, tuple(keys), tuple(values), present & (episode == episode[:, -1:])

    def _extend(
        self, context: Context, memory: tuple[tuple, tuple], begin: Array, units: Array
    ) -> tuple[Array, tuple[tuple, tuple]]:
        """Appends tokens to imagined ones.

        Args:
            context: What was observed.
            memory: Keys and values of imagined tokens.
            begin: Imagined tokens so far.
            units: The next tokens ``[N J, n]``.

        Returns:
            Outputs ``[N J, n, width]``, and the memory with the new tokens.
        """
        count, length = context.seen.shape
        present = jnp.repeat(context.present, units.shape[0] // count, 0)
        index = length + begin + jnp.arange(units.shape[1])
        near, far = self._reach(index, jnp.arange(length))
        shared = near & context.seen[:, None], far
        imagined = length + jnp.arange(memory[0][0].shape[2])
        near, far = self._reach(index, imagined)
        has_key = present[:, imagined % self._block][:, None]
        own = near & (has_key | (index[:, None] == imagined)), far

        x = self._embed(units, index, present[:, index % self._block])
        layers = []
        for layer, *observed, keys, values in zip(
            self._layers, context.keys, context.values, *memory, strict=True
        ):

            def remember(key: Array, value: Array, keys=keys, values=values, observed=observed):  # noqa: ANN001
                pairs = (keys, key), (values, value)
                both = (jax.lax.dynamic_update_slice_in_dim(*pair, begin, 2) for pair in pairs)
                return Memory(*observed, *shared), Memory(*both, *own)

            x, (_, imagined_now) = layer(x, remember)
            layers.append(imagined_now[:2])
        return x, tuple(zip(*layers, strict=True))

    def _reach(self, queries: Array, keys: Array) -> tuple[Array, Array]:
        """Which places a token sees by order and distance, and the distances in steps."""
        distance = queries[:, None] // self._block - keys // self._block
        earlier = distance >= 0 if self._config.order == "parallel" else queries[:, None] >= keys
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
        return value * present[..., None] + self._place[index % self._block]

    def _logits(self, hidden: Array) -> Array:
        kernel, bias = self._out
        return (layer_norm(hidden, *self._norm) @ kernel + bias).astype(jnp.float32)

    def _choose(self, key: Key, logits: Array) -> Array:
        """Turns logits ``[..., bins]`` into units."""
        if self._config.decode == "argmax":
            return self._tokens.center(logits.argmax(-1))
        probs = jax.nn.softmax(logits)
        if self._config.decode == "mean":
            return self._tokens.mean(probs)
        # Inverse CDF: one uniform instead of a Gumbel variable for each bin.
        reached = jnp.cumsum(probs, -1)
        noise = uniform_noise(key, logits.shape[:-1])[..., None] * reached[..., -1:]
        return self._tokens.center((reached < noise).sum(-1))


def _loss(tokens: Tokeniser, logits: Array, steps: Steps) -> tuple[Array, dict[str, Array]]:
    """Mean cross-entropy of the tokens that a body has, first rows of episodes left out."""
    target = tokens.encode(predicted(steps))[:, 1:, :, None]
    nll = -jnp.take_along_axis(jax.nn.log_softmax(logits), target, -1)[..., 0]
    counts = present_tokens(steps)[:, None, : nll.shape[-1]] & ~steps.is_first[:, 1:, None]

    def mean(entries: slice) -> Array:
        count = jnp.maximum(counts[..., entries].sum(), 1)
        return jnp.where(counts[..., entries], nll[..., entries], 0).sum() / count

    loss = mean(slice(None))
    names = {"observation_loss": slice(None, -1), "reward_loss": slice(-1, None)}
    return loss, {"loss": loss} | {name: mean(entries) for name, entries in names.items()}
