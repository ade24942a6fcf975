"""A causal transformer as latent dynamics, in the line of TransDreamer (arXiv:2202.09481).

Tokens, prior and posterior are those of ``common.dynamics.parallel``; what heads see is
[z'; h'], z' ~ q when observing, z' ~ p when imagining.

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
import jax.numpy as jnp

from common.checks import Count, Options, Range, Share, check_multiple
from common.distributions import uniform_noise
from common.dynamics.base import DynamicsFunctions, dynamics_functions
from common.dynamics.parallel import ParallelDynamics
from common.nets.attention import Block, make_block
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


class Transformer(ParallelDynamics):
    """The transformer dynamics; see ``common.dynamics.base.Dynamics``.

    Time and memory of the attention in ``observe`` grow with T (context + T).
    """

    def __init__(self, config: TransformerConfig, action_size: int, embed_size: int):
        """Creates all weights; the arguments are those of ``ParallelDynamics``."""
        super().__init__(config, action_size, embed_size, name="transformer")

    @hk.transparent
    def _make(self) -> list[Block]:
        config = self._config
        return [
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

    def _run(
        self, start: TransformerState, token: Array, is_first: Array
    ) -> tuple[Array, dict[str, Array]]:
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
        return token, {"keys": keys, "values": values, "valid": valid}


def _windows(x: Array, size: int, axis: int = 1) -> Array:
    """Returns the last ``size`` entries up to each of the T new ones.

    Args:
        x: Remembered entries and T new ones behind; the axis has ``size + T`` entries.
        size: Number of remembered entries.
        axis: The axis of time; T and ``size`` take its place.
    """
    index = 1 + jnp.arange(x.shape[axis] - size)[:, None] + jnp.arange(size)
    return jnp.take(x, index, axis=axis, mode="clip")
