"""A causal transformer as latent dynamics, in the line of TransDreamer (arXiv:2202.09481).

With m = 1 − is_first, previous latent z, previous action a and embedding e, one token per step:

    x  = W_in [m z; m a]
    h' = transformer(x, earlier tokens of the episode)
    p  = W_p2 φ(W_p1 h')                       statistics of the prior
    q  = W_q2 φ(W_q1 e)                        statistics of the posterior
    feature = [z'; h'],  z' ~ q when observing, z' ~ p when imagining

The posterior sees the present observation alone, so that all latents of a sequence are
known before the transformer runs, and ``observe`` computes all steps at once.

Every layer attends to ``context`` tokens, the present one included, and never beyond the
start of the episode. Through the layers a step depends on ``layers (context − 1)`` earlier
tokens and on none before them. A state carries the keys and values that the next step
attends to, so that from every state imagination can go on at the price of one token:

    2 (context − 1) layers kv_heads width / heads   floats in each state

7.5 KiB with the default sizes. The states of a batch, ``[B, T]``, have such a window each;
learning by imagination over H steps keeps H B T of them for its backward pass.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from common.checks import Count, Options, Range, Share, check_multiple
from common.distributions import OneHot, mix_uniform, uniform_noise
from common.dynamics.base import DynamicsFunctions, Noise, Observed, dynamics_functions
from common.nets.attention import make_block
from common.nets.layers import Dense, LayerNorm, layer_norm
from common.nets.products import product
from common.types import Array, Key


@dataclasses.dataclass(frozen=True)
class TransformerConfig(Options):
    """Sizes of the transformer dynamics; its latent is categorical.

    Attributes:
        stoch: Stochastic variables.
        classes: Classes of each variable.
        context: Steps that every layer attends to, the present one included.
        layers: Layers of the transformer.
        heads: Heads of queries.
        kv_heads: Heads of keys and values, shared by the heads of queries.
        width: Entries of a token and of the deterministic state.
        units: Units of the feed-forward layers, and of the prior's and the posterior's.
        unimix: Share of a uniform distribution in every variable, so that none of its classes
            becomes impossible; DreamerV3 has 0.01.
    """

    stoch: Count = 32
    classes: Annotated[int, Range(2)] = 32
    context: Annotated[int, Range(2)] = 16
    layers: Count = 2
    heads: Count = 4
    kv_heads: Count = 1
    width: Count = 128
    units: Count = 256
    unimix: Share = 0.0

    def __post_init__(self) -> None:
        """Raises an OptionError where the heads do not share the width, or keys, evenly."""
        super().__post_init__()
        check_multiple(self, "width", "heads")
        check_multiple(self, "heads", "kv_heads")

    @property
    def reach(self) -> int:
        """Earlier tokens that a step depends on."""
        return self.layers * (self.context - 1)


class TransformerState(NamedTuple):
    """A latent state with the window of the tokens so far; M = context − 1.

    Attributes:
        deter: Output of the transformer ``[..., D]``.
        stoch: Stochastic sample, one-hot ``[..., S, K]``.
        keys: Of the newest M tokens, the newest last ``[..., layers, kv_heads, M, D / heads]``.
        values: In the shape of the keys.
        valid: 1 for tokens of this episode, 0 where there is none yet ``[..., M]``.
    """

    deter: Array
    stoch: Array
    keys: Array
    values: Array
    valid: Array


def initial(config: TransformerConfig, batch_size: int) -> TransformerState:
    """Returns zeros ``[N, ...]``, the state before the first observation."""
    memory, size = config.context - 1, config.width // config.heads
    window = jnp.zeros((batch_size, config.layers, config.kv_heads, memory, size))
    return TransformerState(
        jnp.zeros((batch_size, config.width)),
        jnp.zeros((batch_size, config.stoch, config.classes)),
        window,
        window,
        jnp.zeros((batch_size, memory)),
    )


def draw_noise(config: TransformerConfig, key: Key, shape: tuple[int, ...]) -> Array:
    """Draws uniform noise ``[*shape, S]``."""
    return uniform_noise(key, (*shape, config.stoch))


def functions(config: TransformerConfig, action_size: int, embed_size: int) -> DynamicsFunctions:
    """Returns the model as pure functions; the arguments are those of ``Transformer``."""
    return dynamics_functions(lambda: Transformer(config, action_size, embed_size))


class Transformer(hk.Module):
    """The transformer dynamics; see ``common.dynamics.base.Dynamics``."""

    def __init__(self, config: TransformerConfig, action_size: int, embed_size: int):
        """Creates all weights.

        Args:
            config: Sizes.
            action_size: Entries of the flat action, A.
            embed_size: Entries of the encoder's output.
        """
        super().__init__(name="transformer")
        self._config = config
        self._latent = config.stoch * config.classes
        self._token_in = Dense(config.width, name="token_in").parameters(self._latent + action_size)
        self._blocks = [
            make_block(
                f"block{layer}",
                width=config.width,
                heads=config.heads,
                kv_heads=config.kv_heads,
                units=config.units,
                window=config.context,
            )
            for layer in range(config.layers)
        ]
        self._norm = LayerNorm(name="norm").parameters(config.width)
        self._img_out = Dense(config.units, name="img_out").parameters(config.width)
        self._img_dist = Dense(self._latent, name="img_dist").parameters(config.units)
        self._obs_out = Dense(config.units, name="obs_out").parameters(embed_size)
        self._obs_dist = Dense(self._latent, name="obs_dist").parameters(config.units)

    def observe(
        self, start: TransformerState, embed: Array, action: Array, is_first: Array, noise: Noise
    ) -> Observed:
        """Filters a sequence; see ``Dynamics.observe``.

        Time and memory of the attention grow with T (context + T).
        """
        posterior = self._distribution(embed, self._obs_out, self._obs_dist)
        stoch = _sample(posterior, noise, embed.dtype)
        before = jnp.concatenate([start.stoch[:, None], stoch[:, :-1]], 1)
        states = self._advance(start, before, action, is_first)._replace(stoch=stoch)
        return Observed(states, posterior, self.prior(states))

    def observe_step(
        self, state: TransformerState, embed: Array, action: Array, is_first: Array, noise: Noise
    ) -> TransformerState:
        """Filters one step; see ``Dynamics.observe_step``."""
        posterior = self._distribution(embed, self._obs_out, self._obs_dist)
        stoch = _sample(posterior, noise, embed.dtype)
        return self._step(state, action, is_first)._replace(stoch=stoch)

    def imagine_step(
        self, state: TransformerState, action: Array, noise: Noise
    ) -> TransformerState:
        """Predicts one step; see ``Dynamics.imagine_step``."""
        state = self._step(state, action, jnp.zeros(action.shape[:1], bool))
        return state._replace(stoch=_sample(self.prior(state), noise, state.deter.dtype))

    def prior(self, state: TransformerState) -> OneHot:
        """Returns the prior of the state's stochastic latent given ``state.deter``."""
        return self._distribution(state.deter, self._img_out, self._img_dist)

    def feature(self, state: TransformerState) -> Array:
        """Returns [flat(z); h] ``[..., S K + D]``."""
        return jnp.concatenate([self._flat(state.stoch), state.deter], -1)

    def _step(self, state: TransformerState, action: Array, is_first: Array) -> TransformerState:
        """``_advance`` by one token."""
        one = lambda x: x[:, None]  # noqa: E731
        states = self._advance(state, one(state.stoch), one(action), one(is_first))
        return jax.tree.map(lambda x: x[:, 0], states)

    def _advance(
        self, start: TransformerState, stoch: Array, action: Array, is_first: Array
    ) -> TransformerState:
        """Appends T tokens to a state and returns the states ``[N, T]`` behind each of them.

        Args:
            start: The state before the tokens ``[N]``.
            stoch: Previous latents ``[N, T, S, K]``; the states still hold these.
            action: Previous actions ``[N, T, A]``.
            is_first: Where episodes start ``[N, T]``.
        """
        keep = 1 - is_first.astype(action.dtype)[..., None]
        token = product(self._flat(stoch) * keep, self._token_in[0][: self._latent])
        token += product(action * keep, self._token_in[0][self._latent :]) + self._token_in[1]

        memory, steps = self._config.context - 1, is_first.shape[1]
        # Episodes are numbered from the one of the remembered tokens on.
        now = jnp.cumsum(is_first, 1)
        episode = jnp.pad(now, ((0, 0), (memory, 0)))
        valid = jnp.concatenate([start.valid, jnp.ones_like(start.valid, shape=now.shape)], 1)
        distance = jnp.arange(memory, memory + steps)[:, None] - jnp.arange(memory + steps)
        seen = (distance >= 0) & (distance <= memory)
        seen &= (episode[:, None] == now[..., None]) & (valid[:, None] > 0.5)

        keys, values = [], []
        for layer, block in enumerate(self._blocks):
            token, key, value = block(token, start.keys[:, layer], start.values[:, layer], seen)
            keys.append(key)
            values.append(value)
        same = (_windows(episode, memory) == now[..., None]).astype(token.dtype)
        # What belongs to an earlier episode is zero, as it is behind the initial state.
        keys, values = (
            jnp.moveaxis(_windows(jnp.stack(x, 1), memory, axis=3), 3, 1)
            * same[:, :, None, None, :, None]
            for x in (keys, values)
        )
        valid = _windows(valid, memory) * same
        return TransformerState(layer_norm(token, *self._norm), stoch, keys, values, valid)

    def _distribution(
        self, x: Array, layer: tuple[Array, Array], last: tuple[Array, Array]
    ) -> OneHot:
        hidden = jax.nn.gelu(product(x, layer[0]) + layer[1])
        logits = (product(hidden, last[0]) + last[1]).astype(jnp.float32)
        shape = (*x.shape[:-1], self._config.stoch, self._config.classes)
        return OneHot(mix_uniform(logits.reshape(shape), self._config.unimix), event_ndims=2)

    def _flat(self, stoch: Array) -> Array:
        return stoch.reshape(*stoch.shape[:-2], -1)


def _sample(distribution: OneHot, noise: Noise, dtype: jnp.dtype) -> Array:
    """Samples in float32, as logits are, and returns the type of the other state."""
    sample = distribution.mode() if noise is None else distribution.sample(noise)
    return sample.astype(dtype)


def _windows(x: Array, size: int, axis: int = 1) -> Array:
    """Returns the last ``size`` entries up to each of the T new ones.

    Args:
        x: Remembered entries and T new ones behind; the axis has ``size + T`` entries.
        size: Number of remembered entries.
        axis: The axis of time; T and ``size`` take its place.
    """
    index = 1 + jnp.arange(x.shape[axis] - size)[:, None] + jnp.arange(size)
    return jnp.take(x, index, axis=axis, mode="clip")
