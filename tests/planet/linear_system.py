"""Two linear systems whose best plans are known, and a small model that learns both."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from common.tokens import tdm
from common.tokens.config import TDMConfig
from common.tokens.steps import pad
from tests.fitting import fit, learned_once

BODIES = {
    "plane": (
        np.array([[0.9, 0.3], [-0.3, 0.9]], np.float32),
        np.array([[0.1], [0.4]], np.float32),
    ),
    "line": (np.array([[0.95]], np.float32), np.array([[0.15, -0.1]], np.float32)),
}
"""Matrices M and G of x' = M x + G a: bodies of 2 and 1 numbers, with 1 and 2 actions."""
SIZES = 2, 2
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
UPDATES, BATCH, TIME = 3200, 24, 5


def simulate(body, start, actions):
    """States ``[..., H, D]`` and rewards -|x|^2 / 2 of actions ``[..., H, A]``."""
    matrix, gain = BODIES[body]
    states = []
    for step in range(actions.shape[-2]):
        start = start @ matrix.T + actions[..., step, :] @ gain.T
        states.append(start)
    states = jnp.stack(states, -2)
    return states, -jnp.square(states).sum(-1) / 2


def best_return(body, start, horizon):
    """The largest return by projected gradient ascent: the return is concave in the actions."""
    gradient = jax.grad(lambda actions: simulate(body, start, actions)[1].sum())
    ascend = lambda _, actions: jnp.clip(actions + 0.2 * gradient(actions), -1, 1)  # noqa: E731
    actions = jnp.zeros((start.shape[0], horizon, BODIES[body][1].shape[1]))
    return simulate(body, start, jax.lax.fori_loop(0, 500, ascend, actions))[1].sum(-1)


def draw(body, key, batch=BATCH, time=TIME):
    """Episodes of random actions from random states, in the sizes of the model."""
    keys = jax.random.split(key)
    size, action_size = BODIES[body][1].shape
    start = jax.random.uniform(keys[0], (batch, size), minval=-1.5, maxval=1.5)
    actions = jax.random.uniform(keys[1], (batch, time, action_size), minval=-1, maxval=1)
    states, rewards = simulate(body, start, actions[:, 1:])
    rows = {
        "state": jnp.concatenate([start[:, None], states], 1),
        "action": actions.at[:, 0].set(0),
        "reward": jnp.pad(rewards, ((0, 0), (1, 0))),
        "is_first": jnp.zeros((batch, time), bool).at[:, 0].set(True),
    }
    return pad(rows, *SIZES)


@learned_once
def trained(order):
    """Returns the configuration, and parameters of one model that learned both bodies."""
    config = dataclasses.replace(CONFIG, order=order)
    model = tdm.functions(config, *SIZES)
    key = jax.random.key(0)
    keys = jax.random.split(jax.random.fold_in(key, 1), UPDATES)

    def batch(key):
        return jax.tree.map(lambda *x: jnp.concatenate(x), *(draw(body, key) for body in BODIES))

    return config, fit(model.init, model.loss, key, keys, batch, rate=1e-2)
