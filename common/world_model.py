"""The world model: encoder, latent dynamics, decoder, reward and discount heads.

``world_model`` returns a ``WorldModel``, a NamedTuple of pure functions that knows
no agent, no environment and no replay. Parameters are a mapping from component name
("encoder", "rssm", "decoder", "reward", "discount") to Haiku parameters.

The loss (DreamerV2, arXiv:2010.02193, Eq. 2), means over B and T:

    L = − ln p(x | s) − c_r ln p(r | s) − c_d ln p(d | s) + β KL_balanced(q ‖ p)

Likelihoods of observations and rewards are normals of unit variance, summed over
pixels and entries and with their constant −½ ln 2π. The discount head is a Bernoulli
with the soft target γ (1 − is_terminal), so its mean already contains γ.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import gymnasium
import haiku as hk
import jax
import jax.numpy as jnp

from common import precision
from common.distributions import Bernoulli, unit_normal_log_prob
from common.dynamics import rssm
from common.dynamics.base import DynamicsFunctions, Noise, Observed, State
from common.dynamics.kl import KLConfig, kl_loss
from common.dynamics.rssm import RSSMConfig
from common.errors import check_least, check_range
from common.nets.coders import Decoder, DecoderConfig, Encoder, EncoderConfig, normalize_image
from common.nets.heads import HeadConfig, ScalarHead
from common.spaces import ActionSpec, ObservationSpec, action_spec, observation_specs
from common.types import ROW_KEYS, Array, Key, Params, Rows


@dataclasses.dataclass(frozen=True)
class WorldModelConfig:
    """Everything that the world model can be told.

    Attributes:
        dynamics: Latent dynamics: "rssm".
        rssm: The recurrent state-space model.
        encoder: From observations to embeddings.
        decoder: From latent states to observations.
        reward: The reward head.
        discount: The discount head.
        kl: The KL term.
        predict_discount: Whether there is a discount head; without one every state is
            taken to continue with the constant discount factor.
        discount_factor: Discount factor of one agent step, γ.
        reward_scale: Weight of the reward term, c_r.
        discount_scale: Weight of the discount term, c_d.
        reward_transform: What is applied to rewards before they are learned:
            "identity", or "tanh" as in DreamerV2's Atari runs.
        vector_transform: What is applied to vectors before they are encoded and predicted:
            "identity", or "symlog" = sign(x) ln(1 + |x|) for quantities that grow without
            bound, as in DreamerV3 (arXiv:2301.04104).
        decoder_gradients: Whether the reconstruction shapes the latent states.
        reward_gradients: Whether the reward head shapes the latent states.
        discount_gradients: Whether the discount head shapes the latent states.
        precision: Number format of the arithmetic: "float32" or "bfloat16"; weights,
            losses and statistics stay in float32.
    """

    dynamics: Literal["rssm"] = "rssm"
    rssm: RSSMConfig = RSSMConfig()
    encoder: EncoderConfig = EncoderConfig()
    decoder: DecoderConfig = DecoderConfig()
    reward: HeadConfig = HeadConfig()
    discount: HeadConfig = HeadConfig()
    kl: KLConfig = KLConfig()
    predict_discount: bool = True
    discount_factor: float = 0.99
    reward_scale: float = 1.0
    discount_scale: float = 1.0
    reward_transform: Literal["identity", "tanh"] = "identity"
    vector_transform: Literal["identity", "symlog"] = "identity"
    decoder_gradients: bool = True
    reward_gradients: bool = True
    discount_gradients: bool = True
    precision: str = "float32"

    def __post_init__(self) -> None:
        """Raises a UserError where a value is out of its range."""
        check_range("world_model.discount_factor", self.discount_factor, 0, 1)
        check_least(self, "world_model.", reward_scale=0, discount_scale=0)


class Losses(NamedTuple):
    """Everything that one pass over a batch computes.

    Attributes:
        terms: Unscaled loss terms by name, scalars; "kl" and one per head.
        total: Their weighted sum.
        log_probs: Log-likelihood of each head's target ``[B, T]``.
        observed: Posterior states and both distributions.
        kl_value: KL(posterior ‖ prior) ``[B, T]``, unclipped.
        embed: Encoder output ``[B, T, D]``.
    """

    terms: dict[str, Array]
    total: Array
    log_probs: dict[str, Array]
    observed: Observed
    kl_value: Array
    embed: Array


class WorldModel(NamedTuple):
    """Pure functions of a world model; ``params`` is what ``init`` returned.

    Attributes:
        config: What it was built from.
        observations: The flat observation, entry by entry.
        actions: The flat action vector.
        init: ``(key) -> params``.
        loss: ``(params, key, batch, start=None) -> (loss, metrics)``; batch of rows
            ``[B, T, ...]``, start of states ``[B]``.
        losses: ``(params, noise, batch, start=None) -> Losses``, the same with explicit
            noise of ``draw_noise(key, (B, T))``, or None for modes.
        observe: ``(params, key, batch, start=None) -> states [B, T]``, posterior samples.
        observe_step: ``(params, noise, state, rows) -> state``; rows ``[N, ...]`` with the
            observation, the previous ``action`` and ``is_first``.
        imagine: ``(params, key, start, actions) -> states [B, H]``; start ``[B]``,
            actions ``[B, H, A]``.
        imagine_step: ``(params, noise, state, action) -> state``.
        initial: ``(batch_size) -> state``, the state before the first row.
        draw_noise: ``(key, shape) -> noise`` for one latent sample per entry of shape.
        feature: ``(params, state) -> [..., D]``.
        decode: ``(params, states) -> {key: mean}``; images on the scale 0 to 1.
        reward: ``(params, feature) -> [...]``, mean of the (transformed) reward.
        discount: ``(params, feature) -> [...]``, predicted γ · p(not terminal), or γ.
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
    feature: Callable[[Params, State], Array]
    decode: Callable[[Params, State], dict[str, Array]]
    reward: Callable[[Params, Array], Array]
    discount: Callable[[Params, Array], Array]


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


