"""A tiny world model, random rows and random weights, for tests that need some."""

from __future__ import annotations

import jax
import numpy as np

from common.dynamics.rssm import RSSMConfig
from common.model.config import WorldModelConfig
from common.nets.coders import DecoderConfig, EncoderConfig
from common.nets.heads import HeadConfig
from common.spaces import ActionPart, ActionSpec, ObservationSpec

TINY = WorldModelConfig(
    rssm=RSSMConfig(stoch=3, classes=4, deter=8, hidden=8),
    encoder=EncoderConfig(depth=1, layers=1, units=8),
    decoder=DecoderConfig(depth=1, layers=1, units=8),
    reward=HeadConfig(layers=1, units=8),
    discount=HeadConfig(layers=1, units=8),
    predict_discount=True,
    reward_scale=2.0,
    discount_scale=5.0,
)
VECTOR = {"x": ObservationSpec((5,), "vector")}
BATCH, TIME = 2, 4


def box(size):
    """A Box of actions."""
    return ActionSpec((ActionPart((), "continuous", size, (-1,) * size, (1,) * size, (size,)),))


def choice(size):
    """One of several actions."""
    return ActionSpec((ActionPart((), "categorical", size),))


ACTIONS = box(2)
MIXED = ActionSpec((*box(2).parts, *choice(3).parts))


def random_batch(specs, actions, seed=0, batch=BATCH, time=TIME):
    """Rows ``[B, T, ...]`` with a reset and an end."""
    rng = np.random.default_rng(seed)
    rows = {}
    for key, spec in specs.items():
        shape = (batch, time, *spec.shape)
        image = spec.kind == "image"
        rows[key] = rng.integers(0, 256, shape) if image else rng.normal(size=shape)
        rows[key] = rows[key].astype(spec.dtype)
    rows["action"] = actions.sample(rng, batch * time).reshape(batch, time, -1)
    rows["reward"] = rng.normal(size=(batch, time)).astype(np.float32)
    flags = np.zeros((batch, time), bool)
    rows |= {name: flags.copy() for name in ("is_first", "is_last", "is_terminal")}
    rows["is_first"][:, 0] = rows["is_first"][-1, -1] = True
    rows["is_last"][-1, -2] = rows["is_terminal"][-1, -2] = True
    return rows


def random_params(init, *args, seed=0):
    """Small random parameters, biases too, without compiling the initialisation."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(init, jax.random.key(0), *args)
    return jax.tree.map(lambda x: 0.1 * rng.normal(size=x.shape).astype(np.float32), shapes)
