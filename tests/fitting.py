"""Training of small models inside tests, in one compiled loop."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from common.learning.optimizers import OptimizerConfig, make_optimizer
from tests.compiling import thorough

Learned = TypeVar("Learned")


def learned_once(function: Callable[..., Learned]) -> Callable[..., Learned]:
    """Keeps what a function returns by its arguments, through clean-ups of the suite too.

    Weights are small, and to learn them again takes a minute; ``tests.memory`` empties the
    caches of ``functools``, which hold programs.
    """
    kept: dict[tuple[Any, ...], Learned] = {}

    @functools.wraps(function)
    def once(*args: Any) -> Learned:
        if args not in kept:
            kept[args] = function(*args)
        return kept[args]

    return once


def fit(
    init: Any,
    loss: Any,
    key: jax.Array,
    inputs: Any,
    draw: Any = lambda x: x,
    rate: float = 3e-3,
) -> Any:
    """Returns parameters after one update of Adam on each batch.

    Args:
        init: ``(key) -> params``.
        loss: ``(params, batch) -> (loss, metrics)``.
        key: Of the first parameters.
        inputs: What the batches are made of ``[updates, ...]``.
        draw: Makes a batch of one of the inputs.
        rate: The learning rate at its largest.
    """
    optimizer = make_optimizer(
        OptimizerConfig(lr=1.0, clip=1.0, weight_decay=0.0, eps=1e-8, adam="standard")
    )
    updates = jax.tree.leaves(inputs)[0].shape[0]

    def update(carry: Any, now: Any) -> Any:
        batch, done = draw(now[0]), now[1]
        params, state = carry
        gradient = jax.grad(lambda p: loss(p, batch)[0])(params)
        new, state, _ = optimizer.update(gradient, state, params)
        # A short warm-up, then half a cosine.
        step = rate * jnp.minimum(1, 20 * done) * (1 + jnp.cos(jnp.pi * done)) / 2
        return (jax.tree.map(lambda p, q: p + step * (q - p), params, new), state), None

    def run(key: jax.Array, inputs: Any) -> Any:
        params = init(key)
        done = jnp.arange(updates) / updates
        return jax.lax.scan(update, (params, optimizer.init(params)), (inputs, done))[0][0]

    return jax.jit(run, compiler_options=thorough())(key, inputs)
