"""What TD-MPC2 offers planners, on batches of candidates."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from common.spaces import ObservationSpec
from planet.tdmpc2.config import TDMPC2Config
from planet.tdmpc2.model import make_model
from planet.tdmpc2.networks import make_networks
from tests.tiny import box, random_params

ACTIONS = 2
CONFIG = TDMPC2Config(encoder_units=16, units=16, latent=16, num_q=4, bins=21, terminations=True)
NETWORKS = make_networks(CONFIG, {"x": ObservationSpec((4,), "vector")}, box(ACTIONS))
MODEL = make_model(NETWORKS, CONFIG, ACTIONS)
PARAMS = random_params(NETWORKS.init)
Z = MODEL.encode(PARAMS, {"x": np.random.default_rng(0).normal(size=(3, 5, 4))})
"""Of three environments and five candidates."""
ACTION = MODEL.policy(PARAMS, jax.random.key(0), Z)


def test_a_step_keeps_the_axes_of_candidates():
    z, reward, ended = MODEL.step(PARAMS, Z, ACTION)
    assert (z.shape, reward.shape, ended.shape) == ((3, 5, 16), (3, 5), (3, 5))
    assert (ended > 0).all() and (ended < 1).all()
    one, other, _ = MODEL.step(PARAMS, Z[1, 2], ACTION[1, 2])
    np.testing.assert_allclose(z[1, 2], one, rtol=1e-5)
    np.testing.assert_allclose(reward[1, 2], other, rtol=1e-4, atol=1e-6)


def test_actions_are_drawn_around_the_best():
    assert ACTION.shape == (3, 5, ACTIONS) and np.abs(ACTION).max() <= 1
    again = MODEL.policy(PARAMS, jax.random.key(0), Z)
    np.testing.assert_array_equal(again, ACTION)
    assert not np.allclose(MODEL.policy(PARAMS, jax.random.key(1), Z), ACTION)
    best = MODEL.best(PARAMS, Z)
    np.testing.assert_allclose(MODEL.act(PARAMS, jnp.zeros_like(ACTION), Z), best, rtol=1e-6)
    higher = MODEL.act(PARAMS, jnp.ones_like(ACTION), Z)
    assert (higher > best).all()


def test_a_key_chooses_two_members_for_all_candidates():
    key = jax.random.key(3)
    pair = MODEL.draw_pair(key)
    value = MODEL.value(PARAMS, key, Z, ACTION)
    every = MODEL.values(PARAMS, Z, ACTION)
    assert every.shape == (CONFIG.num_q, 3, 5)
    np.testing.assert_allclose(value, every[pair].mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(value, MODEL.value_of(PARAMS, pair, Z, ACTION))
    others = (MODEL.value(PARAMS, jax.random.key(seed), Z, ACTION) for seed in range(8))
    assert any(not np.allclose(value, other, atol=1e-7) for other in others)


def test_images_are_shifted_where_a_shift_is_given():
    config = TDMPC2Config(units=8, latent=32, channels=2, num_q=2)
    specs = {"image": ObservationSpec((64, 64, 3), "image")}
    networks = make_networks(config, specs, box(ACTIONS))
    model, params = make_model(networks, config, ACTIONS), random_params(networks.init)
    rows = {"image": np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)}
    shift = model.draw_shift(jax.random.key(0), (2,))
    moved, still = model.encode(params, rows, shift), model.encode(params, rows)
    assert moved.shape == still.shape == (2, 32)
    assert not np.allclose(moved, still, atol=1e-4)
    assert model.step(params, moved, jnp.zeros((2, ACTIONS)))[2] is None


@pytest.mark.parametrize(
    ("images", "precision"),
    [(False, "bfloat16_products"), (True, "bfloat16_products"), (False, "bfloat16")],
)
def test_networks_round_where_that_is_asked_for(images, precision):
    """All of them, a little, and their gradients; results are float32."""
    config, specs = CONFIG, {"x": ObservationSpec((4,), "vector")}
    rows = {"x": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)}
    if images:
        config = dataclasses.replace(config, latent=32, channels=2)
        specs = {"image": ObservationSpec((64, 64, 3), "image")}
        rows = {"image": np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)}
    action = ACTION[:, 0]

    @functools.partial(jax.jit, static_argnums=1)
    def outputs(params, precision):
        made = make_networks(config, specs, box(ACTIONS), precision=precision)
        z = made.encode(params, rows)
        q = made.q(params, z, action).mean()
        drawn, reward = made.policy(params, z, action).action, made.reward(params, z, action).mean()
        return {
            "encoder": z,
            "dynamics": made.dynamics(params, z, action),
            "reward": reward,
            "termination": made.termination(params, z),
            "policy": drawn,
            "q": q,
        }

    params = random_params(make_networks(config, specs, box(ACTIONS)).init)
    exact, low = outputs(params, "float32"), outputs(params, precision)
    for name, value in low.items():
        assert value.dtype == jnp.float32
        apart = np.abs(value - exact[name]).max() / np.abs(exact[name]).max()
        assert 1e-6 < apart < 0.05, (name, apart)
    total = lambda params, how: sum(x.sum() for x in outputs(params, how).values())  # noqa: E731
    gradient = jax.jit(jax.grad(total), static_argnums=1)
    exact, low = (gradient(params, how) for how in ("float32", precision))
    exact, low = (np.asarray(ravel_pytree(tree)[0]) for tree in (exact, low))
    assert 1e-6 < np.linalg.norm(low - exact) / np.linalg.norm(exact) < 0.05