def _components(
    config: WorldModelConfig, specs: Mapping[str, ObservationSpec], actions: ActionSpec
) -> _Components:
    encoder = _transform(lambda x: Encoder(specs, config.encoder)(x))
    decoder = _transform(lambda x: Decoder(specs, config.decoder)(x))
    reward = _transform(lambda x: ScalarHead(config.reward, "reward")(x))
    discount = _transform(lambda x: ScalarHead(config.discount, "discount")(x))
    rows = {key: jnp.zeros((1, *spec.shape), spec.dtype) for key, spec in specs.items()}
    weights = jax.eval_shape(encoder.init, jax.random.key(0), rows)
    embed = jax.eval_shape(encoder.apply, weights, rows)

    dynamics = rssm.functions(config.rssm, actions.size, embed.shape[-1])

    def init(key: Key) -> Params:
        keys = iter(jax.random.split(key, 5))
        params = {"encoder": encoder.init(next(keys), rows)}
        params["rssm"] = dynamics.init(next(keys))
        state = rssm.initial(config.rssm, 1)
        feature = dynamics.feature(params["rssm"], state)
        params["decoder"] = decoder.init(next(keys), feature)
        params["reward"] = reward.init(next(keys), feature)
        if config.predict_discount:
            params["discount"] = discount.init(next(keys), feature)
        return params

    cast = lambda apply: precision.wrap(apply, config.precision)  # noqa: E731
    return _Components(
        jax.jit(init),
        cast(encoder.apply),
        DynamicsFunctions(dynamics.init, *map(cast, dynamics[1:])),
        cast(decoder.apply),
        cast(reward.apply),
        cast(discount.apply),
    )


def _transform(function: Callable) -> hk.Transformed:
    return hk.without_apply_rng(hk.transform(function))


