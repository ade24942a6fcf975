"""The parts of a world model, as pure functions ``(params, ...)`` of their own parameters."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from common.distributions import Bernoulli, Discounted, Joint, OneHot, Squared, UnitNormal
from common.dynamics import rssm, s5, transformer
from common.dynamics.base import DynamicsFunctions, State
from common.errors import UserError
from common.model.config import WorldModelConfig
from common.model.vectors import VectorFunctions, vector_functions
from common.nets import precision
from common.nets.coders import Decoder, Encoder, selected_keys
from common.nets.heads import Prediction, ScalarHead
from common.spaces import ActionSpec, ObservationSpec
from common.types import Array, Key, Params, Rows

DYNAMICS = {"rssm": rssm, "transformer": transformer, "s5": s5}
"""Modules with ``functions``, ``initial`` and ``draw_noise``, by the name of their options."""

TERMS = ("reward", "discount", "cost", "kl", "dyn", "rep", "overshooting")
"""Names of loss terms, which no predicted observation may have."""


Observation = UnitNormal | Squared | Joint
"""What the decoder returns: it has ``mean()`` and ``log_prob(target)``."""


class Components(NamedTuple):
    """Everything that a world model is assembled from; no Haiku is left in it.

    All but ``init``, ``initial``, ``draw_noise`` and ``vectors`` take the parameters of the
    whole model, and pick those of their component.

    Attributes:
        init: ``(key) -> params``, a mapping by component.
        encode: ``(params, rows) -> embedding [..., D]``; vectors already transformed.
        dynamics: The latent dynamics; its functions take ``params[name]``.
        name: Name of the dynamics, and of its parameters.
        initial: ``(batch_size) -> state``.
        draw_noise: ``(key, shape) -> noise`` of one latent sample for each entry of shape.
        decode: ``(params, feature) -> {key: distribution}``, on the encoder's scale.
        reward: ``(params, feature) -> distribution`` of the (transformed) reward.
        discount: ``(params, feature) -> distribution`` with mean γ p(not terminal).
        cost: ``(params, feature) -> distribution`` of the cost; None where it is not predicted.
        encoded: Keys of the observations that are seen.
        decoded: Keys of the observations that are predicted.
        feature_size: Entries of a feature, D.
        vectors: The transform of vectors.
    """

    init: Callable[[Key], Params]
    encode: Callable[[Params, Rows], Array]
    dynamics: DynamicsFunctions
    name: str
    initial: Callable[[int], State]
    draw_noise: Callable[[Key, tuple[int, ...]], Array]
    decode: Callable[[Params, Array], dict[str, Observation]]
    reward: Callable[[Params, Array], Prediction]
    discount: Callable[[Params, Array], Prediction]
    cost: Callable[[Params, Array], Prediction] | None
    encoded: tuple[str, ...]
    decoded: tuple[str, ...]
    feature_size: int
    vectors: VectorFunctions

    def feature(self, params: Params, state: State) -> Array:
        """Returns what heads and policies see of a state, ``[..., D]``."""
        return self.dynamics.feature(params[self.name], state)


def make_components(
    config: WorldModelConfig, specs: Mapping[str, ObservationSpec], actions: ActionSpec
) -> Components:
    """Builds the parts.

    Args:
        config: Sizes and kinds.
        specs: The flat observation.
        actions: The flat action vector.

    Raises:
        UserError: A coder selects nothing, or a predicted observation has the name of a term.
    """
    cast = functools.partial(precision.wrap, name=config.precision)
    module, options = DYNAMICS[config.dynamics], getattr(config, config.dynamics)
    decoded = _decoded_keys(config, specs)
    encoder = _transform(lambda x: Encoder(specs, config.encoder)(x))
    # Shapes alone: a file from a stranger may name any size.
    deter = jax.eval_shape(lambda: module.initial(options, 1)).deter.shape[-1]
    decoder = _transform(lambda x: _decode(Decoder(specs, config.decoder, deter)(x), config, specs))
    reward = _transform(lambda x: ScalarHead(config.reward, "reward")(x))
    cost = _transform(lambda x: ScalarHead(config.reward, "cost")(x))
    discount = _transform(
        lambda x: _discount(config, ScalarHead(config.discount, "discount", "bernoulli")(x))
    )
    rows = {key: jnp.zeros((1, *spec.shape), spec.dtype) for key, spec in specs.items()}
    weights = jax.eval_shape(encoder.init, jax.random.key(0), rows)
    embed = jax.eval_shape(encoder.apply, weights, rows)
    dynamics = module.functions(options, actions.size, embed.shape[-1])

    def first_feature(params: Params) -> Array:
        return dynamics.feature(params, module.initial(options, 1))

    def init(key: Key) -> Params:
        keys = iter(jax.random.split(key, 5))
        params = {"encoder": encoder.init(next(keys), rows)}
        params[config.dynamics] = dynamics.init(next(keys))
        feature = first_feature(params[config.dynamics])
        params["decoder"] = decoder.init(next(keys), feature)
        params["reward"] = reward.init(next(keys), feature)
        if config.predict_discount:
            params["discount"] = discount.init(next(keys), feature)
        if config.predict_cost:  # A key of its own: all else is drawn as without it.
            params["cost"] = cost.init(jax.random.fold_in(key, 5), feature)
        return params

    feature = jax.eval_shape(lambda key: first_feature(dynamics.init(key)), jax.random.key(0))

    def constant_discount(params: Params, feature: Array) -> Prediction:
        goes_on = jnp.full(feature.shape[:-1], config.discount_factor)
        return Bernoulli(jax.scipy.special.logit(goes_on))

    def of(component: str, apply: Callable[..., Any]) -> Callable[..., Any]:
        apply = cast(apply)
        return lambda params, x: apply(params[component], x)

    return Components(
        init=jax.jit(init),
        encode=of("encoder", encoder.apply),
        dynamics=DynamicsFunctions(dynamics.init, *map(cast, dynamics[1:])),
        name=config.dynamics,
        initial=functools.partial(module.initial, options),
        draw_noise=functools.partial(module.draw_noise, options),
        decode=of("decoder", decoder.apply),
        reward=of("reward", reward.apply),
        discount=of("discount", discount.apply) if config.predict_discount else constant_discount,
        cost=of("cost", cost.apply) if config.predict_cost else None,
        encoded=tuple(itertools.chain(*selected_keys(specs, config.encoder))),
        decoded=decoded,
        feature_size=feature.shape[-1],
        vectors=vector_functions(config.vector_transform, specs),
    )


def _decode(
    means: Mapping[str, Array], config: WorldModelConfig, specs: Mapping[str, ObservationSpec]
) -> dict[str, Observation]:
    def score(x: Array, spec: ObservationSpec) -> Observation:
        if config.decoder.score == "unit_normal":
            return UnitNormal(x, len(spec.shape))
        if not spec.choices:
            return Squared(x, len(spec.shape))
        ends = list(itertools.accumulate(spec.choices))
        return Joint(tuple(OneHot(logits) for logits in jnp.split(x, ends[:-1], -1)))

    return {key: score(x, specs[key]) for key, x in means.items()}


def _discount(config: WorldModelConfig, goes_on: Prediction) -> Prediction:
    if config.soft_discount:
        return goes_on
    return Discounted(goes_on.logits, factor=config.discount_factor)


def _decoded_keys(
    config: WorldModelConfig, specs: Mapping[str, ObservationSpec]
) -> tuple[str, ...]:
    images, vectors = selected_keys(specs, config.decoder)
    for key in (*images, *vectors):
        if key in TERMS:
            raise UserError(
                f"an observation cannot be named {key!r}, which is a term of the loss; rename it "
                "in a wrapper"
            )
    return (*images, *vectors)


def _transform(function: Callable) -> hk.Transformed:
    return hk.without_apply_rng(hk.transform(function))
