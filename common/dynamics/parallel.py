"""What dynamics share whose steps are computed all at once.

With m = 1 − is_first, previous latent z, previous action a and embedding e, one token per step:

    x  = W_in [m z; m a]
    h' = sequence model(x, earlier tokens of the episode)
    p  = W_p2 φ(W_p1 h')                       statistics of the prior
    q  = W_q2 φ(W_q1 e)                        statistics of the posterior

The posterior sees the present observation alone, so that all latents of a sequence are
known before the sequence model runs.
"""

from __future__ import annotations

import abc
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

from common.distributions import OneHot, mix_uniform
from common.dynamics.base import Noise, Observed
from common.nets.layers import Dense, LayerNorm, layer_norm
from common.nets.products import product
from common.types import Array

State = Any
"""A NamedTuple with the entries ``deter``, the sequence model's output, and ``stoch``."""


class ParallelDynamics(hk.Module):
    """A ``common.dynamics.base.Dynamics``, but for the sequence model: ``_make`` and ``_run``."""

    def __init__(self, config: Any, action_size: int, embed_size: int, name: str):
        """Creates all weights.

        Args:
            config: Has ``stoch``, ``classes``, ``width``, ``units`` and ``unimix``.
            action_size: Entries of the flat action, A.
            embed_size: Entries of the encoder's output.
            name: Name of the module.
        """
        super().__init__(name=name)
        self._config = config
        self._latent = config.stoch * config.classes
        self._token_in = Dense(config.width, name="token_in").parameters(self._latent + action_size)
        self._blocks = self._make()
        self._norm = LayerNorm(name="norm").parameters(config.width)
        self._img_out = Dense(config.units, name="img_out").parameters(config.width)
        self._img_dist = Dense(self._latent, name="img_dist").parameters(config.units)
        self._obs_out = Dense(config.units, name="obs_out").parameters(embed_size)
        self._obs_dist = Dense(self._latent, name="obs_dist").parameters(config.units)

    @abc.abstractmethod
    def _make(self) -> list[Any]:
        """Creates the sequence model; transparent to Haiku, which names no method in its names."""

    @abc.abstractmethod
    def _run(self, start: State, token: Array, is_first: Array) -> tuple[Array, dict[str, Array]]:
        """Appends T tokens to a state.

        Args:
            start: The state before the tokens ``[N]``.
            token: ``[N, T, D]``.
            is_first: Where episodes start ``[N, T]``.

        Returns:
            Outputs ``[N, T, D]``, before the last norm, and the entries of the states
            ``[N, T, ...]`` behind each token that are not ``deter`` and ``stoch``.
        """

    def observe(
        self, start: State, embed: Array, action: Array, is_first: Array, noise: Noise
    ) -> Observed:
        """Filters a sequence; see ``Dynamics.observe``."""
        posterior = self._distribution(embed, self._obs_out, self._obs_dist)
        stoch = _sample(posterior, noise, embed.dtype)
        before = jnp.concatenate([start.stoch[:, None], stoch[:, :-1]], 1)
        states = self._advance(start, before, action, is_first)._replace(stoch=stoch)
        return Observed(states, posterior, self.prior(states))

    def observe_step(
        self, state: State, embed: Array, action: Array, is_first: Array, noise: Noise
    ) -> State:
        """Filters one step; see ``Dynamics.observe_step``."""
        posterior = self._distribution(embed, self._obs_out, self._obs_dist)
        stoch = _sample(posterior, noise, embed.dtype)
        return self._step(state, action, is_first)._replace(stoch=stoch)

    def imagine_step(self, state: State, action: Array, noise: Noise) -> State:
        """Predicts one step; see ``Dynamics.imagine_step``."""
        state = self._step(state, action, jnp.zeros(action.shape[:1], bool))
        return state._replace(stoch=_sample(self.prior(state), noise, state.deter.dtype))

    def prior(self, state: State) -> OneHot:
        """Returns the prior of the state's stochastic latent given ``state.deter``."""
        return self._distribution(state.deter, self._img_out, self._img_dist)

    def feature(self, state: State) -> Array:
        """Returns [flat(z); h] ``[..., S K + D]``."""
        return jnp.concatenate([self._flat(state.stoch), state.deter], -1)

    def _step(self, state: State, action: Array, is_first: Array) -> State:
        """``_advance`` by one token."""
        one = lambda x: x[:, None]  # noqa: E731
        states = self._advance(state, one(state.stoch), one(action), one(is_first))
        return jax.tree.map(lambda x: x[:, 0], states)

    def _advance(self, start: State, stoch: Array, action: Array, is_first: Array) -> State:
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
        output, entries = self._run(start, token, is_first)
        return type(start)(deter=layer_norm(output, *self._norm), stoch=stoch, **entries)

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
