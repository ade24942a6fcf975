"""One gradient step of a world model, the part of learning that all agents share."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from common.dynamics.base import Noise, State
from common.learning.optimizers import Optimizer
from common.model.losses import Losses, loss_metrics
from common.model.vectors import Statistics
from common.model.world_model import WorldModel
from common.types import Array, Params, Rows


class ModelStep(NamedTuple):
    """What one gradient step returns.

    Attributes:
        params: The next parameters.
        optimizer: The optimizer's next state.
        statistics: Of vectors, with the batch in them.
        metrics: Scalars named ``world_model/...``.
        losses: Losses and posterior states, by the parameters before the step and the
            statistics after it.
    """

    params: Params
    optimizer: Any
    statistics: Statistics
    metrics: dict[str, Array]
    losses: Losses


def learn_model(
    model: WorldModel,
    optimizer: Optimizer,
    params: Params,
    optimizer_state: Any,
    statistics: Statistics,
    noise: Noise,
    batch: Rows,
    start: State | None = None,
    overshooting: Noise = None,
    float_images: bool = False,
) -> ModelStep:
    """Takes one gradient step on a batch.

    Args:
        model: The world model.
        optimizer: Its optimizer.
        params: Its parameters.
        optimizer_state: State of the optimizer.
        statistics: Of vectors, without the batch.
        noise: ``model.draw_noise(key, (B, T))``.
        batch: Rows ``[B, T, ...]``.
        start: Latent states before the batch ``[B]``; None for the initial one.
        overshooting: ``model.draw_overshooting(key, (B, T))``.
        float_images: Whether images may be floats, as in ``model.losses``.
    """
    statistics = model.track(statistics, batch)

    def loss(params: Params) -> tuple[Array, Losses]:
        losses = model.losses(params, noise, batch, start, overshooting, statistics, float_images)
        return losses.total, losses

    grads, losses = jax.grad(loss, has_aux=True)(params)
    params, optimizer_state, metrics = optimizer.update(grads, optimizer_state, params)
    metrics = {f"world_model/{key}": x for key, x in (metrics | loss_metrics(losses)).items()}
    return ModelStep(params, optimizer_state, statistics, metrics, losses)
