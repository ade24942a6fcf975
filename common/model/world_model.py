"""The world model: encoder, latent dynamics, decoder, reward and discount heads.

``world_model`` returns a ``WorldModel``, a NamedTuple of pure functions that knows
no agent, no environment and no replay. Parameters are a mapping from component name
("encoder", the dynamics' name, "decoder", "reward", "discount") to Haiku parameters.

The loss (DreamerV2, arXiv:2010.02193, Eq. 2), means over B and T:

    L = − ln p(x | s) − c_r ln p(r | s) − c_d ln p(d | s) + β KL_balanced(q ‖ p)

Likelihoods of observations and rewards are normals of unit variance, summed over
pixels and entries and with their constant −½ ln 2π. The discount head is a Bernoulli
with the soft target γ (1 − is_terminal), so its mean already contains γ.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import gymnasium
import haiku as hk
import jax
import jax.numpy as jnp

from common.distributions import Bernoulli, unit_normal_log_prob
from common.dynamics import rssm, transformer
from common.dynamics.base import DynamicsFunctions, Noise, Observed, State
from common.dynamics.kl import KLConfig, kl_loss
from common.dynamics.overshooting import overshooting_loss
from common.model.config import WorldModelConfig
from common.model.losses import Losses, loss_metrics, targets, total_loss
from common.model.vectors import VECTORS, VectorFunctions, vector_functions
from common.nets import precision
from common.nets.coders import Decoder, Encoder
from common.nets.heads import ScalarHead
from common.spaces import ActionSpec, ObservationSpec, action_spec, observation_specs
from common.types import Array, Key, Params, Rows

_DYNAMICS = {"rssm": rssm, "transformer": transformer}
"""Modules with ``functions``, ``initial`` and ``draw_noise``, by the name of their options."""


class WorldModel(NamedTuple):
    """Pure functions of a world model; ``params`` is what ``init`` returned.

    Attributes:
        config: What it was built from.
        observations: The flat observation, entry by entry.
        actions: The flat action vector.
        init: ``(key) -> params``.
        loss: ``(params, key, batch, start=None) -> (loss, metrics)``; batch of rows
            ``[B, T, ...]``, start of states ``[B]``.
        losses: ``(params, noise, batch, start=None, overshooting=None) -> Losses``, the
            same with explicit noise of ``draw_noise(key, (B, T))``, and of
            ``draw_overshooting(key, (B, T))``; None for modes.
        observe: ``(params, key, batch, start=None) -> states [B, T]``, posterior samples.
        observe_step: ``(params, noise, state, rows) -> state``; rows ``[N, ...]`` with the
            observation, the previous ``action`` and ``is_first``.
        imagine: ``(params, key, start, actions) -> states [B, H]``; start ``[B]``,
            actions ``[B, H, A]``.
        imagine_step: ``(params, noise, state, action) -> state``.
        initial: ``(batch_size) -> state``, the state before the first row.
        draw_noise: ``(key, shape) -> noise`` for one latent sample per entry of shape.
        draw_overshooting: ``(key, (B, T)) -> noise`` of overshooting, None without it.
        feature: ``(params, state) -> [..., D]``.
        decode: ``(params, states) -> {key: mean}`` in natural units; images on the scale 0 to 1.
        reward: ``(params, feature) -> [...]``, mean of the (transformed) reward.
        discount: ``(params, feature) -> [...]``, predicted γ · p(not terminal), or γ.
        track: ``(params, batch) -> params`` with a batch more in the statistics of
            standardised vectors; to be called before each ``loss`` that is learned from.
    """

    config: WorldModelConfig
    observations: Mapping[str, ObservationSpec]
    actions: ActionSpec
    init: Callable[[Key], Params]
    loss: Callable[..., tuple[Array, dict[str, Array]]]
    losses: Callable[..., Losses]
    observe: Callable[..., State]
    observe_step: Callable[[Params, Noise, State, Rows], State]
    imagine: Callable[[Params, Key, State, Array], State]
    imagine_step: Callable[[Params, Noise, State, Array], State]
    initial: Callable[[int], State]
    draw_noise: Callable[[Key, tuple[int, ...]], Array]
    draw_overshooting: Callable[[Key, tuple[int, int]], Noise]
    feature: Callable[[Params, State], Array]
    decode: Callable[[Params, State], dict[str, Array]]
    reward: Callable[[Params, Array], Array]
    discount: Callable[[Params, Array], Array]
    track: Callable[[Params, Rows], Params]


def world_model(
    config: WorldModelConfig,
    observation_space: gymnasium.Space | Mapping[str, ObservationSpec],
    action_space: gymnasium.Space | ActionSpec,
) -> WorldModel:
    """Builds a world model for an observation and an action space.

    Args:
        config: Sizes and losses.
        observation_space: Box, Discrete, MultiDiscrete, MultiBinary or Dict of those; or
            the flat specs of ``common.spaces``.
        action_space: Box, Discrete, MultiDiscrete or Dict of those; or its flat spec.

    Raises:
        UserError: An unsupported space, or an option with an unknown value.
    """
    if isinstance(observation_space, gymnasium.Space):
        observation_space = observation_specs(observation_space)
    if isinstance(action_space, gymnasium.Space):
        action_space = action_spec(action_space)
    parts = _components(config, dict(observation_space), action_space)
    return _assemble(config, dict(observation_space), action_space, parts)


class _Components(NamedTuple):
    """The Haiku-free pure functions of each part, all of them ``(params, ...)``."""

    init: Callable[[Key], Params]
    encode: Callable[..., Array]
    dynamics: DynamicsFunctions
    decode: Callable[..., dict[str, Array]]
    reward: Callable[..., Array]
    discount: Callable[..., Array]
    vectors: VectorFunctions


def _components(
    config: WorldModelConfig, specs: Mapping[str, ObservationSpec], actions: ActionSpec
) -> _Components:
    encoder = _transform(lambda x: Encoder(specs, config.encoder)(x))
    decoder = _transform(lambda x: Decoder(specs, config.decoder)(x))
    reward = _transform(lambda x: ScalarHead(config.reward, "reward")(x))
    discount = _transform(lambda x: ScalarHead(config.discount, "discount")(x))
    vectors = vector_functions(config.vector_transform, specs)
    rows = {key: jnp.zeros((1, *spec.shape), spec.dtype) for key, spec in specs.items()}
    weights = jax.eval_shape(encoder.init, jax.random.key(0), rows)
    embed = jax.eval_shape(encoder.apply, weights, rows)

    module, options = _DYNAMICS[config.dynamics], getattr(config, config.dynamics)
    dynamics = module.functions(options, actions.size, embed.shape[-1])

    def init(key: Key) -> Params:
        keys = iter(jax.random.split(key, 5))
        params = {"encoder": encoder.init(next(keys), rows)}
        params[config.dynamics] = dynamics.init(next(keys))
        feature = dynamics.feature(params[config.dynamics], module.initial(options, 1))
        params["decoder"] = decoder.init(next(keys), feature)
        params["reward"] = reward.init(next(keys), feature)
        if config.predict_discount:
            params["discount"] = discount.init(next(keys), feature)
        statistics = vectors.init()
        return params | {VECTORS: statistics} if statistics else params

    cast = lambda apply: precision.wrap(apply, config.precision)  # noqa: E731
    return _Components(
        jax.jit(init),
        cast(encoder.apply),
        DynamicsFunctions(dynamics.init, *map(cast, dynamics[1:])),
        cast(decoder.apply),
        cast(reward.apply),
        cast(discount.apply),
        vectors,
    )


def _transform(function: Callable) -> hk.Transformed:
    return hk.without_apply_rng(hk.transform(function))


def _assemble(
    config: WorldModelConfig,
    specs: Mapping[str, ObservationSpec],
    actions: ActionSpec,
    parts: _Components,
) -> WorldModel:
    dynamics, vectors, name = parts.dynamics, parts.vectors, config.dynamics

    def feature(params: Params, state: State) -> Array:
        return dynamics.feature(params[name], state)

    initial = functools.partial(_DYNAMICS[name].initial, getattr(config, name))
    draw_noise = functools.partial(_DYNAMICS[name].draw_noise, getattr(config, name))

    def reward(params: Params, feature: Array) -> Array:
        return parts.reward(params["reward"], feature)

    def discount(params: Params, feature: Array) -> Array:
        if not config.predict_discount:
            return jnp.full(feature.shape[:-1], config.discount_factor)
        return jax.nn.sigmoid(parts.discount(params["discount"], feature))

    def watch(params: Params, noise: Noise, batch: Rows, start: State | None) -> tuple:
        embed = parts.encode(params["encoder"], vectors.forward(params, batch))
        start = initial(embed.shape[0]) if start is None else start
        rows = embed, batch["action"], batch["is_first"]
        return dynamics.observe(params[name], start, *rows, noise=noise), embed

    def draw_overshooting(key: Key, shape: tuple[int, int]) -> Noise:
        steps = config.kl.overshooting + 1
        return draw_noise(key, (steps, *shape)) if steps > 1 else None

    def losses(
        params: Params,
        noise: Noise,
        batch: Rows,
        start: State | None = None,
        overshooting: Noise = None,
    ) -> Losses:
        observed, embed = watch(params, noise, batch, start)
        wanted = targets(config, vectors.forward(params, batch))
        log_probs = _log_probs(config, parts, params, feature(params, observed.states), wanted)
        kl, kl_value = kl_loss(observed.posterior, observed.prior, config.kl)
        terms = {key: -log_prob.mean() for key, log_prob in log_probs.items()} | {"kl": kl}
        if config.kl.overshooting:
            terms["overshooting"] = _overshooting(
                config.kl, dynamics, params[name], observed, batch, overshooting
            )
        return Losses(terms, total_loss(config, terms), log_probs, observed, kl_value, embed)

    def observe(params: Params, key: Key, batch: Rows, start: State | None = None) -> State:
        return watch(params, draw_noise(key, batch["is_first"].shape), batch, start)[0].states

    def observe_step(params: Params, noise: Noise, state: State, rows: Rows) -> State:
        embed = parts.encode(params["encoder"], vectors.forward(params, rows))
        seen = embed, rows["action"], rows["is_first"]
        return dynamics.observe_step(params[name], state, *seen, noise=noise)

    def imagine_step(params: Params, noise: Noise, state: State, action: Array) -> State:
        return dynamics.imagine_step(params[name], state, action, noise=noise)

    def imagine(params: Params, key: Key, start: State, actions: Array) -> State:
        noise = draw_noise(key, (actions.shape[1], actions.shape[0]))
        return _follow(functools.partial(imagine_step, params), start, actions, noise)

    def decode(params: Params, states: State) -> dict[str, Array]:
        means = parts.decode(params["decoder"], feature(params, states))
        return vectors.backward(params, _unit_images(specs, means))

    def loss(
        params: Params, key: Key, batch: Rows, start: State | None = None
    ) -> tuple[Array, dict[str, Array]]:
        shape = batch["reward"].shape
        ahead = draw_overshooting(jax.random.fold_in(key, 1), shape)
        out = losses(params, draw_noise(key, shape), batch, start, ahead)
        return out.total, loss_metrics(out)

    functions = parts.init, loss, losses, observe, observe_step, imagine, imagine_step, initial
    functions += draw_noise, draw_overshooting, feature, decode, reward, discount, vectors.track
    return WorldModel(config, specs, actions, *functions)


def _unit_images(specs: Mapping[str, ObservationSpec], means: Rows) -> Rows:
    """Images on the scale 0 to 1; all else as it is."""
    return {key: x + 0.5 if specs[key].kind == "image" else x for key, x in means.items()}


def _follow(
    imagine_step: Callable[[Noise, State, Array], State],
    start: State,
    actions: Array,
    noise: Array,
) -> State:
    """Folds ``imagine_step`` over actions ``[B, H, A]`` and noise ``[H, B, ...]``."""

    def step(state: State, now: tuple[Array, Array]) -> tuple[State, State]:
        state = imagine_step(now[1], state, now[0])
        return state, state

    _, states = jax.lax.scan(step, start, (jnp.swapaxes(actions, 0, 1), noise))
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), states)


def _overshooting(
    config: KLConfig,
    dynamics: DynamicsFunctions,
    params: Params,
    observed: Observed,
    batch: Rows,
    noise: Noise,
) -> Array:
    return overshooting_loss(
        lambda *arguments: dynamics.imagine_step(params, *arguments),
        functools.partial(dynamics.prior, params),
        observed,
        batch["action"],
        batch["is_first"],
        noise,
        distance=config.overshooting,
        free=config.free,
    )


def _log_probs(
    config: WorldModelConfig, parts: _Components, params: Params, feature: Array, wanted: Rows
) -> dict[str, Array]:
    """Log-likelihoods ``[B, T]`` of what each head should have predicted."""

    def shown(gradients: bool) -> Array:
        return feature if gradients else jax.lax.stop_gradient(feature)

    means = parts.decode(params["decoder"], shown(config.decoder_gradients))
    log_probs = {
        key: unit_normal_log_prob(mean, wanted[key], mean.ndim - 2) for key, mean in means.items()
    }
    mean = parts.reward(params["reward"], shown(config.reward_gradients))
    log_probs["reward"] = unit_normal_log_prob(mean, wanted["reward"], 0)
    if config.predict_discount:
        logits = parts.discount(params["discount"], shown(config.discount_gradients))
        log_probs["discount"] = Bernoulli(logits).log_prob(wanted["discount"])
    return log_probs
