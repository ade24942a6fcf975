"""The recurrent state-space model of PlaNet and Dreamer (arXiv:1811.04551, 2010.02193).

With m = 1 − is_first, previous state (z, h), previous action a and embedding e:

    x  = φ(W_in [m z; m a])
    h' = cell(x, m h)                          deterministic state; V3's: common.dynamics.cores
    p  = W_p2 φ(W_p1 h')                       statistics of the prior
    q  = W_q2 φ(W_q1 [h'; e])                  statistics of the posterior
    feature = [z'; h'],  z' ~ q when observing, z' ~ p when imagining

``observe`` keeps only the recurrent part in its scan over time. What depends on the
embedding and the action alone is multiplied beforehand, and the prior, which nothing
in the recurrence needs, afterwards, for all steps in one matrix product each.
"""

from __future__ import annotations

from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from common.distributions import Normal, OneHot, mix_uniform, normal_noise, uniform_noise
from common.dynamics.base import DynamicsFunctions, Noise, Observed, dynamics_functions
from common.dynamics.config import RSSMConfig
from common.dynamics.cores import make_core, make_stack
from common.nets.layers import INITS, Dense
from common.nets.products import product
from common.nets.scan import recurrent_scan
from common.types import Array, Key

KEPT = ("deter", "stoch")
"""Entries of a state from which a replay can go on."""


class RSSMState(NamedTuple):
    """A latent state.

    Attributes:
        deter: Deterministic part ``[..., D]``.
        stoch: Stochastic sample ``[..., S, K]`` (one-hot) or ``[..., S]`` (Gaussian).
    """

    deter: Array
    stoch: Array


def initial(config: RSSMConfig, batch_size: int) -> RSSMState:
    """Returns zeros ``[N, ...]``, the state before the first observation."""
    shape = (batch_size, config.stoch)
    shape += (config.classes,) if config.latent == "categorical" else ()
    return RSSMState(jnp.zeros((batch_size, config.deter)), jnp.zeros(shape))


def draw_noise(config: RSSMConfig, key: Key, shape: tuple[int, ...]) -> Array:
    """Draws uniform (categorical) or standard normal (Gaussian) noise ``[*shape, S]``."""
    draw = uniform_noise if config.latent == "categorical" else normal_noise
    return draw(key, (*shape, config.stoch))


def functions(config: RSSMConfig, action_size: int, embed_size: int) -> DynamicsFunctions:
    """Returns the model as pure functions; the arguments are those of ``RSSM``."""
    return dynamics_functions(lambda: RSSM(config, action_size, embed_size))


_STD = {
    "softplus": jax.nn.softplus,
    "sigmoid": jax.nn.sigmoid,
    "sigmoid2": lambda x: 2 * jax.nn.sigmoid(x / 2),
}


