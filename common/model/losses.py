"""What the world model should predict, and the terms of its loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp

from common.dynamics.base import Observed
from common.model.config import WorldModelConfig
from common.nets.coders import normalize_image
from common.rows import ROW_KEYS
from common.types import Array, Rows


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


def total_loss(config: WorldModelConfig, terms: Mapping[str, Array]) -> Array:
    """Adds up the loss terms by their weights."""
    scales = {
        "kl": config.kl.scale,
        "overshooting": config.kl.overshooting_scale,
        "reward": config.reward_scale,
        "discount": config.discount_scale,
    }
    return sum(scales.get(key, 1.0) * term for key, term in terms.items())


def loss_metrics(losses: Losses) -> dict[str, Array]:
    """Scalars of a pass over a batch, named as users see them."""
    metrics = {f"{key}_loss": value for key, value in losses.terms.items()}
    metrics["loss"] = losses.total
    metrics["kl"] = losses.kl_value.mean()
    metrics["prior_entropy"] = losses.observed.prior.entropy().mean()
    metrics["posterior_entropy"] = losses.observed.posterior.entropy().mean()
    return metrics
