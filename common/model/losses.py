"""The loss of a world model: targets, log-likelihoods, KL, overshooting, their sum, metrics.

The loss (DreamerV2, arXiv:2010.02193, Eq. 2), means over B and T:

    L = − ln p(x | s) − c_r ln p(r | s) − c_d ln p(d | s) + β KL_balanced(q ‖ p)

Likelihoods of observations and rewards are normals of unit variance, summed over
pixels and entries and with their constant −½ ln 2π. The discount head is a Bernoulli
with the soft target γ (1 − is_terminal), so its mean already contains γ. DreamerV3's losses
(arXiv:2301.04104) differ by options: ``decoder.score``, ``kl.dyn_scale``, ``soft_discount``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from common.dynamics.base import Noise, Observed, State
from common.dynamics.kl import kl_terms
from common.dynamics.overshooting import overshooting_loss
from common.model.components import Components
from common.model.config import WorldModelConfig
from common.model.vectors import Statistics
from common.nets.coders import normalize_image
from common.rows import COST, ROW_KEYS
from common.types import Array, Params, Rows


class Losses(NamedTuple):
    """Everything that one pass over a batch computes.

    Attributes:
        terms: Unscaled loss terms ``[B, T]`` by name: one for each predicted observation,
            "reward", "discount", "cost" and "overshooting" where there are any, and "kl", or "dyn"
            and "rep" where these have weights of their own.
        total: The weighted sum of their means.
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


def make_losses(config: WorldModelConfig, parts: Components) -> Callable[..., Losses]:
    """Returns ``(params, noise, batch, start, overshooting, statistics) -> Losses``.

    Args:
        config: Weights, transforms, and which heads shape the latent states.
        parts: The parts of the model.
    """
    scales = loss_scales(config, parts.decoded)

    def losses(
        params: Params,
        noise: Noise,
        batch: Rows,
        start: State | None,
        overshooting: Noise,
        statistics: Statistics,
    ) -> Losses:
        batch = parts.vectors.forward(statistics, batch)
        observed, embed = observe(parts, params, noise, batch, start)
        wanted = targets(config, batch)
        log_probs = _log_probs(config, parts, params, observed.states, wanted)
        kl, kl_value = kl_terms(observed.posterior, observed.prior, config.kl)
        terms = {key: -log_prob for key, log_prob in log_probs.items()} | kl
        if config.kl.overshooting:
            terms["overshooting"] = overshooting_loss(
                functools.partial(_imagine_step, parts, params),
                functools.partial(parts.dynamics.prior, params[parts.name]),
                observed, batch["action"], batch["is_first"], overshooting,
                distance=config.kl.overshooting, free=config.kl.free,
            )  # fmt: skip
        return Losses(terms, total_loss(terms, scales), log_probs, observed, kl_value, embed)

    return losses


def observe(
    parts: Components, params: Params, noise: Noise, batch: Rows, start: State | None
) -> tuple[Observed, Array]:
    """Filters rows ``[B, T, ...]`` whose vectors are transformed; returns the embedding too."""
    embed = parts.encode(params, batch)
    start = parts.initial(embed.shape[0]) if start is None else start
    rows = embed, batch["action"], batch["is_first"]
    return parts.dynamics.observe(params[parts.name], start, *rows, noise=noise), embed


def targets(config: WorldModelConfig, batch: Rows) -> dict[str, Array]:
    """Returns what the heads should predict: observations, rewards, discounts, costs of a batch.

    Images are in [-0.5, 0.5], rewards transformed, and the discount is γ (1 − is_terminal), or
    1 − is_terminal where it is not soft.
    """
    result = {key: rows for key, rows in batch.items() if key not in ROW_KEYS}
    result = {
        key: normalize_image(rows) if rows.dtype == jnp.uint8 else rows
        for key, rows in result.items()
    }
    result["reward"] = learned_reward(config, batch["reward"])
    if config.predict_cost:
        result[COST] = batch[COST]
    alive = 1 - batch["is_terminal"].astype(jnp.float32)
    return result | {"discount": config.discount_factor * alive if config.soft_discount else alive}


def learned_reward(config: WorldModelConfig, reward: Array) -> Array:
    """Returns rewards as they are learned and imagined, ``config.reward_transform`` of them."""
    return {"identity": lambda x: x, "tanh": jnp.tanh}[config.reward_transform](reward)


def loss_scales(config: WorldModelConfig, decoded: tuple[str, ...]) -> dict[str, float]:
    """Returns the weight of every term that the model has, by the term's name."""
    scales = (
        dict.fromkeys(decoded, config.decoder_scale)
        | {"reward": config.reward_scale}
        | config.kl.scales
    )
    if config.predict_discount:
        scales["discount"] = config.discount_scale
    if config.predict_cost:
        scales[COST] = config.cost_scale
    if config.kl.overshooting:
        scales["overshooting"] = config.kl.overshooting_scale
    return scales


def total_loss(terms: Mapping[str, Array], scales: Mapping[str, float]) -> Array:
    """Returns Σ scale · mean(term), a scalar.

    Args:
        terms: Terms ``[B, T]`` by name.
        scales: A weight for each of them, and for nothing else.

    Raises:
        KeyError: A term has no weight, or a weight no term.
    """
    if terms.keys() != scales.keys():
        raise KeyError(f"the loss has terms {sorted(terms)} and weights of {sorted(scales)}")
    chex.assert_rank(list(terms.values()), 2)
    chex.assert_equal_shape(list(terms.values()))
    return sum(scales[key] * term.mean() for key, term in terms.items())


def loss_metrics(losses: Losses) -> dict[str, Array]:
    """Scalars of a pass over a batch, named as users see them."""
    metrics = {f"{key}_loss": term.mean() for key, term in losses.terms.items()}
    metrics["loss"] = losses.total
    metrics["kl"] = losses.kl_value.mean()
    metrics["prior_entropy"] = losses.observed.prior.entropy().mean()
    metrics["posterior_entropy"] = losses.observed.posterior.entropy().mean()
    return metrics


def _log_probs(
    config: WorldModelConfig, parts: Components, params: Params, states: State, wanted: Rows
) -> dict[str, Array]:
    """Log-likelihoods ``[B, T]`` of what each head should have predicted."""
    feature = parts.feature(params, states)

    def shown(gradients: bool) -> Array:
        return feature if gradients else jax.lax.stop_gradient(feature)

    heads = parts.decode(params, shown(config.decoder_gradients))
    heads |= {"reward": parts.reward(params, shown(config.reward_gradients))}
    if config.predict_discount:
        heads["discount"] = parts.discount(params, shown(config.discount_gradients))
    if config.predict_cost:
        heads[COST] = parts.cost(params, shown(config.reward_gradients))
    return {key: head.log_prob(wanted[key]) for key, head in heads.items()}


def _imagine_step(
    parts: Components, params: Params, state: State, action: Array, noise: Noise
) -> State:
    # By keyword: noise keeps its precision.
    return parts.dynamics.imagine_step(params[parts.name], state, action, noise=noise)
