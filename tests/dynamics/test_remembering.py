"""Dynamics that compute their steps in parallel learn to remember what was shown at the start."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.dynamics.s5 import S5Config
from common.dynamics.transformer import TransformerConfig
from common.learning.optimizers import OptimizerConfig, make_optimizer
from common.model.learn import learn_model
from common.model.world_model import world_model
from common.spaces import ObservationSpec
from tests.tiny import ACTIONS, TINY

SIZES = {"stoch": 4, "classes": 4, "width": 32, "layers": 2, "units": 32}
CONFIGS = {
    "transformer": TransformerConfig(**SIZES, context=6, heads=4, kv_heads=2),
    "s5": S5Config(**SIZES, modes=16),
}


@pytest.mark.parametrize(
    ("dynamics", "time"),
    [
        ("transformer", 6),
        pytest.param("s5", 6, marks=pytest.mark.slow),
        pytest.param("s5", 32, marks=pytest.mark.slow),
    ],
)
def test_world_model_learns_to_remember(dynamics, time):
    """The first observation tells which reward comes at every later step, and no other does."""
    batch = 16
    specs = {"cue": ObservationSpec((1,), "vector")}
    config = dataclasses.replace(
        TINY,
        dynamics=dynamics,
        kl=dataclasses.replace(TINY.kl, free=0.1),
        predict_discount=False,
        reward_scale=5.0,
        **{dynamics: CONFIGS[dynamics]},
    )
    model = world_model(config, specs, ACTIONS)
    optimizer = make_optimizer(OptimizerConfig(lr=3e-3))

    def rows(key):
        sign = 2.0 * jax.random.bernoulli(key, shape=(batch, 1)) - 1
        first = jnp.zeros((batch, time), bool).at[:, 0].set(True)
        result = {"cue": jnp.where(first, sign, 0)[..., None], "is_first": first}
        result |= {"reward": jnp.where(first, 0, sign), "is_terminal": jnp.zeros_like(first)}
        return result | {"action": jnp.zeros((batch, time, ACTIONS.size))}

    def update(step, key):
        keys = jax.random.split(key)
        noise = model.draw_noise(keys[0], (batch, time))
        step = learn_model(model, optimizer, *step, {}, noise, rows(keys[1]))
        return (step.params, step.optimizer), step.metrics

    params = model.init(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 300)
    run = jax.jit(lambda step: jax.lax.scan(update, step, keys))
    _, metrics = run((params, optimizer.init(params)))
    loss = np.asarray(metrics["world_model/reward_loss"]) - 0.5 * np.log(2 * np.pi)
    # Half the variance is the best without memory, where nearly all rewards are 1 or -1.
    assert loss[0] > 0.35
    assert loss[-20:].mean() < 0.05
