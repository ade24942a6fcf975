"""A linear system whose best plans are known, and a small model that learns it."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from common.dynamics import tdm
from common.dynamics.steps import Steps
from common.dynamics.tdm_config import TDMConfig
from common.optimizers import OptimizerConfig, make_optimizer

MATRIX = np.array([[0.9, 0.3], [-0.3, 0.9]], np.float32)
GAIN = np.array([0.1, 0.4], np.float32)
CONFIG = TDMConfig(
    tokeniser="uniform",
    bins=64,
    low=(-2.5, -2.5, -4.0),
    high=(2.5, 2.5, 0.0),
    context=4,
    layers=2,
    heads=2,
    width=32,
    units=64,
    decode="mean",
)
BIN_WIDTHS = (np.array(CONFIG.high) - np.array(CONFIG.low)) / CONFIG.bins
UPDATES, BATCH, TIME = 5000, 32, 5


def simulate(start, actions):
    """x' = M x + a g, r = -|x'|^2 / 2: states ``[..., H, 2]`` and rewards of ``[..., H]``."""
    states = []
    for step in range(actions.shape[-1]):
        start = start @ MATRIX.T + actions[..., step, None] * GAIN
        states.append(start)
    states = jnp.stack(states, -2)
    return states, -jnp.square(states).sum(-1) / 2


def best_return(start, horizon):
    """The largest return by projected gradient ascent: the return is concave in the actions."""
    gradient = jax.grad(lambda actions: simulate(start, actions)[1].sum())
    ascend = lambda _, actions: jnp.clip(actions + 0.2 * gradient(actions), -1, 1)  # noqa: E731
    actions = jax.lax.fori_loop(0, 500, ascend, jnp.zeros((start.shape[0], horizon)))
    return simulate(start, actions)[1].sum(-1)


def draw(key, batch=BATCH, time=TIME):
    """Episodes of random actions from random states."""
    keys = jax.random.split(key)
    start = jax.random.uniform(keys[0], (batch, 2), minval=-1.5, maxval=1.5)
    actions = jax.random.uniform(keys[1], (batch, time), minval=-1, maxval=1)
    states, rewards = simulate(start, actions[:, 1:])
    return Steps(
        jnp.concatenate([start[:, None], states], 1),
        actions.at[:, 0].set(0)[..., None],
        jnp.pad(rewards, ((0, 0), (1, 0))),
        jnp.zeros((batch, time), bool).at[:, 0].set(True),
        jnp.ones((batch, 2), bool),
        jnp.ones((batch, 1), bool),
    )


@functools.cache
def trained(order):
    """Returns the configuration, and parameters after 5,000 updates on fresh episodes."""
    config = dataclasses.replace(CONFIG, order=order)
    model = tdm.functions(config, 2, 1)
    optimizer = make_optimizer(
        OptimizerConfig(lr=1.0, clip=1.0, weight_decay=0.0, eps=1e-8, adam="standard")
    )

    def update(carry, now):
        key, done = now
        params, state = carry
        gradient = jax.grad(lambda p: model.loss(p, draw(key))[0])(params)
        new, state, _ = optimizer.update(gradient, state, params)
        # A short warm-up, then half a cosine.
        rate = 3e-3 * jnp.minimum(1, 20 * done) * (1 + jnp.cos(jnp.pi * done)) / 2
        return (jax.tree.map(lambda p, q: p + rate * (q - p), params, new), state), None

    def run(key):
        params = model.init(key)
        keys = jax.random.split(jax.random.fold_in(key, 1), UPDATES)
        done = jnp.arange(UPDATES) / UPDATES
        return jax.lax.scan(update, (params, optimizer.init(params)), (keys, done))[0][0]

    return config, jax.jit(run)(jax.random.key(0))
