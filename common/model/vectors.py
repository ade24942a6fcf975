"""Vectors as a world model sees them: as they are, squashed, or standardised.

Standardised vectors need statistics. They are counted, not learned, so that they stand beside
the parameters: no optimizer, weight decay or gradient touches them. After the n-th batch with
mean b and (population) variance v, with w = max(1 / n, 1 / 1000):

    d = b - mean,   mean <- mean + w d,   variance <- (1 - w) (variance + w d^2) + w v

which is the mean and variance of all batches so far, and of about the last 1000 from then
on. One-hot vectors of choices stay as they are under every transform.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from common.distributions import symexp, symlog
from common.spaces import ObservationSpec
from common.types import Array, Rows

BOUND = 10.0
"""Standard deviations at which a standardised entry is cut off."""
LEAST_STD = 1e-3
"""An entry that varies less than this is divided by it instead."""
_MEMORY = 1000

VectorTransform = Literal["identity", "symlog", "standard"]


Moments = dict[str, Array]
"""Statistics of one vector: "batches" seen so far (float32, at most 1000), "mean" and
"variance" ``[D]``."""
Statistics = Mapping[str, Moments]
"""Moments of every standardised vector by its key; empty where none is."""


class VectorFunctions(NamedTuple):
    """One transform of all vectors of an observation, as pure functions.

    Attributes:
        init: ``() -> statistics`` of no batch: mean 0, variance 1.
        track: ``(statistics, batch) -> statistics`` with a batch more; what it returns takes
            no gradient.
        forward: ``(statistics, rows) -> rows`` as the encoder sees them.
        backward: ``(statistics, {key: x}) -> {key: x}``, from there to natural units.
    """

    init: Callable[[], Statistics]
    track: Callable[[Statistics, Rows], Statistics]
    forward: Callable[[Statistics, Rows], Rows]
    backward: Callable[[Statistics, Mapping[str, Array]], dict[str, Array]]


def vector_functions(
    transform: VectorTransform, specs: Mapping[str, ObservationSpec]
) -> VectorFunctions:
    """Builds the transform for an observation.

    Args:
        transform: Its name, as in ``WorldModelConfig.vector_transform``.
        specs: The flat observation.
    """
    numbers = [key for key, spec in specs.items() if spec.kind == "vector" and not spec.choices]
    if transform == "standard":
        return _standard({key: specs[key].shape for key in numbers})
    there, back = {"identity": (_same, _same), "symlog": (symlog, symexp)}[transform]
    return VectorFunctions(
        init=dict,
        track=lambda statistics, batch: statistics,
        forward=lambda statistics, rows: _apply(lambda key, x: there(x), numbers, rows),
        backward=lambda statistics, means: _apply(lambda key, x: back(x), numbers, means),
    )


def _standard(shapes: Mapping[str, tuple[int, ...]]) -> VectorFunctions:
    vectors = list(shapes)

    def init() -> Statistics:
        return {
            key: {"batches": jnp.zeros(()), "mean": jnp.zeros(shape), "variance": jnp.ones(shape)}
            for key, shape in shapes.items()
        }

    def track(statistics: Statistics, batch: Rows) -> Statistics:
        return {key: add_batch(statistics[key], batch[key]) for key in vectors}

    def forward(statistics: Statistics, rows: Rows) -> Rows:
        def standardize(key: str, x: Array) -> Array:
            mean, std = _scale(statistics[key])
            return jnp.clip((x - mean) / std, -BOUND, BOUND)

        return _apply(standardize, vectors, rows)

    def backward(statistics: Statistics, means: Mapping[str, Array]) -> dict[str, Array]:
        def restore(key: str, x: Array) -> Array:
            mean, std = _scale(statistics[key])
            return mean + std * x

        return _apply(restore, vectors, means)

    return VectorFunctions(init, track, forward, backward)


def add_batch(moments: Moments, rows: Array) -> Moments:
    """Adds a batch ``[..., D]`` to the statistics; one with NaN or infinities is left out."""
    axes = tuple(range(rows.ndim - 1))
    batches = jnp.minimum(moments["batches"] + 1, _MEMORY)
    share, change = 1 / batches, rows.mean(axes) - moments["mean"]
    variance = (1 - share) * (moments["variance"] + share * change**2) + share * rows.var(axes)
    new = {"batches": batches, "mean": moments["mean"] + share * change, "variance": variance}
    finite = jnp.isfinite(rows).all()
    new = jax.tree.map(lambda x, y: jnp.where(finite, x, y), new, moments)
    return jax.lax.stop_gradient(new)


def are_counted(statistics: Statistics) -> bool:
    """Whether there are statistics, of a batch or more."""
    return any(moments["batches"] > 0 for moments in statistics.values())


def _same(x: Array) -> Array:
    return x


def _scale(moments: Moments) -> tuple[Array, Array]:
    """Mean and standard deviation; no gradient reaches them."""
    moments = jax.lax.stop_gradient(moments)
    return moments["mean"], jnp.maximum(jnp.sqrt(moments["variance"]), LEAST_STD)


def _apply(
    function: Callable[[str, Array], Array], keys: list[str], rows: Mapping[str, Array]
) -> dict[str, Array]:
    return {key: function(key, x) if key in keys else x for key, x in rows.items()}
