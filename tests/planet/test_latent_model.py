"""What planners see of a world model, against one step at a time."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.model.world_model import world_model
from planet.latent_model import Learned, latent_model, latent_rollout, quantize_images
from tests.tiny import ACTIONS, TINY, VECTOR, random_params

ENVS, CANDIDATES, HORIZON = 2, 3, 4


@pytest.fixture(scope="module", params=[True, False], ids=["ends", "no ends"])
def model(request):
    return world_model(dataclasses.replace(TINY, predict_discount=request.param), VECTOR, ACTIONS)


@pytest.fixture(scope="module")
def params(model):
    return random_params(model.init)


@pytest.fixture(scope="module")
def start(model, params):
    """Two states that differ."""
    noise = model.draw_noise(jax.random.key(5), (ENVS,))
    action = jnp.array([[0.9, -0.9], [-0.5, 0.1]])
    return jax.jit(model.imagine_step)(params, noise, model.initial(ENVS), action)


def test_rollout_adds_up_the_rewards_of_reached_states(model, params, start):
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (ENVS, CANDIDATES, HORIZON, 2)).astype(np.float32)
    key = jax.random.key(1)
    got = jax.jit(lambda *args: latent_rollout(model)(*args).returns())(params, key, start, actions)
    assert got.shape == (ENVS, CANDIDATES)
    noise = model.draw_noise(key, (HORIZON, ENVS * CANDIDATES))
    step = jax.jit(model.imagine_step)
    for env in range(ENVS):
        for candidate in range(CANDIDATES):
            state = jax.tree.map(lambda x, env=env: x[env : env + 1], start)
            row = env * CANDIDATES + candidate
            total, alive = 0.0, 1.0
            for t in range(HORIZON):
                action = actions[env, candidate, t][None]
                state = step(params, noise[t, row][None], state, action)
                feature = model.feature(params, state)
                total += alive * float(model.reward(params, feature).mean()[0])
                if model.config.predict_discount:
                    goes_on = (
                        model.discount(params, feature).mean()[0] / model.config.discount_factor
                    )
                    alive *= float(goes_on)
            assert got[env, candidate] == pytest.approx(total, abs=1e-4)


def test_imagined_rows_are_those_that_the_model_decodes(model, params, start):
    planned, key = latent_model(model), jax.random.key(1)
    actions = np.random.default_rng(0).uniform(-1, 1, (ENVS, HORIZON, 2)).astype(np.float32)
    observation, reward = jax.jit(planned.imagine)(Learned(params, None), key, start, actions)
    states = jax.jit(model.imagine)(params, key, start, actions)
    assert observation["x"].shape == (ENVS, HORIZON, 5) and reward.shape == (ENVS, HORIZON)
    np.testing.assert_allclose(observation["x"], model.decode(params, states)["x"], atol=1e-5)
    feature = model.feature(params, states)
    np.testing.assert_allclose(reward, model.reward(params, feature).mean(), atol=1e-5)


@pytest.mark.parametrize("bits", [1, 5, 7])
def test_images_keep_their_first_bits(bits):
    image = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16, 1)
    got = quantize_images(jax.random.key(0), {"image": image, "x": np.ones(3)}, bits)
    np.testing.assert_array_equal(got["x"], 1)
    levels = np.floor((np.asarray(got["image"]) + 0.5) * 2**bits)
    np.testing.assert_array_equal(levels, image >> (8 - bits))
    many = quantize_images(
        jax.random.key(0), {"image": np.full((100, 9, 9, 1), 77, np.uint8)}, bits
    )
    rest = (np.asarray(many["image"]) + 0.5) * 2**bits % 1
    assert rest.mean() == pytest.approx(0.5, abs=0.01)
    assert rest.std() == pytest.approx(12**-0.5, abs=0.01)


def test_eight_bits_change_nothing():
    image = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    assert quantize_images(jax.random.key(0), {"image": image}, 8)["image"] is image


def test_a_multiplier_takes_predicted_costs_off_the_reward():
    model = world_model(dataclasses.replace(TINY, predict_cost=True), VECTOR, ACTIONS)
    params, key = random_params(model.init), jax.random.key(1)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (ENVS, CANDIDATES, HORIZON, 2)).astype(np.float32)
    planned, start = latent_model(model), model.initial(ENVS)
    rewards = [
        np.asarray(planned.rollout(Learned(params, None, weight), key, start, actions).rewards)
        for weight in (None, 0.0, 0.5, 1.0)
    ]
    np.testing.assert_allclose(rewards[0], rewards[1], rtol=1e-6)
    halves = rewards[1] - rewards[2]
    assert np.abs(halves).max() > 1e-3
    np.testing.assert_allclose(rewards[1] - rewards[3], 2 * halves, rtol=1e-4, atol=1e-6)
    last = planned.rollout(Learned(params, None, None), key, start, actions).last
    cost = model.cost(params, model.feature(params, last)).mean()
    np.testing.assert_allclose(halves[..., -1], 0.5 * cost, rtol=1e-4, atol=1e-6)
