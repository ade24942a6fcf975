"""The update of TD-MPC2 as a whole: randomness, order, and that something is learned."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.learning.optimizers import OptimizerConfig, make_optimizer
from common.spaces import ObservationSpec
from planet.tdmpc2.config import TDMPC2Config
from planet.tdmpc2.learn import Learner, clipped_optimizer, draw_kept
from planet.tdmpc2.networks import make_networks
from tests.tiny import box

ACTIONS, BATCH = 2, 8
CONFIG = TDMPC2Config(
    encoder_units=16, units=16, latent=16, num_q=3, bins=21, terminations=True, dropout=0.1
)
SHAPE = BATCH, CONFIG.horizon + 1


def learner(config=CONFIG, specs=None):
    specs = specs or {"x": ObservationSpec((4,), "vector")}
    return Learner(make_networks(config, specs, box(ACTIONS)), config, 0.9, ACTIONS)


LEARNER = learner()
update = jax.jit(LEARNER.update)
init = jax.jit(LEARNER.init)


def batch(seed=0):
    rng = np.random.default_rng(seed)
    x, action = rng.normal(size=(*SHAPE, 4)), np.tanh(rng.normal(size=(*SHAPE, ACTIONS)))
    rows = {"x": x, "action": action, "reward": 3 * action[..., 0] + 1}
    rows = {key: np.float32(value) for key, value in rows.items()}
    flags = ("is_first", "is_last", "is_terminal")
    return rows | dict.fromkeys(flags, np.zeros(SHAPE, bool))


def leaves_differ(first, second):
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return [not np.array_equal(x, y) for x, y in pairs]


def test_an_update_draws_its_noise_from_its_key():
    state, key = init(jax.random.key(0)), jax.random.key(1)
    noise = LEARNER.draw_noise(key, SHAPE)
    expected, metrics, _ = jax.jit(LEARNER.update_with_noise)(state, noise, batch())
    got, same = update(state, key, batch())
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), got, expected)
    assert metrics.keys() == same.keys()
    other, _ = update(state, jax.random.key(2), batch())
    assert any(leaves_differ(got, other))


def test_noise_has_the_shapes_of_an_update():
    noise = LEARNER.draw_noise(jax.random.key(0), SHAPE)
    steps, units = CONFIG.horizon, CONFIG.units
    assert noise.first_shift is None and noise.next_shift is None
    assert noise.target.shape == (steps, BATCH, ACTIONS)
    assert noise.policy.shape == (steps + 1, BATCH, ACTIONS)
    assert noise.keep.shape == (CONFIG.num_q, steps, BATCH, units)
    assert noise.policy_keep.shape == (2, steps + 1, BATCH, units)
    assert float(noise.keep.mean()) == pytest.approx(1 - CONFIG.dropout, abs=0.05)
    assert float(noise.policy_keep.mean()) == pytest.approx(1 - CONFIG.dropout, abs=0.05)
    for pair in (noise.target_pair, noise.policy_pair):
        assert pair.shape == (2,) and pair[0] != pair[1]
    without = learner(dataclasses.replace(CONFIG, dropout=0.0))
    noise = without.draw_noise(jax.random.key(0), SHAPE)
    assert noise.keep is None and noise.policy_keep is None


@pytest.mark.parametrize("rate", [0.01, 0.3])
@pytest.mark.parametrize("shape", [(3, 5, 7), (401, 997)])
def test_dropout_leaves_units_at_its_rate_each_on_its_own(rate: float, shape: tuple[int, ...]):
    kept = np.asarray(draw_kept(jax.random.key(3), rate, shape))
    assert kept.shape == shape and kept.dtype == bool  # Odd numbers of units, too.
    if kept.size > 1000:
        spread = np.sqrt(rate * (1 - rate) / kept.size)
        assert abs(1 - kept.mean() - rate) < 4 * spread
        # The two halves of one random word, and neighbouring words, know nothing of each other.
        dropped = 1.0 - kept.reshape(-1) - rate
        for distance in (1, 2):
            correlation = (dropped[distance:] * dropped[:-distance]).mean() / (rate * (1 - rate))
            assert abs(correlation) < 4 / np.sqrt(kept.size)


def test_images_are_shifted_anew_for_targets():
    config = dataclasses.replace(CONFIG, channels=1)
    from_images = learner(config, {"image": ObservationSpec((64, 64, 3), "image")})
    noise = from_images.draw_noise(jax.random.key(0), SHAPE)
    assert noise.first_shift.shape == (BATCH, 2)
    assert noise.next_shift.shape == (CONFIG.horizon, BATCH, 2)


def test_everything_moves_and_the_target_slowly():
    state = init(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, state.target_q, state.params["q"])
    for seed in range(2):  # The last kernels of rewards and values begin at zero.
        before = state
        state, metrics = update(state, jax.random.key(seed), batch(seed))
    assert all(leaves_differ(before.params, state.params))
    moved = jax.tree.map(
        lambda old, new: old + CONFIG.tau * (new - old), before.target_q, state.params["q"]
    )
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-7), moved, state.target_q)
    assert all(np.isfinite(x) for x in metrics.values())
    assert {"model/loss", "model/grad_norm", "policy/loss", "policy/grad_norm"} <= metrics.keys()


def test_states_can_be_given_away():
    """No two arrays of a first state share their memory."""
    state = jax.jit(LEARNER.update, donate_argnums=0)(
        LEARNER.init(jax.random.key(0)), jax.random.key(1), batch()
    )[0]
    assert np.isfinite(state.scale)


def test_rewards_and_transitions_are_learned():
    fast = {name: dataclasses.replace(getattr(CONFIG, name), lr=3e-3)
            for name in ("model_opt", "policy_opt")}  # fmt: skip
    quick = learner(dataclasses.replace(CONFIG, **fast))
    rows = batch()
    state, step = quick.init(jax.random.key(0)), jax.jit(quick.update)
    losses = []
    for seed in range(150):
        state, metrics = step(state, jax.random.key(seed), rows)
        losses.append(float(metrics["model/reward_loss"]))
    decay = np.mean(CONFIG.rho ** np.arange(CONFIG.horizon))
    assert losses[0] == pytest.approx(decay * np.log(CONFIG.bins), abs=1e-3)
    assert losses[-1] < 0.6 * losses[0]


def test_clipping_is_that_of_pytorch():
    """With what is added to the norm, which shows in small ones."""
    config = OptimizerConfig(lr=1.0, eps=1.0, clip=4e-6, weight_decay=0, adam="standard")
    optimizer = clipped_optimizer(config)
    params = {"a": jnp.zeros(2)}
    for size, factor in {1e-6: 4 / 6, 1e-7: 1.0}.items():
        grads = {"a": size * jnp.array([3.0, 4.0])}
        got, _, metrics = optimizer.update(grads, optimizer.init(params), params)
        np.testing.assert_allclose(got["a"], -factor * grads["a"], rtol=1e-4)
        np.testing.assert_allclose(metrics["grad_norm"], 5 * size, rtol=1e-5)


def test_no_clipping_is_an_optimizer_as_it_is():
    config = OptimizerConfig(clip=0.0)
    params, grads = {"a": jnp.zeros(2)}, {"a": jnp.array([3.0, 4.0])}
    results = [
        optimizer.update(grads, optimizer.init(params), params)
        for optimizer in (clipped_optimizer(config), make_optimizer(config))
    ]
    jax.tree.map(np.testing.assert_array_equal, *results)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_gradients_that_are_not_finite_change_nothing(bad):
    optimizer = clipped_optimizer(CONFIG.policy_opt)
    params, grads = {"a": jnp.ones(2)}, {"a": jnp.array([bad, 1.0])}
    got, _, metrics = optimizer.update(grads, optimizer.init(params), params)
    np.testing.assert_array_equal(got["a"], params["a"])
    assert metrics["grad_skipped"] == 1


def test_no_key_draws_twice():
    key = jax.random.key(0)
    with jax.debug_key_reuse(True):
        state = jax.eval_shape(jax.jit(LEARNER.init), key)
        jax.eval_shape(jax.jit(LEARNER.update), state, key, batch())
