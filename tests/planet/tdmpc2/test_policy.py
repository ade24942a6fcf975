"""Choices of the policy, which are ours, and actions of several parts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
    np.testing.assert_allclose(draw.choice_entropy, want, rtol=1e-5)
    assert not draw.scaled_entropy.any()


def test_gradients_go_through_a_choice_as_through_its_probabilities():
    weights = jnp.array([1.0, -2.0, 0.5])
    got = jax.grad(lambda x: draw_choice(x, jnp.zeros(3)).action @ weights)(LOGITS)
    np.testing.assert_allclose(
        got, jax.grad(lambda x: jax.nn.softmax(x) @ weights)(LOGITS), rtol=1e-4
    )


def slow_entropy(mean, log_std, noise):
    """Of the action, by one draw: each entry's log-density before the tanh less its log-slope."""
    total = 0.0
    for m, s, eps in zip(mean, log_std, noise, strict=True):
        density = -0.5 * eps**2 - s - 0.5 * np.log(2 * np.pi)
        total -= density - np.log(1 - np.tanh(m + eps * np.exp(s)) ** 2 + 1e-6)
    return len(mean) * total


@pytest.mark.parametrize("used", [(1.0, 1.0, 1.0), (1.0, 0.0, 1.0)])
def test_the_entropy_is_of_the_action_where_asked_for(used):
    rng = np.random.default_rng(1)
    raw, noise = rng.normal(size=(5, 6)), rng.normal(size=(5, 3))
    draw = draw_action(jnp.asarray(raw), jnp.asarray(noise), -5, 1, jnp.array(used), True)
    kept = np.flatnonzero(used)
    mean, log_std = raw[:, kept], (-5 + 3 * (np.tanh(raw[:, 3:]) + 1))[:, kept]
    want = [slow_entropy(*row) for row in zip(mean, log_std, noise[:, kept], strict=True)]
    # An entry that is not used adds the density of a standard normal at 0.
    want = np.array(want) + len(kept) * (3 - len(kept)) * 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(draw.scaled_entropy, want, rtol=1e-5)


def deviation_of_most_entropy(squashed):
    """The standard deviation after 2,000 steps up the estimated entropy alone."""
    noise = jax.random.normal(jax.random.key(0), (4096, 1))

    def entropy(raw):
        raw = jnp.broadcast_to(jnp.stack([0.0, raw]), (4096, 2))
        return draw_action(raw, noise, -10, 2, None, squashed).scaled_entropy.mean()

    step = jax.jit(lambda raw: raw + 0.01 * jax.grad(entropy)(raw))
    raw = jax.lax.fori_loop(0, 2000, lambda _, raw: step(raw), jnp.zeros(()))
    return float(jnp.exp(-10 + 6 * (jnp.tanh(raw) + 1)))


def test_entropy_of_the_action_has_its_most_inside_the_bounds():
    """The tanh of a normal of deviation 0.87 is nearest to even over [-1, 1]; e^2 is the bound."""
    assert deviation_of_most_entropy(squashed=True) == pytest.approx(0.87, abs=0.03)
    assert deviation_of_most_entropy(squashed=False) > 0.9 * np.exp(2)


@pytest.mark.parametrize("squashed", [False, True])
def test_parts_keep_to_their_own_entries(squashed):
    """Two continuous entries and a choice among three, each as if it were alone."""
    rng = np.random.default_rng(0)
    raw, noise = jnp.asarray(rng.normal(size=(4, 10))), jnp.asarray(rng.normal(size=(4, 5)))
    got = draw_parts(raw, noise, -10, 2, MIXED, squashed)
    ends = draw_choice(raw[:, 2:5], noise[:, 2:])
    own = jnp.concatenate([raw[:, :2], raw[:, 5:7]], -1)
    start = draw_action(own, noise[:, :2], -10, 2, None, squashed)
    np.testing.assert_allclose(got.action, np.concatenate([start.action, ends.action], -1))
    np.testing.assert_allclose(got.mean, np.concatenate([start.mean, ends.mean], -1))
    np.testing.assert_allclose(got.log_prob, start.log_prob + ends.log_prob, rtol=1e-6)
    np.testing.assert_allclose(got.scaled_entropy, start.scaled_entropy, rtol=1e-6)
    np.testing.assert_allclose(got.choice_entropy, ends.choice_entropy, rtol=1e-6)
