"""Roll-outs under a policy and open-loop predictions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.model.imagine import CONTEXT, imagine, open_loop
from common.model.world_model import world_model
from common.spaces import ObservationSpec
from tests.tiny import ACTIONS, TINY, VECTOR, random_batch, random_params

HORIZON, ROWS = 4, 3


@pytest.fixture(scope="module")
def model():
    return world_model(TINY, VECTOR, ACTIONS)


@pytest.fixture(scope="module")
def params(model):
    return random_params(model.init)


@pytest.fixture(scope="module")
def start(model, params):
    noise = model.draw_noise(jax.random.key(0), (ROWS,))
    action = jnp.full((ROWS, ACTIONS.size), 0.5)
    return jax.jit(model.imagine_step)(params, noise, model.initial(ROWS), action)


def _policy(feature, noise):
    """A policy without weights that depends on the feature and on the noise."""
    mean = 5 * feature[:, -ACTIONS.size :]
    return jnp.tanh(mean + noise), mean


def test_imagine_is_the_fold_of_its_steps(model, params, start):
    latent = model.draw_noise(jax.random.key(1), (HORIZON, ROWS))
    noise = jax.random.normal(jax.random.key(2), (HORIZON, ROWS, ACTIONS.size))
    run = jax.jit(lambda s: imagine(model, params, _policy, s, latent, noise))
    features, actions, policies = run(start)
    assert features.shape[:2] == actions.shape[:2] == (HORIZON + 1, ROWS)
    assert policies.shape[:2] == (HORIZON, ROWS)
    np.testing.assert_array_equal(actions[0], np.zeros((ROWS, ACTIONS.size)))
    step, state = jax.jit(model.imagine_step), start
    np.testing.assert_allclose(features[0], model.feature(params, state), atol=1e-6)
    for t in range(HORIZON):
        action, policy = _policy(features[t], noise[t])
        np.testing.assert_allclose(policies[t], policy, atol=1e-6)
        np.testing.assert_allclose(actions[t + 1], action, atol=1e-6)
        state = step(params, latent[t], state, action)
        np.testing.assert_allclose(features[t + 1], model.feature(params, state), atol=1e-5)


def test_no_gradient_runs_through_what_the_policy_sees(model, params, start):
    noise = jnp.zeros((HORIZON, ROWS, ACTIONS.size))

    def run(deter, output):
        latent = jnp.full((HORIZON, ROWS, TINY.rssm.stoch), 0.5)
        trajectory = imagine(model, params, _policy, start._replace(deter=deter), latent, noise)
        return getattr(trajectory, output).sum()

    gradient = jax.jit(jax.grad(run), static_argnames="output")
    assert not np.asarray(gradient(start.deter, "actions")).any()
    assert np.abs(gradient(start.deter, "features")).min(0).max() > 0


def test_model_imagine_is_the_fold_of_imagine_step(model, params, start):
    actions = jax.random.uniform(jax.random.key(3), (ROWS, HORIZON, ACTIONS.size))
    key = jax.random.key(4)
    states = jax.jit(model.imagine)(params, key, start, actions)
    noise = model.draw_noise(key, (HORIZON, ROWS))
    step, state = jax.jit(model.imagine_step), start
    for t in range(HORIZON):
        state = step(params, noise[t], state, actions[:, t])
        jax.tree.map(
            lambda x, y, t=t: np.testing.assert_allclose(x[:, t], y, atol=1e-5), states, state
        )


def test_open_loop():
    specs = {"image": ObservationSpec((32, 40, 3), "image"), **VECTOR}
    model = world_model(TINY, specs, ACTIONS)
    params = random_params(model.init)
    time = CONTEXT + 3
    batch = random_batch(specs, ACTIONS, batch=3, time=time)
    predict = jax.jit(lambda batch: open_loop(model, params, jax.random.key(0), batch, 2))
    got = predict(batch)
    assert set(got) == {"image"}
    truth, prediction = got["image"]
    np.testing.assert_array_equal(truth, batch["image"][:2])
    assert prediction.shape == truth.shape and prediction.dtype == jnp.uint8
    # After the context the model's eyes are closed.
    changed = {key: x.copy() for key, x in batch.items()}
    changed["image"][:, CONTEXT:] //= 2
    np.testing.assert_array_equal(predict(changed)["image"].model, prediction)
    changed["action"][:, CONTEXT:] *= -1
    assert (predict(changed)["image"].model[:, CONTEXT:] != prediction[:, CONTEXT:]).any()
