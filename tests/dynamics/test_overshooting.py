"""Latent overshooting on a cell whose priors can be read: every step adds its action."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.distributions import Normal
from common.dynamics.base import Observed
from common.dynamics.overshooting import overshooting_loss
from common.dynamics.s5 import S5Config
from common.dynamics.transformer import TransformerConfig
from common.model.world_model import world_model
from tests.tiny import ACTIONS, BATCH, TIME, TINY, VECTOR, random_batch, random_params

ROWS, STEPS = 2, 7


def imagine_step(state, action, noise):
    """The next state is the sum; noise comes on top."""
    return state + action + (0 if noise is None else noise)


def prior(state):
    """A unit normal around the state, so that the KL is half a squared distance."""
    return Normal(state, jnp.ones_like(state), event_ndims=1)


def observed(states, means):
    unit = jnp.ones_like(means)
    return Observed(states, Normal(means, unit, event_ndims=1), None)


def slow(states, means, action, is_first, noise, distance, free):
    """One row, one distance and one step at a time."""
    total = 0.0
    for d in range(1, distance + 1):
        values = []
        for row, s in itertools.product(range(ROWS), range(STEPS)):
            end = s + 1 + d
            if end >= STEPS or is_first[row, s + 1 : end + 1].any():
                continue
            predicted = states[row, s, 0]
            for step in range(d + 1):
                predicted += action[row, s + 1 + step, 0] + noise[step, row, s, 0]
            values.append(max(0.0, 0.5 * (means[row, end, 0] - predicted) ** 2 - free))
        total += np.mean(values) if values else 0.0
    return total / distance


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    states, means, action = rng.integers(-3, 4, (3, ROWS, STEPS, 1)).astype(np.float32)
    noise = rng.integers(-1, 2, (STEPS + 3, ROWS, STEPS, 1)).astype(np.float32)
    is_first = np.zeros((ROWS, STEPS), bool)
    is_first[0, 0] = is_first[1, 3] = True
    return states, means, action, is_first, noise


@pytest.mark.parametrize("free", [0.0, 3.0])
@pytest.mark.parametrize("distance", [1, 2, 5, 9])
def test_equals_a_slow_loop(distance, free, case):
    states, means, action, is_first, noise = case
    noise = noise[: distance + 1]
    got = overshooting_loss(
        imagine_step, prior, observed(states, means), action, is_first, noise,
        distance=distance, free=free,
    )  # fmt: skip
    want = slow(states, means, action, is_first, noise, distance, free)
    np.testing.assert_allclose(got.mean(), want, rtol=1e-5)


def test_a_perfect_model_loses_nothing(case):
    """Where the actions explain the states, every distance predicts the posterior."""
    _, _, action, is_first, _ = case
    states = np.cumsum(action, 1)
    got = overshooting_loss(
        imagine_step, prior, observed(states, states), action, is_first, None, distance=4, free=0
    )
    assert (got == 0).all()


def test_nothing_outside_the_sequence_counts_and_nothing_is_nan(case):
    """Steps after the end and across a start of an episode: broken there, whole here."""
    states, means, action, is_first, noise = case

    def gradient(means, action):
        def loss(states):
            return overshooting_loss(
                imagine_step, prior, observed(states, means), action, is_first, noise[:4],
                distance=3, free=0,
            ).mean()  # fmt: skip

        return jax.value_and_grad(loss)(jnp.asarray(states))

    loss, grads = gradient(means, action)
    changed = means.copy()
    changed[:, :2] += 5  # Nothing predicts the first two rows over more than one step.
    changed[1, 3:5] -= 7  # Nor the two that follow a reset.
    again, same = gradient(changed, action)
    np.testing.assert_allclose(again, loss, rtol=1e-6)
    np.testing.assert_allclose(same, grads, rtol=1e-6)
    assert np.isfinite(loss) and np.isfinite(grads).all()
    assert not np.asarray(grads)[:, -2:].any()


def test_targets_are_not_trained(case):
    states, means, action, is_first, _ = case

    def loss(means):
        return overshooting_loss(
            imagine_step, prior, observed(states, means), action, is_first, None, distance=2, free=0
        ).mean()

    assert not np.asarray(jax.grad(loss)(jnp.asarray(means))).any()


@pytest.mark.parametrize("latent", ["gaussian", "categorical"])
def test_term_of_the_world_model(latent):
    """The real cell: the term trains the dynamics, and its scale counts."""
    rssm = dataclasses.replace(TINY.rssm, latent=latent)
    kl = dataclasses.replace(TINY.kl, overshooting=2, overshooting_scale=4.0, free=0.0)
    model = world_model(dataclasses.replace(TINY, rssm=rssm, kl=kl), VECTOR, ACTIONS)
    params = random_params(model.init)
    batch = random_batch(VECTOR, ACTIONS)
    keys = jax.random.split(jax.random.key(0))
    noise = model.draw_noise(keys[0], (BATCH, TIME))
    ahead = model.draw_overshooting(keys[1], (BATCH, TIME))
    assert ahead.shape == (3, BATCH, TIME, TINY.rssm.stoch)
    losses = jax.jit(model.losses)(params, noise, batch, None, ahead)
    assert losses.terms["overshooting"].mean() > 0
    scales = {"x": 1, "reward": 2, "discount": 5, "kl": 1, "overshooting": 4}
    want = sum(scale * losses.terms[name].mean() for name, scale in scales.items())
    np.testing.assert_allclose(losses.total, want, rtol=1e-5)
    gradient = jax.jit(
        jax.grad(lambda p: model.losses(p, noise, batch, None, ahead).terms["overshooting"].mean())
    )(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    trained = {name: any(np.any(x) for x in jax.tree.leaves(gradient[name])) for name in gradient}
    assert trained == {
        "encoder": True, "rssm": True, "decoder": False, "reward": False, "discount": False
    }  # fmt: skip
    total, metrics = jax.jit(model.loss)(params, keys[0], batch)
    assert metrics["overshooting_loss"] > 0 and np.isfinite(total)


def test_free_nats_of_the_kl_are_those_of_overshooting():
    """What is below ``kl.free`` at every distance costs nothing."""
    terms = []
    for free in (0.0, 1e3):
        kl = dataclasses.replace(TINY.kl, overshooting=2, free=free)
        model = world_model(dataclasses.replace(TINY, kl=kl), VECTOR, ACTIONS)
        noise = model.draw_noise(jax.random.key(0), (BATCH, TIME))
        batch, params = random_batch(VECTOR, ACTIONS), random_params(model.init)
        terms.append(jax.jit(model.losses)(params, noise, batch).terms["overshooting"])
    assert terms[0].mean() > 0 and not terms[1].any()


@pytest.mark.parametrize("name", ["transformer", pytest.param("s5", marks=pytest.mark.slow)])
def test_the_term_trains_the_memory_of_other_dynamics(name):
    """What is remembered over several steps is reached by gradients, all of them finite."""
    sizes = {"stoch": 3, "classes": 4, "layers": 1, "width": 8, "units": 8}
    own = {
        "transformer": TransformerConfig(**sizes, context=3, heads=2, kv_heads=1),
        "s5": S5Config(**sizes, modes=4),
    }
    kl = dataclasses.replace(TINY.kl, overshooting=2, free=0.0)
    config = dataclasses.replace(TINY, dynamics=name, kl=kl, **{name: own[name]})
    model = world_model(config, VECTOR, ACTIONS)
    batch = random_batch(VECTOR, ACTIONS, time=5)
    noise = model.draw_noise(jax.random.key(0), (2, 5))
    ahead = model.draw_overshooting(jax.random.key(1), (2, 5))

    def loss(params):
        return model.losses(params, noise, batch, None, ahead).terms["overshooting"].mean()

    value, gradient = jax.jit(jax.value_and_grad(loss))(random_params(model.init))
    assert value > 0
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient[name]))
    memory = {"transformer": "/block0", "s5": "/ssm"}[name]
    found = [x for path, layer in gradient[name].items() if memory in path for x in layer.values()]
    assert found and all(np.any(x) for x in found)