def _assemble(
    config: WorldModelConfig,
    specs: Mapping[str, ObservationSpec],
    actions: ActionSpec,
    parts: _Components,
) -> WorldModel:
    dynamics = parts.dynamics

    def feature(params: Params, state: State) -> Array:
        return dynamics.feature(params["rssm"], state)

    initial = functools.partial(rssm.initial, config.rssm)
    draw_noise = functools.partial(rssm.draw_noise, config.rssm)

    def reward(params: Params, feature: Array) -> Array:
        return parts.reward(params["reward"], feature)

    def discount(params: Params, feature: Array) -> Array:
        if not config.predict_discount:
            return jnp.full(feature.shape[:-1], config.discount_factor)
        return jax.nn.sigmoid(parts.discount(params["discount"], feature))

    def watch(params: Params, noise: Noise, batch: Rows, start: State | None) -> tuple:
        embed = parts.encode(params["encoder"], _shown(config, specs, batch))
        start = initial(embed.shape[0]) if start is None else start
        rows = embed, batch["action"], batch["is_first"]
        return dynamics.observe(params["rssm"], start, *rows, noise=noise), embed

    def losses(params: Params, noise: Noise, batch: Rows, start: State | None = None) -> Losses:
        observed, embed = watch(params, noise, batch, start)
        wanted = targets(config, _shown(config, specs, batch))
        log_probs = _log_probs(config, parts, params, feature(params, observed.states), wanted)
        kl, kl_value = kl_loss(observed.posterior, observed.prior, config.kl)
        terms = {key: -log_prob.mean() for key, log_prob in log_probs.items()} | {"kl": kl}
        return Losses(terms, _total(config, terms), log_probs, observed, kl_value, embed)

    def observe(params: Params, key: Key, batch: Rows, start: State | None = None) -> State:
        return watch(params, draw_noise(key, batch["is_first"].shape), batch, start)[0].states

    def observe_step(params: Params, noise: Noise, state: State, rows: Rows) -> State:
        embed = parts.encode(params["encoder"], _shown(config, specs, rows))
        rows = embed, rows["action"], rows["is_first"]
        return dynamics.observe_step(params["rssm"], state, *rows, noise=noise)

    def imagine_step(params: Params, noise: Noise, state: State, action: Array) -> State:
        return dynamics.imagine_step(params["rssm"], state, action, noise=noise)

    def imagine(params: Params, key: Key, start: State, actions: Array) -> State:
        noise = draw_noise(key, (actions.shape[1], actions.shape[0]))

        def step(state: State, now: tuple[Array, Array]) -> tuple[State, State]:
            state = imagine_step(params, now[1], state, now[0])
            return state, state

        _, states = jax.lax.scan(step, start, (jnp.swapaxes(actions, 0, 1), noise))
        return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), states)

    def decode(params: Params, states: State) -> dict[str, Array]:
        means = parts.decode(params["decoder"], feature(params, states))
        vector = {"identity": lambda x: x, "symlog": symexp}[config.vector_transform]
        return {
            key: mean + 0.5 if specs[key].kind == "image" else vector(mean)
            for key, mean in means.items()
        }

    def loss(
        params: Params, key: Key, batch: Rows, start: State | None = None
    ) -> tuple[Array, dict[str, Array]]:
        out = losses(params, draw_noise(key, batch["reward"].shape), batch, start)
        return out.total, loss_metrics(out)

    return WorldModel(
        config, specs, actions, parts.init, loss, losses, observe, observe_step, imagine,
        imagine_step, initial, draw_noise, feature, decode, reward, discount,
    )  # fmt: skip


def targets(config: WorldModelConfig, batch: Rows) -> dict[str, Array]:
    """Returns what the heads should predict: observations, rewards and discounts of a batch.

    Images are in [-0.5, 0.5], rewards transformed, and the discount is γ (1 − is_terminal).
    """
    result = {key: rows for key, rows in batch.items() if key not in ROW_KEYS}
    result = {
        key: normalize_image(rows) if rows.dtype == jnp.uint8 else rows
        for key, rows in result.items()
    }
    transform = {"identity": lambda x: x, "tanh": jnp.tanh}[config.reward_transform]
    result["reward"] = transform(batch["reward"])
    alive = 1 - batch["is_terminal"].astype(jnp.float32)
    return result | {"discount": config.discount_factor * alive}


def symlog(x: Array) -> Array:
    """sign(x) ln(1 + |x|)."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def symexp(x: Array) -> Array:
    """The inverse of ``symlog``."""
    return jnp.sign(x) * jnp.expm1(jnp.abs(x))


def _shown(config: WorldModelConfig, specs: Mapping[str, ObservationSpec], rows: Rows) -> Rows:
    """Rows with their vectors as the encoder sees them and the decoder should predict them."""
    if config.vector_transform == "identity":
        return rows
    vectors = [key for key, spec in specs.items() if spec.kind == "vector"]
    return {**rows, **{key: symlog(rows[key]) for key in vectors}}


def _total(config: WorldModelConfig, terms: Mapping[str, Array]) -> Array:
    """Adds up the loss terms by their weights."""
    scales = {
        "kl": config.kl.scale,
        "reward": config.reward_scale,
        "discount": config.discount_scale,
    }
    return sum(scales.get(key, 1.0) * term for key, term in terms.items())


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


def loss_metrics(losses: Losses) -> dict[str, Array]:
    """Scalars of a pass over a batch, named as users see them."""
    metrics = {f"{key}_loss": value for key, value in losses.terms.items()}
    metrics["loss"] = losses.total
    metrics["kl"] = losses.kl_value.mean()
    metrics["prior_entropy"] = losses.observed.prior.entropy().mean()
    metrics["posterior_entropy"] = losses.observed.posterior.entropy().mean()
    return metrics
