"""Vectors as a world model sees them: as they are, squashed, or standardised.

Standardised vectors need statistics, which learning keeps in the model's parameters under
``VECTORS``. After the n-th batch with mean b and (population) variance v, with
w = max(1 / n, 1 / 1000):

    d = b - mean,   mean <- mean + w d,   variance <- (1 - w) (variance + w d^2) + w v

which is the mean and variance of all batches so far, and of about the last 1000 from then
on. One-hot vectors stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from common.spaces import ObservationSpec
from common.types import Array, Params, Rows

VECTORS = "vectors"
"""Where the parameters hold the statistics."""
BOUND = 10.0
"""Standard deviations at which a standardised entry is cut off."""
LEAST_STD = 1e-3
"""An entry that varies less than this is divided by it instead."""
_MEMORY = 1000

VectorTransform = Literal["identity", "symlog", "standard"]


Moments = dict[str, Array]
"""Statistics of one vector: "batches" seen so far (float32, at most 1000), "mean" and
"variance" ``[D]``."""


class VectorFunctions(NamedTuple):
    """One transform of all vectors of an observation, as pure functions.

    Attributes:
        init: ``() -> {key: Moments}``, empty without statistics.
        track: ``(params, batch) -> params`` with a batch more in the statistics.
        forward: ``(params, rows) -> rows`` as the encoder sees them.
        backward: ``(params, {key: x}) -> {key: x}``, from there to natural units.
    """

    init: Callable[[], dict[str, Moments]]
    track: Callable[[Params, Rows], Params]
    forward: Callable[[Params, Rows], Rows]
    backward: Callable[[Params, Mapping[str, Array]], dict[str, Array]]


def vector_functions(
    transform: VectorTransform, specs: Mapping[str, ObservationSpec]
) -> VectorFunctions:
    """Builds the transform for an observation.

    Args:
        transform: Its name, as in ``WorldModelConfig.vector_transform``.
        specs: The flat observation.
    """
    vectors = [key for key, spec in specs.items() if spec.kind == "vector"]
    if transform == "standard":
        return _standard({key: specs[key].shape for key in vectors if not specs[key].choices})
    there, back = {"identity": (_same, _same), "symlog": (symlog, symexp)}[transform]
    return VectorFunctions(
        init=dict,
        track=lambda params, batch: params,
        forward=lambda params, rows: _apply(lambda key, x: there(x), vectors, rows),
        backward=lambda params, means: _apply(lambda key, x: back(x), vectors, means),
    )


def _standard(shapes: Mapping[str, tuple[int, ...]]) -> VectorFunctions:
    vectors = list(shapes)

    def init() -> dict[str, Moments]:
        return {
            key: {"batches": jnp.zeros(()), "mean": jnp.zeros(shape), "variance": jnp.ones(shape)}
            for key, shape in shapes.items()
        }

    def track(params: Params, batch: Rows) -> Params:
        new = {key: add_batch(params[VECTORS][key], batch[key]) for key in vectors}
        return {**params, VECTORS: new}

    def forward(params: Params, rows: Rows) -> Rows:
        def standardize(key: str, x: Array) -> Array:
            mean, std = _scale(params, key)
            return jnp.clip((x - mean) / std, -BOUND, BOUND)

        return _apply(standardize, vectors, rows)

    def backward(params: Params, means: Mapping[str, Array]) -> dict[str, Array]:
        def restore(key: str, x: Array) -> Array:
            mean, std = _scale(params, key)
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
    return jax.tree.map(lambda x, y: jnp.where(finite, x, y), new, moments)


def symlog(x: Array) -> Array:
    """sign(x) ln(1 + |x|)."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def symexp(x: Array) -> Array:
    """The inverse of ``symlog``."""
    return jnp.sign(x) * jnp.expm1(jnp.abs(x))


def _same(x: Array) -> Array:
    return x


def _scale(params: Params, key: str) -> tuple[Array, Array]:
    """Mean and standard deviation; no gradient reaches them."""
    moments = jax.lax.stop_gradient(params[VECTORS][key])
    return moments["mean"], jnp.maximum(jnp.sqrt(moments["variance"]), LEAST_STD)


def _apply(
    function: Callable[[str, Array], Array], keys: list[str], rows: Mapping[str, Array]
) -> dict[str, Array]:
    return {key: function(key, x) if key in keys else x for key, x in rows.items()}
