"""The cost head of a world model."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from common.errors import UserError
from common.model.world_model import world_model
from tests.tiny import ACTIONS, BATCH, TIME, TINY, VECTOR, random_batch, random_params

WITH = dataclasses.replace(TINY, predict_cost=True, cost_scale=3.0)


@pytest.fixture(scope="module")
def batch():
    rows = random_batch(VECTOR, ACTIONS)
    return rows | {"cost": np.random.default_rng(4).random((BATCH, TIME)).astype(np.float32)}


def test_all_else_is_drawn_and_lost_as_without_it(batch):
    model, plain = world_model(WITH, VECTOR, ACTIONS), world_model(TINY, VECTOR, ACTIONS)
    params, other = model.init(jax.random.key(0)), plain.init(jax.random.key(0))
    assert set(params) - set(other) == {"cost"} and plain.cost is None
    for name in other:
        jax.tree.map(np.testing.assert_array_equal, params[name], other[name])
    noise = model.draw_noise(jax.random.key(1), (BATCH, TIME))
    found, expected = (
        jax.jit(one.losses)(weights, noise, batch)
        for one, weights in ((model, params), (plain, other))
    )
    assert set(found.terms) - set(expected.terms) == {"cost"}
    np.testing.assert_allclose(
        found.total, expected.total + 3 * found.terms["cost"].mean(), rtol=1e-6
    )


def test_its_loss_is_that_of_a_normal_around_what_it_expects(batch):
    model = world_model(WITH, VECTOR, ACTIONS)
    params = random_params(model.init)
    noise = model.draw_noise(jax.random.key(1), (BATCH, TIME))
    losses = jax.jit(model.losses)(params, noise, batch)
    mean = model.cost(params, model.feature(params, losses.observed.states)).mean()
    expected = 0.5 * (np.asarray(mean) - batch["cost"]) ** 2 + 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(losses.terms["cost"], expected, rtol=1e-5)


def test_rows_without_a_cost_are_one_line(batch):
    model = world_model(WITH, VECTOR, ACTIONS)
    rows = {key: x for key, x in batch.items() if key != "cost"}
    with pytest.raises(UserError, match="the batch lacks cost"):
        model.loss(random_params(model.init), jax.random.key(0), rows)


def test_no_observation_may_be_called_a_cost():
    with pytest.raises(UserError, match="'cost'"):
        world_model(TINY, {"cost": VECTOR["x"]}, ACTIONS)
