"""Lambda-returns and discount weights against loops, published vectors, identities and rlax."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from common.learning.returns import discount_weights, lambda_return
from tests.reference import returns as reference


def _inputs(seed, steps, batch):
    rng = np.random.default_rng(seed)
    reward, value = rng.normal(size=(2, steps, *batch)).astype(np.float32)
    discount = rng.uniform(0, 1, (steps, *batch)).astype(np.float32)
    discount[rng.uniform(size=discount.shape) < 0.2] = 0
    return reward, value, discount, rng.normal(size=batch).astype(np.float32)


def test_worked_example():
    reward, value = np.array([1.0, 2, 3]), np.array([0.5, 0.6, 0.7])
    got = lambda_return(reward, value, np.array([0.9, 0.8, 0.7]), np.array(0.8), 0.95)
    # 3 + .7 * .8 = 3.56; 2 + .8 * (.05 * .7 + .95 * 3.56) = 4.7336; and so on.
    np.testing.assert_allclose(got, [5.074228, 4.7336, 3.56], rtol=1e-6)


def test_worked_weights():
    got = discount_weights(np.array([0.9, 0.8, 0.7, 0.6]))
    np.testing.assert_allclose(got, [1, 0.9, 0.72, 0.504], rtol=1e-6)


@hypothesis.settings(max_examples=15, deadline=None)
@hypothesis.given(
    seed=st.integers(0, 1000),
    steps=st.sampled_from([1, 2, 7]),
    batch=st.sampled_from([(), (3,), (2, 3)]),
    lambda_=st.floats(0, 1),
)
def test_lambda_return_equals_the_loop(seed, steps, batch, lambda_):
    inputs = _inputs(seed, steps, batch)
    got = lambda_return(*inputs, lambda_)
    want = reference.lambda_return(*inputs, lambda_)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        discount_weights(inputs[2]), reference.discount_weights(inputs[2]), rtol=1e-5
    )


def test_lambda_zero_is_the_one_step_target():
    reward, value, discount, bootstrap = _inputs(0, 6, (3,))
    following = np.concatenate([value[1:], bootstrap[None]])
    got = lambda_return(reward, value, discount, bootstrap, 0.0)
    np.testing.assert_allclose(got, reward + discount * following, rtol=1e-5, atol=1e-6)


def test_lambda_one_ignores_the_values():
    reward, value, discount, bootstrap = _inputs(1, 6, (3,))
    got = lambda_return(reward, value, discount, bootstrap, 1.0)
    other = lambda_return(reward, value + 7, discount, bootstrap, 1.0)
    np.testing.assert_allclose(got, other, rtol=1e-5, atol=1e-6)
    weights = reference.discount_weights(np.concatenate([discount, discount[:1]]))
    total = (weights[:-1] * reward).sum(0) + weights[-1] * bootstrap
    np.testing.assert_allclose(got[0], total, rtol=1e-4, atol=1e-5)


def test_the_first_value_takes_no_part():
    inputs = _inputs(2, 4, ())
    gradient = jax.grad(lambda value: lambda_return(inputs[0], value, *inputs[2:], 0.5).sum())
    assert gradient(inputs[1])[0] == 0


def test_nothing_passes_a_zero_discount():
    reward, value, discount, bootstrap = _inputs(3, 5, ())
    discount[2] = 0
    jacobian = jax.jacobian(lambda r: lambda_return(r, value, discount, bootstrap, 0.9))(reward)
    assert np.all(np.asarray(jacobian)[:3, 3:] == 0)
    assert np.all(np.asarray(discount_weights(discount))[3:] == 0)


def test_weights_of_a_constant_discount_cost_no_compilation():
    """A GPU's compiler spent seconds on the windowed reduction of a constant, and said so."""

    def weights() -> jax.Array:
        return discount_weights(jax.numpy.full((15, 800), 0.99))

    assert "reduce-window" not in jax.jit(weights).lower().as_text("hlo")


def test_weights_have_no_gradient():
    gradient = jax.grad(lambda d: discount_weights(d).sum())(np.array([0.9, 0.8, 0.7]))
    np.testing.assert_array_equal(gradient, 0)


def test_rlax_agrees():
    rlax = pytest.importorskip("rlax")
    reward, value, discount, bootstrap = _inputs(4, 8, ())
    following = np.concatenate([value[1:], bootstrap[None]])
    want = rlax.lambda_returns(reward, discount, following, 0.95)
    got = lambda_return(reward, value, discount, bootstrap, 0.95)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
