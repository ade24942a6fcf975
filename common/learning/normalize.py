"""Normalisation of a stream: of rewards by their magnitude, of returns by how far they spread."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal, NamedTuple

import jax.numpy as jnp

from common.checks import AT, NonNegative, Options, Range, Share, refuse
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


def stream_norm(
    x: Array, magnitude: Array, config: StreamNormConfig, measured: Array | None = None
) -> tuple[Array, Array]:
    """Updates the running magnitude by ``x`` and divides ``x`` by it; nothing is centred.

    ``magnitude = momentum * magnitude + (1 - momentum) * mean(|x|)`` and
    ``y = scale * x / (magnitude + eps)``, as DreamerV2 does with rewards.

    Args:
        x: Values of any shape.
        magnitude: Running magnitude, a scalar.
        config: Momentum, scale and epsilon.
        measured: The values that the magnitude is of, where not all of them are meant.

    Returns:
        The normalised values and the new magnitude.
    """
    mean = jnp.abs(x if measured is None else measured).mean()
    magnitude = config.momentum * magnitude + (1 - config.momentum) * mean
    return by_magnitude(x, magnitude, config), magnitude


def by_magnitude(x: Array, magnitude: Array, config: StreamNormConfig) -> Array:
    """Divides ``x`` by a running magnitude that others were counted in, as ``stream_norm`` does."""
    return x * config.scale / (magnitude + config.eps)


@dataclasses.dataclass(frozen=True)
class SpreadConfig(Options):
    """How the spread of a stream is followed.

    Attributes:
        method: "percentiles": from the low to the high one, which single large values do not
            move (DreamerV3's returns); "mean_std": mean and standard deviation; "none": off.
        rate: Weight of the new values.
        limit: Least spread that is divided by; 1 leaves small values as they are.
        low: The low percentile.
        high: The high percentile.
        debias: Whether the first values count in full; otherwise the stream begins at zero.
    """

    method: Literal["none", "percentiles", "mean_std"] = "none"
    rate: Share = 0.01
    limit: NonNegative = 1.0
    low: Annotated[float, Range(0, 100)] = 5.0
    high: Annotated[float, Range(0, 100)] = 95.0
    debias: bool = False

    def __post_init__(self) -> None:
        """Raises an OptionError where a value is none that its option can have."""
        super().__post_init__()
        if self.low >= self.high:
            refuse(self, f"{AT}low is {self.low:g}; expected less than {AT}high, {self.high:g}")


class Spread(NamedTuple):
    """Running statistics of a stream, scalars.

    Attributes:
        first: The low percentile, or the mean.
        second: The high percentile, or the mean of the squares.
        weight: How much of them has been seen, from 0 to 1.
    """

    first: Array
    second: Array
    weight: Array


def initial_spread() -> Spread:
    """Returns the statistics before the first values."""
    # Buffers of their own: one cannot be donated twice.
    return Spread(*(jnp.zeros((), jnp.float32) for _ in range(3)))


def update_spread(spread: Spread, x: Array, config: SpreadConfig) -> Spread:
    """Moves the statistics towards those of ``x``: ``s = (1 - rate) s + rate s(x)``.

    Args:
        spread: The statistics so far.
        x: Values of any shape, taken together. Percentiles are interpolated linearly.
        config: Which statistics, and the rate.
    """
    if config.method == "mean_std":
        new = x.mean(), jnp.square(x).mean()
    else:
        new = jnp.percentile(x, config.low), jnp.percentile(x, config.high)
    pairs = zip(spread, (*new, jnp.ones((), jnp.float32)), strict=True)
    return Spread(*((1 - config.rate) * old + config.rate * value for old, value in pairs))


def offset_and_scale(spread: Spread, config: SpreadConfig) -> tuple[Array, Array]:
    """Returns what to subtract and what to divide by; 0 and 1 where it is off.

    With percentiles, the low one and max(limit, high - low); otherwise the mean and max(limit,
    standard deviation), as in DreamerV3 (arXiv:2301.04104, Eq. 7).
    """
    if config.method == "none":
        return jnp.zeros(()), jnp.ones(())
    first, second = spread.first, spread.second
    if config.debias:
        seen = jnp.maximum(config.rate, spread.weight)
        first, second = first / seen, second / seen
    if config.method == "mean_std":
        width = jnp.sqrt(jnp.maximum(second - jnp.square(first), 0))
    else:
        width = second - first
    return first, jnp.maximum(config.limit, width)


def natural(x: Array, spread: Spread | None, config: SpreadConfig) -> Array:
    """Undoes a normalisation: ``x`` times what is divided by plus what is subtracted."""
    if spread is None:
        return x
    offset, scale = offset_and_scale(spread, config)
    return x * scale + offset


def normalised(x: Array, spread: Spread | None, config: SpreadConfig) -> Array:
    """Subtracts and divides by what ``offset_and_scale`` says."""
    if spread is None:
        return x
    offset, scale = offset_and_scale(spread, config)
    return (x - offset) / scale
