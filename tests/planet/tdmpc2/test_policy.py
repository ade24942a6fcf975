"""Choices of the policy, which are ours, and actions of several parts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from planet.tdmpc2.policy import draw_action, draw_choice, draw_parts
from tests.tiny import MIXED

LOGITS = jnp.array([0.5, -1.0, 2.0])


def test_choices_are_drawn_by_their_probabilities():
    noise = jax.random.normal(jax.random.key(0), (20_000, 3))
    draw = draw_choice(jnp.broadcast_to(LOGITS, noise.shape), noise)
    probs = np.exp(LOGITS) / np.exp(LOGITS).sum()
    np.testing.assert_array_equal(np.sort(draw.action, -1), np.tile([0, 0, 1], (20_000, 1)))
    np.testing.assert_allclose(draw.action.mean(0), probs, atol=0.01)
    np.testing.assert_array_equal(draw.mean, np.tile([0, 0, 1], (20_000, 1)))
    np.testing.assert_allclose(draw.log_prob, np.log(draw.action @ probs), rtol=1e-4)
    want = -3 * (probs * np.log(probs)).sum()
    np.testing.assert_allclose(draw.scaled_entropy, want, rtol=1e-5)


def test_gradients_go_through_a_choice_as_through_its_probabilities():
    weights = jnp.array([1.0, -2.0, 0.5])
    got = jax.grad(lambda x: draw_choice(x, jnp.zeros(3)).action @ weights)(LOGITS)
    np.testing.assert_allclose(
        got, jax.grad(lambda x: jax.nn.softmax(x) @ weights)(LOGITS), rtol=1e-4
    )


def test_parts_keep_to_their_own_entries():
    """Two continuous entries and a choice among three, each as if it were alone."""
    rng = np.random.default_rng(0)
    raw, noise = jnp.asarray(rng.normal(size=(4, 10))), jnp.asarray(rng.normal(size=(4, 5)))
    got = draw_parts(raw, noise, -10, 2, MIXED)
    ends = draw_choice(raw[:, 2:5], noise[:, 2:])
    own = jnp.concatenate([raw[:, :2], raw[:, 5:7]], -1)
    start = draw_action(own, noise[:, :2], -10, 2)
    np.testing.assert_allclose(got.action, np.concatenate([start.action, ends.action], -1))
    np.testing.assert_allclose(got.mean, np.concatenate([start.mean, ends.mean], -1))
    np.testing.assert_allclose(got.log_prob, start.log_prob + ends.log_prob, rtol=1e-6)
    entropy = start.scaled_entropy + ends.scaled_entropy
    np.testing.assert_allclose(got.scaled_entropy, entropy, rtol=1e-6)
