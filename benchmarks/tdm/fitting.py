"""Learning: gradient steps on windows of a data set, for every contender alike."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.tdm.clone import Cloned
from benchmarks.tdm.contenders import Fitted
from benchmarks.tdm.scale import Scale
from common.checks import Count, NonNegative, Options, Range, Share
from common.replay.bodies import Bodies
from common.run.clocks import Silence
from common.tokens.steps import Steps
from common.types import Array, Key
from planet.model import PlannedModel


@dataclasses.dataclass(frozen=True)
class Fitting(Options):
    """How a contender learns.

    Attributes:
        updates: Gradient steps, at least 2.
        batch: Windows of a step, B.
        window: Rows of a window, T.
        lr: Largest learning rate of Adam; it rises over a twentieth of the updates and falls
            to nothing along half a cosine.
        clip: Largest global norm of the gradients.
        jitter: Standard deviation of normal noise on all rows of a window, as a share of each
            entry's deviation over the data: few episodes are then harder to learn by heart.
    """

    updates: Annotated[int, Range(2)] = 1000
    batch: Count = 32
    window: Annotated[int, Range(2)] = 16
    lr: Share = 1e-3
    clip: NonNegative = 1.0
    jitter: NonNegative = 0.0


class Progress(NamedTuple):
    """What learning left behind.

    Attributes:
        fitted: The parameters.
        loss: Mean loss of the last tenth of the updates.
        seconds: Time of the updates, without the first, which compiles.
    """

    fitted: Fitted
    loss: float
    seconds: float


def fit(
    model: PlannedModel | Cloned,
    bodies: Bodies,
    scale: Scale,
    fitting: Fitting,
    seed: int,
    start: Fitted | None = None,
    say: Callable[[str], None] = print,
) -> Progress:
    """Learns from windows drawn at random.

    Args:
        model: What learns.
        bodies: The data.
        scale: Of the data; unused where learning goes on from ``start``.
        fitting: How.
        seed: Seed of weights and windows.
        start: Where fine-tuning begins; it keeps the scale. None draws new weights.
        say: Is told how far learning is, every ten seconds.
    """
    keys = jax.random.split(jax.random.key(seed))
    fitted = Fitted(model.init(keys[0]), scale) if start is None else start
    chain, update = _compiled(model, fitting)
    state, rng, losses = chain.init(fitted.weights), np.random.default_rng(seed), []
    begin, silence = time.monotonic(), Silence()
    for number in range(fitting.updates):
        steps = Steps(*map(jnp.asarray, bodies.sample(rng, fitting.batch, fitting.window)))
        key = jax.random.fold_in(keys[1], number)
        fitted, state, loss = update(fitted, state, key, steps)
        losses.append(loss)
        if not number:
            jax.block_until_ready(loss)
            begin = time.monotonic()
        if silence.too_long():
            say(f"update {number + 1} of {fitting.updates}, loss {float(loss):.3f}")
    tail = np.array(jax.device_get(losses[-max(1, len(losses) // 10) :]))
    return Progress(fitted, float(tail.mean()), time.monotonic() - begin)


@functools.lru_cache(maxsize=16)
def _compiled(
    model: PlannedModel | Cloned, fitting: Fitting
) -> tuple[optax.GradientTransformation, Callable]:
    warm = max(1, fitting.updates // 20)
    rate = optax.warmup_cosine_decay_schedule(0.0, fitting.lr, warm, fitting.updates)
    chain = optax.chain(optax.clip_by_global_norm(fitting.clip), optax.adam(rate))

    @jax.jit
    def update(
        fitted: Fitted, state: optax.OptState, key: Key, steps: Steps
    ) -> tuple[Fitted, optax.OptState, Array]:
        keys = jax.random.split(key)
        noise = jax.random.normal(keys[0], (*steps.reward.shape, len(fitted.scale.std)))
        noise = fitting.jitter * fitted.scale.std * noise
        noisy = steps._replace(
            observation=steps.observation + noise[..., :-1], reward=steps.reward + noise[..., -1]
        )

        def loss(weights: dict) -> Array:
            return model.loss(Fitted(weights, fitted.scale), keys[1], noisy)[0]

        value, gradient = jax.value_and_grad(loss)(fitted.weights)
        change, state = chain.update(gradient, state, fitted.weights)
        return fitted._replace(weights=optax.apply_updates(fitted.weights, change)), state, value

    return chain, update
