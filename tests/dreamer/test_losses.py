"""Losses of actor and critic against slow NumPy versions and worked numbers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.distributions import OneHot, UnitNormal
from dreamer.losses import actor_loss, compute_returns, critic_loss
from tests.reference import dreamer as reference

HORIZON, ROWS, CHOICES = 4, 3, 5
LAMBDA = 0.9


def _trajectory(seed, terminal):
    """Random rewards, discounts, values, policy logits and actions ``[H + 1, N, ...]``."""
    rng = np.random.default_rng(seed)
    shape = HORIZON + 1, ROWS
    reward, slow, critic = rng.normal(size=(3, *shape)).astype(np.float32)
    discount = rng.uniform(0.5, 1, shape).astype(np.float32)
    discount[rng.uniform(size=shape) < terminal] = 0
    logits = rng.normal(size=(*shape, CHOICES)).astype(np.float32)
    action = np.eye(CHOICES, dtype=np.float32)[rng.integers(CHOICES, size=shape)]
    return reward, discount, slow, critic, logits, action


def _losses(reward, discount, slow, critic, logits, action, *, include_start, gradient, mix, scale):
    returns = compute_returns(reward, discount, slow, lambda_=LAMBDA)
    weight = returns.weight[:-1] if include_start else returns.weight[1:]
    target = returns.target[1:]
    actor, _ = actor_loss(
        OneHot(logits[:-2]), action[1:-1], target, target - slow[:-2], weight,
        gradient=gradient, mix=mix, entropy_scale=scale,
    )  # fmt: skip
    rest = returns.target, returns.weight
    return actor, critic_loss(UnitNormal(critic[:-1]), *rest, include_start=include_start)


losses = jax.jit(_losses, static_argnames=("include_start", "gradient"))


@pytest.mark.parametrize("gradient", ["dynamics", "reinforce", "both"])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**16), terminal=st.sampled_from([0.0, 0.3]), mix=st.floats(0, 1))
def test_v2(gradient, seed, terminal, mix):
    trajectory = _trajectory(seed, terminal)
    *numbers, logits, action = trajectory
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    log_prob = (log_probs[:-1] * action[1:]).sum(-1)  # The action of row k + 1 was chosen in k.
    entropy = -(np.exp(log_probs) * log_probs).sum(-1)
    want = reference.v2_losses(
        *numbers, log_prob, entropy,
        lambda_=LAMBDA, gradient=gradient, mix=mix, entropy_scale=0.1,
    )  # fmt: skip
    with jax.numpy_rank_promotion("raise"):
        got = losses(*trajectory, include_start=True, gradient=gradient, mix=mix, scale=0.1)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gradient", ["dynamics", "reinforce", "both"])
def test_the_gain_is_divided_by_the_spread_of_returns_and_entropy_is_not(gradient):
    reward, discount, slow, _, logits, action = _trajectory(0, 0.0)
    returns = compute_returns(reward, discount, slow, lambda_=LAMBDA)
    target = returns.target[1:]

    def loss(entropy, scale):
        return actor_loss(
            OneHot(logits[:-2]), action[1:-1], target, (target - slow[:-2]) / scale,
            returns.weight[:-1], gradient=gradient, mix=0.3, entropy_scale=entropy, scale=scale,
        )[0]  # fmt: skip

    gain = loss(0.0, 1.0)
    np.testing.assert_allclose(loss(0.0, 4.0), gain / 4, rtol=1e-5)
    np.testing.assert_allclose(loss(0.5, 4.0), gain / 4 + loss(0.5, 1.0) - gain, rtol=1e-5)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**16), terminal=st.sampled_from([0.0, 0.3]))
def test_v1(seed, terminal):
    reward, discount, value, *_, logits, action = _trajectory(seed, terminal)
    want = reference.v1_losses(reward, discount, value, lambda_=LAMBDA)
    got = losses(
        reward, discount, value, value, logits, action,
        include_start=False, gradient="dynamics", mix=0.0, scale=0.0,
    )  # fmt: skip
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**16), terminal=st.sampled_from([0.0, 0.3]))
def test_v3(seed, terminal):
    reward, discount, slow, critic, logits, action = _trajectory(seed, terminal)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    log_prob = (log_probs[:-1] * action[1:]).sum(-1)  # The action of row k + 1 was chosen in k.
    entropy = -(np.exp(log_probs) * log_probs).sum(-1)
    want = reference.v3_losses(
        reward, discount, critic, critic, slow, log_prob, entropy,
        lambda_=LAMBDA, scale=3.0, entropy_scale=0.1, slow_scale=0.5,
    )  # fmt: skip
    returns = compute_returns(reward, discount, critic, lambda_=LAMBDA, include_reward=False)
    actor, _ = actor_loss(
        OneHot(logits[:-1]), action[1:], returns.target, (returns.target - critic[:-1]) / 3.0,
        returns.weight, gradient="reinforce", mix=0.0, entropy_scale=0.1, scale=3.0,
    )  # fmt: skip
    loss = critic_loss(
        UnitNormal(critic[:-1]), *returns, include_start=True, slow=slow[:-1], slow_scale=0.5
    )
    np.testing.assert_allclose((actor, loss), want, rtol=1e-4, atol=1e-5)


def test_worked_numbers():
    reward, value, discount = ([1, 2, 3, 0], [0.5, 0.6, 0.7, 0.8], [0.9, 0.8, 0.7, 0])
    column = lambda x: jnp.asarray(x, jnp.float32)[:, None]  # noqa: E731
    arrays = column(reward), column(discount), column(value)
    returns = compute_returns(*arrays, lambda_=0.95)
    np.testing.assert_allclose(returns.target[:, 0], [5.074228, 4.7336, 3.56], rtol=1e-6)
    np.testing.assert_allclose(returns.weight[:, 0], [1, 0.9, 0.72], rtol=1e-6)
    # ln p = -0.5 (G - v)^2 - 0.5 ln 2 pi, weighed and averaged over the rows that count.
    value = UnitNormal(jnp.zeros((3, 1)))
    rows = np.array([1, 0.9, 0.72]) * (
        0.5 * np.array([5.074228, 4.7336, 3.56]) ** 2 + 0.5 * np.log(2 * np.pi)
    )
    for include_start, want in ((True, rows.mean()), (False, rows[1:].mean())):
        got = critic_loss(value, *returns, include_start=include_start)
        np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("include_start", [True, False])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_nothing_is_learned_beyond_a_terminal_start(include_start, seed):
    """However the imagination goes on there. V2 learns the start itself, V1 nothing at all."""
    trajectory = _trajectory(seed, 0.0)
    trajectory[1][0] = 0
    weight = compute_returns(*trajectory[:3], lambda_=LAMBDA).weight
    np.testing.assert_array_equal(weight, [[1.0] * ROWS] + [[0.0] * ROWS] * (HORIZON - 1))

    def both(critic, logits):
        changed = (*trajectory[:3], critic, logits, trajectory[5])
        options = {"include_start": include_start, "gradient": "reinforce", "mix": 0.0}
        return sum(losses(*changed, scale=0.1, **options))

    critic, logits = jax.grad(both, (0, 1))(*map(jnp.asarray, trajectory[3:5]))
    assert not np.asarray(critic[1:]).any() and not np.asarray(logits[1:]).any()
    assert np.asarray(critic[0]).any() == include_start
    assert np.asarray(logits[0]).any() == include_start


def test_a_terminal_start_still_teaches_its_own_value():
    reward, discount, slow, critic, *_ = _trajectory(0, 0.0)
    discount[0] = 0
    returns = compute_returns(reward, discount, slow, lambda_=LAMBDA)
    np.testing.assert_array_equal(returns.weight[0], np.ones(ROWS))
    np.testing.assert_array_equal(returns.weight[1:], np.zeros((HORIZON - 1, ROWS)))
    np.testing.assert_allclose(returns.target[0], reward[0])
    gradient = jax.grad(critic_loss)(
        UnitNormal(critic[:-1]), returns.target, returns.weight, include_start=True
    ).loc
    assert np.abs(gradient[0]).min() > 0 and not np.asarray(gradient[1:]).any()


def _gradient_in(argument, gradient):
    trajectory = _trajectory(1, 0.0)

    def loss(x):
        changed = [*trajectory[:argument], x, *trajectory[argument + 1 :]]
        options = {"include_start": True, "gradient": gradient, "mix": 0.3, "scale": 0.0}
        return _losses(*changed, **options)

    return np.asarray(jax.jacrev(loss)(trajectory[argument]))


@pytest.mark.parametrize("gradient", ["dynamics", "reinforce", "both"])
def test_what_the_losses_differentiate(gradient):
    reward, discount, slow, critic = (_gradient_in(i, gradient) for i in range(4))
    through_model = gradient != "reinforce"
    for inputs in (reward[0], discount[0], slow[0]):
        assert inputs.any() == through_model
    for inputs in (reward[1], discount[1], slow[1]):  # The critic's targets are fixed.
        assert not inputs.any()
    assert critic[1].any() and not critic[0].any()
