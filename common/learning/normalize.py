"""Normalisation of a stream of rewards by its running magnitude."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from common.checks import NonNegative, Options, Share
from common.types import Array


@dataclasses.dataclass(frozen=True)
class StreamNormConfig(Options):
    """How a stream is normalised.

    Attributes:
        momentum: Weight of the old magnitude; 1 keeps it at one for ever, which turns
            normalisation off.
        scale: Mean magnitude of what comes out.
        eps: Added to the magnitude before the division.
    """

    momentum: Share = 1.0
    scale: NonNegative = 1.0
    eps: NonNegative = 1e-8


def initial_magnitude() -> Array:
    """Returns the running magnitude before the first update, one."""
    return jnp.ones((), jnp.float32)


def stream_norm(x: Array, magnitude: Array, config: StreamNormConfig) -> tuple[Array, Array]:
    """Updates the running magnitude by ``x`` and divides ``x`` by it; nothing is centred.

    ``magnitude = momentum * magnitude + (1 - momentum) * mean(|x|)`` and
    ``y = scale * x / (magnitude + eps)``, as DreamerV2 does with rewards.

    Args:
        x: Values of any shape.
        magnitude: Running magnitude, a scalar.
        config: Momentum, scale and epsilon.

    Returns:
        The normalised values and the new magnitude.
    """
    mean = jnp.abs(x).mean()
    magnitude = config.momentum * magnitude + (1 - config.momentum) * mean
    return x * config.scale / (magnitude + config.eps), magnitude
