"""Intrinsic rewards that real rows have: a head learns to predict them from latent states.

    L = − mean of ln p(x[t]; f[t]) over the rows t that count,   r[t] = E[x; f[t]]

for a stream x[t] of numbers that arrived with the rows, and features f[t]. "surprise" takes how
badly the world model predicted a row, as ``ModelLoss`` of DreamerV2's public code does:

    kl:    x[t] = KL(posterior ‖ prior)[t]
    loss:  x[t] = KL(posterior ‖ prior)[t] + Σ over observations o of (max ln p − ln p(o[t] | s[t]))

The second, ours, is the negative evidence bound of the observation but for a constant: it counts
noise whether the latent state takes it up or not. Both stay high before a television that shows
noise, which is what this method is here to show. Rows that begin an episode count for nothing,
since no action led there. "curiosity" takes what the environment loop noted; see ``reachability``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import haiku as hk
import jax.numpy as jnp

from common.model.imagine import Trajectory
from common.model.losses import Losses
from common.model.world_model import WorldModel
from common.nets.heads import HeadConfig, Prediction, ScalarHead
from common.nets.precision import Precision, wrap
from common.types import Array, Key, Params
from dreamer.exploration.intrinsic import Intrinsic, Seen, Sizes

Stream = Callable[[Seen], tuple[Array, Array]]
"""Returns the stream ``[B, T]`` of replayed rows, and which of them count ``[B, T]``."""


def make_stream(
    config: HeadConfig, sizes: Sizes, precision: Precision, stream: Stream
) -> Intrinsic:
    """Builds the head that predicts a stream.

    Args:
        config: The head.
        sizes: Of what the world model infers.
        precision: Number format of the layers' arithmetic.
        stream: What it learns to predict.
    """
    head = hk.without_apply_rng(hk.transform(lambda x: ScalarHead(config, "stream")(x)))
    predict = wrap(head.apply, precision)

    def init(key: Key) -> Params:
        return head.init(key, jnp.zeros((1, sizes.feature)))

    def loss(params: Params, noise: None, seen: Seen) -> tuple[Array, dict[str, Array]]:
        values, counts = stream(seen)
        prediction: Prediction = predict(params, seen.features)
        weight = counts.astype(jnp.float32)
        amount = jnp.maximum(weight.sum(), 1)
        value = -(weight * prediction.log_prob(values)).sum() / amount
        return value, {"loss": value, "stream_mean": (weight * values).sum() / amount}

    def reward(params: Params, trajectory: Trajectory) -> Array:
        return predict(params, trajectory.features).mean()

    return Intrinsic(init, loss, reward)


def surprise_stream(model: WorldModel, kind: Literal["loss", "kl"]) -> Stream:
    """Returns how badly a world model predicts rows; see the module."""

    def stream(seen: Seen) -> tuple[Array, Array]:
        return surprise(model, seen.losses, kind), ~seen.batch["is_first"]

    return stream


def surprise(model: WorldModel, losses: Losses, kind: Literal["loss", "kl"]) -> Array:
    """Returns the surprise ``[B, T]`` of rows."""
    value = losses.kl_value
    if kind == "kl":
        return value
    normal = model.config.decoder.score == "unit_normal"
    # In the order of the terms: that of a set differs between processes, and sums round.
    for name in (name for name in losses.log_probs if name in model.observations):
        # The constant of a normal of variance one; the other likelihoods are 0 at their best.
        size = math.prod(model.observations[name].shape)
        best = -0.5 * math.log(2 * math.pi) * size if normal else 0.0
        value += best - losses.log_probs[name]
    return value
