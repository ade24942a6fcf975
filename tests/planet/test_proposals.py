"""What planners try besides what they draw themselves."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from common.planner import PlannerConfig
from planet.planner import make_planner
from planet.proposals import random_walk
from tests.tiny import MIXED, box


def test_random_walks_are_valid_and_change_little():
    start = {"x": np.zeros((2, 1))}
    walks = jax.jit(random_walk(MIXED, 3000, 5, step=0.25))({}, jax.random.key(0), start)
    assert walks.shape == (2, 3000, 5, 5)
    continuous, one_hot = np.asarray(walks[..., :2]), np.asarray(walks[..., 2:])
    assert np.abs(continuous).max() <= 1
    np.testing.assert_array_equal(np.sort(one_hot, -1), np.broadcast_to([0, 0, 1], one_hot.shape))
    np.testing.assert_allclose(one_hot.mean((0, 1, 2)), 1 / 3, atol=0.02)
    first = continuous[:, :, 0]
    # Uniform from -1 to 1, and a step on from there.
    assert abs(first.mean()) < 0.02 and 3**-0.5 < first.std() < (1 / 3 + 0.25**2) ** 0.5
    inside = (np.abs(continuous[:, :, 1:]) < 1) & (np.abs(continuous[:, :, :-1]) < 0.4)
    steps = np.diff(continuous, axis=2)[inside]
    np.testing.assert_allclose([steps.mean(), steps.std()], [0, 0.25], atol=0.01)
    changed = (one_hot[:, :, 1:] != one_hot[:, :, :-1]).any(-1).mean()
    np.testing.assert_allclose(changed, 0.25 * 2 / 3, atol=0.01)  # A new choice may be the old.


def test_the_planner_tries_random_walks():
    """Only steady sequences pay, which independent draws hardly ever are."""

    def rollout(params, key, start, actions):
        return -jnp.abs(jnp.diff(actions, axis=2)).sum((2, 3)) + 0.1 * actions[:, :, 0, 0]

    def value(amount):
        config = PlannerConfig(method="shooting", horizon=10, candidates=20, random_walk=amount)
        plan = make_planner(config, box(1))
        run = jax.jit(lambda key: plan(rollout, {}, key, {"x": jnp.zeros((1, 1))}))
        return float(run(jax.random.key(0)).value[0])

    assert value(300) > value(0) + 2
