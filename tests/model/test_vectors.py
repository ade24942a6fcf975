"""How vectors are transformed: statistics, standardising, and what it does to a model."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.errors import UserError
from common.learning.optimizers import OptimizerConfig, make_optimizer
from common.model import vectors
from common.model.learn import learn_model
from common.model.vectors import vector_functions
from common.model.world_model import world_model
from common.spaces import ObservationSpec
from tests.tiny import ACTIONS, BATCH, TIME, TINY, VECTOR, random_batch, random_params

SPECS = VECTOR | {
    "image": ObservationSpec((64, 64, 3), "image"),
    "room": ObservationSpec((4,), "vector", choices=(4,), starts=(0,)),
}


def observe_all(batches):
    """The statistics after some batches."""
    functions = vector_functions("standard", VECTOR)
    statistics = functions.init()
    for batch in batches:
        statistics = functions.track(statistics, {"x": batch})
    return statistics


@pytest.mark.parametrize("count", [1, 2, 7])
def test_statistics_are_those_of_all_batches(count):
    rng = np.random.default_rng(count)
    batches = rng.normal(rng.normal(size=(count, 1, 1, 5)), 3, (count, 4, 6, 5)) * [1, 9, 0.1, 1, 1]
    moments = observe_all(jnp.asarray(batches, jnp.float32))["x"]
    np.testing.assert_allclose(moments["mean"], batches.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(moments["variance"], batches.var((0, 1, 2)), rtol=1e-4)


def test_old_batches_are_forgotten_after_a_thousand():
    """With n large the mean follows as a moving average of 1000 batches."""
    moments = {"batches": jnp.float32(5000), "mean": jnp.ones(1), "variance": jnp.full(1, 4.0)}
    moments = jax.tree.map(jnp.asarray, moments)
    after = vectors.add_batch(moments, jnp.full((2, 3, 1), 11.0))
    assert after["batches"] == 1000
    np.testing.assert_allclose(after["mean"], 1 + 10 / 1000, rtol=1e-6)
    np.testing.assert_allclose(after["variance"], 0.999 * (4 + 100 / 1000), rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_batch_with_a_hole_is_left_out(bad):
    good = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 5)), jnp.float32)
    want = observe_all([good])
    got = observe_all([good, good.at[0, 0, 0].set(bad)])
    jax.tree.map(np.testing.assert_array_equal, got, want)


def test_great_numbers_do_not_lose_their_variance():
    batch = 1e4 + np.random.default_rng(0).normal(size=(8, 50, 5)).astype(np.float32)
    moments = observe_all([jnp.asarray(batch)])["x"]
    np.testing.assert_allclose(moments["variance"], batch.astype(np.float64).var((0, 1)), rtol=1e-2)


def test_standardised_vectors_and_back():
    functions = vector_functions("standard", SPECS)
    batch = random_batch(SPECS, ACTIONS) | {"room": np.eye(4, dtype=np.float32)[[[0, 1, 2, 3]] * 2]}
    batch["x"] = batch["x"] * [100, 1, 0.01, 0, 1] + [3, -2, 0, 7, 0]
    statistics = functions.track(functions.init(), batch)
    seen = functions.forward(statistics, batch)
    assert sorted(statistics) == ["x"]
    for key in ("image", "room", "reward"):
        assert seen[key] is batch[key]
    np.testing.assert_allclose(seen["x"].mean((0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(seen["x"].std((0, 1)), [1, 1, 1, 0, 1], rtol=1e-4)
    back = functions.backward(statistics, {key: seen[key] for key in SPECS})
    np.testing.assert_allclose(back["x"], batch["x"], rtol=1e-4, atol=1e-4)
    assert back["image"] is seen["image"]
    # What was constant so far may move without blowing up.
    moved = functions.forward(statistics, {"x": batch["x"] + 1e3})["x"]
    assert np.abs(moved).max() == vectors.BOUND


def test_a_model_that_standardises_sees_what_its_statistics_say():
    """The same as a model without, on vectors standardised beforehand."""
    config = dataclasses.replace(TINY, vector_transform="standard")
    model, plain = world_model(config, VECTOR, ACTIONS), world_model(TINY, VECTOR, ACTIONS)
    batch = random_batch(VECTOR, ACTIONS)
    batch["x"] = 100 * batch["x"] + 7
    params, statistics = random_params(model.init), model.track(model.statistics, batch)
    scaled = batch | {"x": (batch["x"] - batch["x"].mean((0, 1))) / batch["x"].std((0, 1))}
    noise = np.random.default_rng(1).uniform(0.1, 0.9, (BATCH, TIME, TINY.rssm.stoch))
    got = jax.jit(model.losses)(params, noise, batch, statistics=statistics)
    want = jax.jit(plain.losses)(params, noise, scaled)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4), got, want)
    states = want.observed.states
    natural = batch["x"].mean((0, 1)) + batch["x"].std((0, 1)) * plain.decode(params, states)["x"]
    decoded = model.decode(params, states, statistics=statistics)["x"]
    np.testing.assert_allclose(decoded, natural, rtol=1e-4)
    # A model that was loaded has them as its own.
    loaded = world_model(config, VECTOR, ACTIONS, statistics)
    again = jax.jit(loaded.losses)(params, noise, batch)
    jax.tree.map(np.testing.assert_array_equal, again, got)


def test_parameters_hold_no_statistics():
    """Nor do they count as parameters, for a user's own optimizer either."""
    config = dataclasses.replace(TINY, vector_transform="standard")
    standard, plain = (world_model(c, VECTOR, ACTIONS) for c in (config, TINY))
    shapes = [jax.eval_shape(model.init, jax.random.key(0)) for model in (standard, plain)]
    assert shapes[0] == shapes[1]
    assert plain.statistics == {} and sorted(standard.statistics) == ["x"]