class RSSM(hk.Module):
    """The recurrent state-space model; see ``common.dynamics.base.Dynamics``."""

    def __init__(self, config: RSSMConfig, action_size: int, embed_size: int):
        """Creates all weights.

        Args:
            config: Sizes and kind.
            action_size: Entries of the flat action, A.
            embed_size: Entries of the encoder's output.
        """
        super().__init__(name="rssm")
        self._config = config
        self._categorical = config.latent == "categorical"
        latent = config.stoch * (config.classes if self._categorical else 1)
        statistics = latent if self._categorical else 2 * config.stoch
        self._core = make_core(config, latent, action_size)
        self._img_out = make_stack(config, "img_out", config.prior_layers, config.deter)
        self._img_dist = self._linear("img_dist", statistics)
        inputs = (embed_size,) if config.absolute else (config.deter, embed_size)
        self._obs_out = make_stack(config, "obs_out", config.posterior_layers, *inputs)
        self._obs_dist = self._linear("obs_dist", statistics)

    def observe(
        self, start: RSSMState, embed: Array, action: Array, is_first: Array, noise: Noise
    ) -> Observed:
        """Filters a sequence; see ``Dynamics.observe``."""
        keep = _keep(is_first, embed.dtype)
        inputs = self._core.prepare(action * keep), self._from_embed(embed), keep, noise

        def step(state: RSSMState, now: tuple) -> tuple[RSSMState, tuple]:
            from_action, from_embed, keep, noise = now
            deter = self._transition(state, from_action, keep)
            posterior = self._posterior(deter, from_embed)
            state = RSSMState(deter, _sample(posterior, noise, deter.dtype))
            return state, (state, posterior)

        _, outputs = recurrent_scan(step, start, jax.tree.map(_swap, inputs))
        states, posterior = jax.tree.map(_swap, outputs)
        return Observed(states, posterior, self.prior(states))

    def observe_step(
        self, state: RSSMState, embed: Array, action: Array, is_first: Array, noise: Noise
    ) -> RSSMState:
        """Filters one step; see ``Dynamics.observe_step``."""
        keep = _keep(is_first, embed.dtype)
        deter = self._transition(state, self._core.prepare(action * keep), keep)
        posterior = self._posterior(deter, self._from_embed(embed))
        return RSSMState(deter, _sample(posterior, noise, deter.dtype))

    def imagine_step(self, state: RSSMState, action: Array, noise: Noise) -> RSSMState:
        """Predicts one step; see ``Dynamics.imagine_step``."""
        deter = self._transition(state, self._core.prepare(action))
        return RSSMState(deter, _sample(self._prior(deter), noise, deter.dtype))

    def prior(self, state: RSSMState) -> OneHot | Normal:
        """Returns the prior of the state's stochastic latent given ``state.deter``."""
        return self._prior(state.deter)

    def feature(self, state: RSSMState) -> Array:
        """Returns [flat(z); h] ``[..., S K + D]``."""
        return jnp.concatenate([self._flat(state.stoch), state.deter], -1)

    def _transition(self, state: RSSMState, from_action: Array, keep: Array | None = None) -> Array:
        stoch, deter = self._flat(state.stoch), state.deter
        if keep is not None:
            stoch, deter = stoch * keep, deter * keep
        return self._core.step(stoch, deter, from_action)

    def _prior(self, deter: Array) -> OneHot | Normal:
        hidden = deter
        for layer in self._img_out:
            hidden = layer(hidden)
        return self._distribution(hidden, self._img_dist)

    def _from_embed(self, embed: Array) -> Array:
        """What the posterior's first layer takes from the embedding, for all steps at once."""
        return product(embed, self._obs_out[0].kernels[-1]) + self._obs_out[0].bias

    def _posterior(self, deter: Array, from_embed: Array) -> OneHot | Normal:
        first, *later = self._obs_out
        if not self._config.absolute:
            from_embed = product(deter, first.kernels[0]) + from_embed
        hidden = first.finish(from_embed)
        for layer in later:
            hidden = layer(hidden)
        return self._distribution(hidden, self._obs_dist)

    def _distribution(self, hidden: Array, weights: tuple[Array, Array]) -> OneHot | Normal:
        statistics = product(hidden, weights[0]) + weights[1]
        if self._categorical:
            shape = (*statistics.shape[:-1], self._config.stoch, self._config.classes)
            logits = statistics.reshape(shape).astype(jnp.float32)
            return OneHot(mix_uniform(logits, self._config.unimix), event_ndims=2)
        mean, std = jnp.split(statistics.astype(jnp.float32), 2, -1)
        return Normal(mean, _STD[self._config.std](std) + self._config.min_std)

    def _flat(self, stoch: Array) -> Array:
        return stoch.reshape(*stoch.shape[:-2], -1) if self._categorical else stoch

    @hk.transparent
    def _linear(self, name: str, size: int) -> tuple[Array, Array]:
        config = self._config
        return Dense(size, name=name, init=INITS[config.init]).parameters(config.hidden)


def _sample(distribution: OneHot | Normal, noise: Noise, dtype: np.dtype) -> Array:
    """Samples in float32, as statistics are, and returns the type of the other state."""
    sample = distribution.mode() if noise is None else distribution.sample(noise)
    return sample.astype(dtype)


def _keep(is_first: Array, dtype: np.dtype) -> Array:
    """Returns 0 where an episode starts and 1 elsewhere, ``[..., 1]``."""
    return 1 - is_first.astype(dtype)[..., None]


def _swap(x: Array) -> Array:
    """Exchanges the batch and the time axis."""
    return jnp.swapaxes(x, 0, 1)
