"""Distils histories into a transformer: those of learning, or only those of experts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np
import optax

from benchmarks.incontext.policy import Policy, PolicyConfig, cross_entropy, history_tokens
from benchmarks.incontext.source import Histories, draw, last, strided
from common.logging import format_seconds
from common.run.clocks import Silence
from common.types import Array, Params

Kind = Literal["histories", "experts"]
"""What is distilled: Algorithm Distillation, or Expert Distillation."""


def contexts(
    kind: Kind, histories: Histories, config: PolicyConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a batch: tokens ``[B, T, INPUTS]`` and actions ``[B, T]``."""
    some = draw(histories, config.batch, rng)
    if kind == "experts":
        return history_tokens(last(some, config.episodes, rng))
    stride = some.cells.shape[1] // config.episodes
    return history_tokens(strided(some, stride, config.episodes, rng))


def distil(
    kind: Kind,
    policy: Policy,
    histories: Histories,
    config: PolicyConfig,
    seed: int,
    say: Callable[[str], None] = print,
) -> tuple[Params, list[float]]:
    """Trains a transformer to predict the actions of histories.

    Args:
        kind: Which part of them.
        policy: The transformer.
        histories: Of goals to learn from.
        config: How long, and how.
        seed: Of weights and batches.
        say: Told how far it is.

    Returns:
        The parameters, and the cross entropy of every update.
    """
    rate = optax.warmup_cosine_decay_schedule(0.0, config.lr, config.updates // 10, config.updates)
    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(rate))
    rng, params = np.random.default_rng(seed), jax.jit(policy.init)(jax.random.key(seed))
    memory = optimizer.init(params)

    @jax.jit
    def update(params: Params, memory: Any, tokens: Array, actions: Array) -> tuple:
        loss = lambda params: cross_entropy(policy.logits(params, tokens), actions)  # noqa: E731
        value, gradient = jax.value_and_grad(loss)(params)
        change, memory = optimizer.update(gradient, memory, params)
        return optax.apply_updates(params, change), memory, value

    losses, silence, begin = [], Silence(), time.monotonic()
    for number in range(config.updates):
        params, memory, loss = update(params, memory, *contexts(kind, histories, config, rng))
        losses.append(float(loss))
        if silence.too_long() or number + 1 == config.updates:
            each = (time.monotonic() - begin) / (number + 1)
            left = format_seconds(each * (config.updates - number - 1))
            recent = f"cross entropy {np.mean(losses[-100:]):.3f}"
            say(f"update {number + 1:,} of {config.updates:,}: {recent}, {left} left")
    return params, losses
