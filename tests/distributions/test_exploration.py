"""Action noise on continuous, categorical and mixed flat actions."""

from __future__ import annotations

import jax
import numpy as np

from common.distributions import action_noise_size, uniform_noise
from common.distributions.exploration import add_action_noise
from common.spaces import ActionPart, ActionSpec

SPEC = ActionSpec((ActionPart(("a",), "categorical", 3), ActionPart(("b",), "continuous", 2)))


def _actions(amount):
    action = np.concatenate([np.eye(3)[[1] * amount], np.full((amount, 2), 0.5)], -1)
    return action.astype(np.float32)


def _noise(amount, seed=0):
    return uniform_noise(jax.random.key(seed), (amount, action_noise_size(SPEC)))


def test_no_amount_changes_nothing():
    action = _actions(50)
    np.testing.assert_allclose(add_action_noise(action, _noise(50), 0.0, SPEC), action, atol=1e-6)


def test_noisy_actions_are_valid():
    noisy = np.asarray(add_action_noise(_actions(200), _noise(200), 0.9, SPEC))
    np.testing.assert_array_equal(np.sort(noisy[:, :3], -1), np.tile([0, 0, 1], (200, 1)))
    assert np.abs(noisy[:, 3:]).max() <= 1
    assert len(np.unique(noisy[:, 3])) > 50


def test_amount_is_the_share_of_random_choices_and_the_standard_deviation():
    noisy = np.asarray(add_action_noise(_actions(20_000), _noise(20_000), 0.3, SPEC))
    np.testing.assert_allclose(noisy[:, :3].mean(0), [0.1, 0.8, 0.1], atol=0.01)
    noisy = np.asarray(add_action_noise(_actions(20_000), _noise(20_000), 0.1, SPEC))
    np.testing.assert_allclose(noisy[:, 3:].std(0), 0.1, atol=0.003)


def test_every_block_has_noise_of_its_own():
    noise = np.array(_noise(30))
    noisy = np.asarray(add_action_noise(_actions(30), noise, 0.5, SPEC))
    changed = noise.copy()
    changed[:, 0] = 1 - noise[:, 0]
    other = np.asarray(add_action_noise(_actions(30), changed, 0.5, SPEC))
    np.testing.assert_array_equal(noisy[:, 3:], other[:, 3:])
    assert not np.array_equal(noisy[:, :3], other[:, :3])
    changed[:, 1] = 1 - noise[:, 1]
    another = np.asarray(add_action_noise(_actions(30), changed, 0.5, SPEC))
    np.testing.assert_array_equal(another[:, [0, 1, 2, 4]], other[:, [0, 1, 2, 4]])
    assert not np.array_equal(another[:, 3], other[:, 3])