def test_no_gradient_flows_into_or_out_of_statistics():
    model = world_model(dataclasses.replace(TINY, vector_transform="standard"), VECTOR, ACTIONS)
    batch, params = random_batch(VECTOR, ACTIONS), random_params(model.init)

    def loss(statistics, x):
        rows = batch | {"x": x}
        tracked = model.track(statistics, rows)
        return (
            tracked["x"]["mean"].sum()
            + model.loss(params, jax.random.key(1), rows, statistics=tracked)[0]
        )

    grads, _ = jax.jit(jax.grad(loss, (0, 1)))(model.statistics, batch["x"])
    assert all((x == 0).all() for x in jax.tree.leaves(grads))


def test_learning_counts_statistics_and_a_skipped_step_does_not_lose_them():
    model = world_model(dataclasses.replace(TINY, vector_transform="standard"), VECTOR, ACTIONS)
    optimizer = make_optimizer(OptimizerConfig(lr=0.1, weight_decay=0.5))
    params, statistics = model.init(jax.random.key(0)), model.statistics
    state, want = optimizer.init(params), statistics
    for seed in range(2):
        batch = random_batch(VECTOR, ACTIONS, seed)
        noise = model.draw_noise(jax.random.key(seed), (BATCH, TIME))
        step = learn_model(model, optimizer, params, state, statistics, noise, batch)
        params, state, statistics = step.params, step.optimizer, step.statistics
        want = model.track(want, batch)
        jax.tree.map(np.testing.assert_array_equal, statistics, want)
    before = params["decoder"]
    batch["reward"] = np.full_like(batch["reward"], np.nan)
    step = learn_model(model, optimizer, params, state, statistics, noise, batch)
    assert step.statistics["x"]["batches"] == 3
    jax.tree.map(np.testing.assert_array_equal, step.params["decoder"], before)


def test_a_new_model_that_standardises_refuses_to_learn_without_statistics():
    config = dataclasses.replace(TINY, vector_transform="standard")
    model, batch = world_model(config, VECTOR, ACTIONS), random_batch(VECTOR, ACTIONS)
    params = random_params(model.init)
    with pytest.raises(UserError, match="begin with model.statistics"):
        model.loss(params, jax.random.key(0), batch)
