"""The recurrent state-space model of PlaNet and Dreamer (arXiv:1811.04551, 2010.02193).

With m = 1 − is_first, previous state (z, h), previous action a and embedding e:

    x  = φ(W_in [m z; m a])
    h' = cell(x, m h)                          deterministic state
    p  = W_p2 φ(W_p1 h')                       statistics of the prior
    q  = W_q2 φ(W_q1 [h'; e])                  statistics of the posterior
    feature = [z'; h'],  z' ~ q when observing, z' ~ p when imagining

``observe`` keeps only the recurrent part in its scan over time. What depends on the
embedding and the action alone is multiplied beforehand, and the prior, which nothing
in the recurrence needs, afterwards, for all steps in one matrix product each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from common.checks import Count, NonNegative, Options, Range, Share
from common.distributions import Normal, OneHot, mix_uniform, normal_noise, uniform_noise
from common.dynamics.base import DynamicsFunctions, Noise, Observed, dynamics_functions
from common.nets.cells import CellName, make_cell
from common.nets.layers import ACTIVATIONS, NORMS, Activation, Dense, Norm
from common.types import Array, Key


@dataclasses.dataclass(frozen=True)
class RSSMConfig(Options):
    """Sizes and kind of the recurrent state-space model.

    Attributes:
        latent: Family of the stochastic latent: "categorical" or "gaussian".
        stoch: Stochastic variables.
        classes: Classes of each variable (categorical only).
        deter: Entries of the deterministic state.
        hidden: Units of the hidden layers.
        cell: Recurrent cell: "layer_norm_gru" (V2), "gru" (V1) or "original_gru" (PlaNet).
        activation: Activation of the hidden layers.
        norm: "layer" or "rms" normalises the hidden layers, "none" does not.
        std: How a Gaussian's standard deviation is made positive: "softplus",
            "sigmoid", or "sigmoid2" = 2 sigmoid(x / 2).
        min_std: Added to a Gaussian's standard deviation.
        unimix: Share of a uniform distribution in every categorical variable, so that none of
            its classes becomes impossible; DreamerV3 has 0.01 (categorical only).
    """

    latent: Literal["categorical", "gaussian"] = "categorical"
    stoch: Count = 32
    classes: Annotated[int, Range(2)] = 32
    deter: Count = 200
    hidden: Count = 200
    cell: CellName = "layer_norm_gru"
    activation: Activation = "elu"
    norm: Norm = "none"
    std: Literal["softplus", "sigmoid", "sigmoid2"] = "sigmoid2"
    min_std: NonNegative = 0.1
    unimix: Share = 0.0


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


class _Layer(NamedTuple):
    """A dense layer, its kernel cut after the first input, with norm and activation."""

    kernels: tuple[Array, ...]
    bias: Array
    finish: Callable[[Array], Array]


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
        self._img_in = self._layer("img_in", latent, action_size)
        self._cell = make_cell(config.cell, config.hidden, config.deter)
        self._img_out = self._layer("img_out", config.deter)
        self._img_dist = Dense(statistics, name="img_dist").parameters(config.hidden)
        self._obs_out = self._layer("obs_out", config.deter, embed_size)
        self._obs_dist = Dense(statistics, name="obs_dist").parameters(config.hidden)

    def observe(
        self, start: RSSMState, embed: Array, action: Array, is_first: Array, noise: Noise
    ) -> Observed:
        """Filters a sequence; see ``Dynamics.observe``."""
        keep = _keep(is_first, embed.dtype)
        from_action = (action * keep) @ self._img_in.kernels[1] + self._img_in.bias
        from_embed = embed @ self._obs_out.kernels[1] + self._obs_out.bias
        inputs = (from_action, from_embed, keep, noise)

        def step(state: RSSMState, now: tuple) -> tuple[RSSMState, tuple]:
            from_action, from_embed, keep, noise = now
            deter = self._transition(state, from_action, keep)
            posterior = self._posterior(deter, from_embed)
            state = RSSMState(deter, _sample(posterior, noise, deter.dtype))
            return state, (state, posterior)

        _, outputs = jax.lax.scan(step, start, jax.tree.map(_swap, inputs))
        states, posterior = jax.tree.map(_swap, outputs)
        return Observed(states, posterior, self.prior(states))

    def observe_step(
        self, state: RSSMState, embed: Array, action: Array, is_first: Array, noise: Noise
    ) -> RSSMState:
        """Filters one step; see ``Dynamics.observe_step``."""
        keep = _keep(is_first, embed.dtype)
        from_action = (action * keep) @ self._img_in.kernels[1] + self._img_in.bias
        deter = self._transition(state, from_action, keep)
        from_embed = embed @ self._obs_out.kernels[1] + self._obs_out.bias
        return RSSMState(deter, _sample(self._posterior(deter, from_embed), noise, deter.dtype))

    def imagine_step(self, state: RSSMState, action: Array, noise: Noise) -> RSSMState:
        """Predicts one step; see ``Dynamics.imagine_step``."""
        from_action = action @ self._img_in.kernels[1] + self._img_in.bias
        deter = self._transition(state, from_action)
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
        x = self._img_in.finish(stoch @ self._img_in.kernels[0] + from_action)
        return self._cell(x, deter)

    def _prior(self, deter: Array) -> OneHot | Normal:
        layer = self._img_out
        hidden = layer.finish(deter @ layer.kernels[0] + layer.bias)
        return self._distribution(hidden, self._img_dist)

    def _posterior(self, deter: Array, from_embed: Array) -> OneHot | Normal:
        hidden = self._obs_out.finish(deter @ self._obs_out.kernels[0] + from_embed)
        return self._distribution(hidden, self._obs_dist)

    def _distribution(self, hidden: Array, weights: tuple[Array, Array]) -> OneHot | Normal:
        statistics = hidden @ weights[0] + weights[1]
        if self._categorical:
            shape = (*statistics.shape[:-1], self._config.stoch, self._config.classes)
            logits = statistics.reshape(shape).astype(jnp.float32)
            return OneHot(mix_uniform(logits, self._config.unimix), event_ndims=2)
        mean, std = jnp.split(statistics.astype(jnp.float32), 2, -1)
        return Normal(mean, _STD[self._config.std](std) + self._config.min_std)

    def _flat(self, stoch: Array) -> Array:
        return stoch.reshape(*stoch.shape[:-2], -1) if self._categorical else stoch

    @hk.transparent
    def _layer(self, name: str, *inputs: int) -> _Layer:
        config = self._config
        kernel, bias = Dense(config.hidden, name=name).parameters(sum(inputs))
        act = ACTIVATIONS[config.activation]
        finish = act
        if config.norm != "none":
            module, normalise = NORMS[config.norm]
            weights = module(name=f"{name}_norm").parameters(config.hidden)
            finish = lambda x: act(normalise(x, *weights))  # noqa: E731
        return _Layer((kernel[: inputs[0]], kernel[inputs[0] :]), bias, finish)


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
