"""The multiplier of a constraint, against its recursion."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from common.checks import OptionError
from common.config import update
from common.learning.constraint import (
    MULTIPLIER,
    ConstraintConfig,
    initial_multiplier,
    next_multiplier,
)
from dreamer.config import Config
from planet.config import Config as PlanetConfig


def test_the_multiplier_follows_its_recursion():
    config = ConstraintConfig("lagrangian", limit=0.4, weight=0.2, lr=0.5, max=0.6)
    rng = np.random.default_rng(0)
    found, expected = initial_multiplier(config)[MULTIPLIER], 0.2
    touched = set()
    for _ in range(60):
        cost = rng.uniform(0, 1, (3, 4)).astype(np.float32)
        found = next_multiplier(found, jnp.asarray(cost), config)
        expected = expected + 0.5 * (sum(map(float, cost.ravel())) / 12 - 0.4)
        expected = min(0.6, max(0.0, expected))
        touched.add({0.0: "low", 0.6: "high"}.get(expected, "between"))
        assert float(found) == pytest.approx(expected, abs=1e-6)
    assert touched == {"high", "between"}
    for _ in range(5):
        found = next_multiplier(found, jnp.zeros(3), config)
    assert float(found) == 0


def test_rows_that_begin_an_episode_are_no_steps():
    config = ConstraintConfig("lagrangian", limit=0.5, weight=0.2, lr=0.5)
    cost, steps = jnp.array([[0.0, 1.0, 0.6], [0.0, 0.8, 0.0]]), jnp.arange(3) > 0
    found = next_multiplier(jnp.float32(0.2), cost, config, jnp.stack([steps, steps]))
    assert float(found) == pytest.approx(0.2 + 0.5 * (2.4 / 4 - 0.5))
    found = next_multiplier(jnp.float32(0.2), cost, config, jnp.zeros((2, 3), bool))
    assert float(found) == pytest.approx(0.2)


def test_a_fixed_weight_stays_and_without_a_method_there_is_none():
    config = ConstraintConfig("fixed", weight=3.0)
    weight = initial_multiplier(config)[MULTIPLIER]
    assert next_multiplier(weight, jnp.ones(2), config) is weight and weight == 3
    assert initial_multiplier(ConstraintConfig()) == {}


@pytest.mark.parametrize("default", [Config(), PlanetConfig()], ids=["dreamer", "planet"])
def test_a_constraint_needs_a_cost(default):
    with pytest.raises(OptionError, match="needs environments that count a cost; set .*env.cost"):
        update(default, {"constraint.method": "fixed"})
    with pytest.raises(OptionError, match="world_model.predict_cost true needs environments that"):
        update(default, {"world_model.predict_cost": True})
    counted = update(default, {"constraint.method": "fixed", "env.cost": True})
    assert counted.settled().world_model.predict_cost
    assert not default.settled().world_model.predict_cost


def test_what_does_not_fit_is_one_line():
    with pytest.raises(OptionError, match="weight is 3; expected at most .*max, 2"):
        ConstraintConfig(weight=3.0, max=2.0)
    options = {"constraint.method": "fixed", "env.cost": True, "model": "tdm"}
    with pytest.raises(OptionError, match="model tdm predicts no costs"):
        update(PlanetConfig(), options)
