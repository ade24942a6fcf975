"""TD-MPC2's numbers as choices among bins, against the public code and a slow reference."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.distributions import SymlogTwoHot, symexp, symlog
from tests.golden_data import (
    FOLDER_TDMPC2,
    assert_gradients,
    assert_values,
    every_array,
    load,
)

ARRAYS = load("twohot", FOLDER_TDMPC2)


@pytest.mark.parametrize("function", [symlog, symexp])
def test_symlog_and_its_inverse(function):
    with every_array(ARRAYS.case(function.__name__)) as case:
        assert_values(function(case["in.x"]), case["out"])


@pytest.mark.parametrize("name", ["default", "small"])
def test_two_hot(name):
    with every_array(ARRAYS.case(name)) as case:
        low, high = float(case["cfg.vmin"]), float(case["cfg.vmax"])
        assert case["in.logits"].shape[-1] == case["cfg.num_bins"]
        of = lambda logits: SymlogTwoHot(logits, low, high)  # noqa: E731
        logits, x = jnp.asarray(case["in.logits"]), case["in.x"][:, 0]
        weights = of(logits).weights(x)
        # A position is divided by the size of a bin, in float32.
        np.testing.assert_allclose(weights, case["two_hot"], atol=1e-4)
        cotangent = case["in.cotangent"][:, 0]
        for got, want in [(lambda y: -of(y).log_prob(x), "soft_ce"),
                          (lambda y: of(y).mean(), "two_hot_inv")]:  # fmt: skip
            assert_values(got(logits), case[want][:, 0], want)
            gradient = jax.grad(lambda y, got=got: (got(y) * cotangent).sum())(logits)
            assert_gradients(gradient, case[f"grad.{want}"], want)
        # What was recorded is the number that the target itself stands for.
        assert_values(of(jnp.log(weights + 1e-30)).mean(), case["roundtrip"][:, 0], "roundtrip")


@settings(max_examples=50)
@given(st.floats(-2e4, 2e4, width=32), st.integers(2, 60), st.integers(1, 12))
def test_a_target_is_its_neighbours_with_it_as_mean(x, bins, half):
    """By loops over the bins; beyond the outermost ones all of it is theirs."""
    low, high = -half, half + 1
    place = np.linspace(low, high, bins)
    y = np.clip(np.sign(x) * np.log1p(abs(x)), low, high)
    expected = np.zeros(bins)
    for one in range(bins - 1):
        if place[one] <= y <= place[one + 1]:
            share = (y - place[one]) / (place[one + 1] - place[one])
            expected[one : one + 2] = 1 - share, share
    got = SymlogTwoHot(jnp.zeros(bins), low, high).weights(jnp.float32(x))
    np.testing.assert_allclose(got, expected, atol=1e-4)
    assert got.sum() == pytest.approx(1, abs=1e-5)


def test_nothing_learned_predicts_zero():
    assert SymlogTwoHot(jnp.zeros((3, 101))).mean() == pytest.approx(np.zeros(3), abs=1e-6)
    assert SymlogTwoHot(jnp.zeros((3, 101))).mode().shape == (3,)
