"""Beliefs: where a warm start begins, and candidates that follow them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planet.beliefs import Belief, draw_noise, initial_belief, refit, sample, shift
from tests.tiny import MIXED, box


def test_a_warm_start_begins_where_the_last_plan_ends():
    mean = jnp.arange(24.0).reshape(2, 3, 4)
    belief = shift(Belief(mean, mean / 1e6), box(4))
    np.testing.assert_array_equal(belief.mean[:, :2], mean[:, 1:])
    np.testing.assert_array_equal(belief.mean[:, 2], 0)
    np.testing.assert_array_equal(belief.std, 1)


def test_a_warm_start_excludes_no_choice():
    mean = jnp.tile(jnp.array([0.3, -0.3, 1.0, 0.0, 0.0]), (1, 3, 1))
    belief = shift(Belief(mean, jnp.full_like(mean, 1e-3)), MIXED)
    np.testing.assert_allclose(belief.mean[0, :2], [[0.3, -0.3, 2 / 3, 1 / 6, 1 / 6]] * 2)
    np.testing.assert_allclose(belief.mean[0, 2], [0, 0, 1 / 3, 1 / 3, 1 / 3])
    np.testing.assert_array_equal(belief.std, 1)


def test_candidates_are_valid_actions_and_follow_their_belief():
    belief = initial_belief(MIXED, 2, 3)
    probs = jnp.array([0.7, 0.3, 0.0])
    mean = belief.mean.at[..., :2].set(0.4).at[..., 2:].set(probs)
    belief = Belief(mean, jnp.full_like(mean, 0.2))
    noise = draw_noise(jax.random.key(0), MIXED, (2, 4000, 3))
    drawn = jax.jit(lambda noise: sample(noise, belief, MIXED))(noise)
    assert drawn.shape == (2, 4000, 3, 5)
    continuous, one_hot = drawn[..., :2], drawn[..., 2:]
    assert np.abs(continuous).max() <= 1
    np.testing.assert_allclose(continuous.mean((0, 1, 2)), 0.4, atol=0.01)
    np.testing.assert_allclose(continuous.std((0, 1, 2)), 0.2, atol=0.01)
    np.testing.assert_array_equal(np.sort(one_hot, -1), np.broadcast_to([0, 0, 1], one_hot.shape))
    np.testing.assert_allclose(one_hot.mean((0, 1, 2)), probs, atol=0.015)


def test_weights_of_another_shape_are_refused():
    sequences = jnp.zeros((2, 5, 3, 1))
    with pytest.raises(AssertionError):
        refit(sequences, jnp.full((2, 1), 0.2))
    with pytest.raises(AssertionError):
        refit(sequences, jnp.full((2, 5), 0.2), std=jnp.ones((3, 1)))
    with pytest.raises(AssertionError):
        sample(jnp.zeros((2, 4, 3, 2)), initial_belief(box(1), 2, 3), box(2))
    with pytest.raises(AssertionError):
        sample(jnp.zeros((1, 4, 3, 1)), initial_belief(box(1), 2, 3), box(1))
