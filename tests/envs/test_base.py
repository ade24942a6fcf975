import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.envs import base
from common.errors import UserError
from common.spaces import ObservationSpec


def test_seeds_differ_by_environment_and_restart_and_repeat():
    seeds = {base.env_seed(seed, i, k) for seed in range(3) for i in range(4) for k in range(2)}
    assert len(seeds) == 24
    assert base.env_seed(1, 2, 3) == base.env_seed(1, 2, 3)
    assert 0 <= min(seeds) and max(seeds) < 2**31


def test_rows_stack_with_types_and_missing_log_entries():
    x = np.ones(2, np.float32)
    rows = [base.make_row({"x": x}, 2, log={"log/a": 3.0}), base.make_row({"x": x}, last=True)]
    stacked = base.stack_rows(rows)
    assert {k: (v.dtype.name, v.shape) for k, v in stacked.items()} == {
        "x": ("float32", (2, 2)),
        "reward": ("float32", (2,)),
        "is_first": ("bool", (2,)),
        "is_last": ("bool", (2,)),
        "is_terminal": ("bool", (2,)),
        "log/a": ("float32", (2,)),
    }
    np.testing.assert_array_equal(stacked["log/a"], [3, np.nan])
    np.testing.assert_array_equal(stacked["is_last"], [False, True])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_must_be_finite(value):
    with pytest.raises(UserError, match="observation 'x' holds .*shape"):
        base.make_row({"x": np.array([0, value], np.float32)})
    with pytest.raises(UserError, match="reward"):
        base.make_row({"x": np.zeros(1, np.float32)}, value)


@settings(max_examples=50, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_rewards_are_finite_as_rows_hold_them(reward):
    try:
        stacked = base.stack_rows([base.make_row({"x": np.zeros(1, np.float32)}, reward)])
    except UserError as error:
        assert abs(reward) > 3e38 and "finite number of at most 3.4e+38" in str(error)
    else:
        assert np.isfinite(stacked["reward"]).all() and abs(reward) < 3.5e38


def test_actions_are_checked():
    assert base.check_actions([[0.5]], 1, 1).dtype == np.float32
    with pytest.raises(ValueError, match=r"\(1, 2\)"):
        base.check_actions(np.zeros((1, 3)), 1, 2)
    with pytest.raises(FloatingPointError, match="non-finite"):
        base.check_actions(np.array([[np.nan]]), 1, 1)


@pytest.mark.parametrize("key", ["reward", "is_first", "log/x"])
def test_reserved_observation_keys_are_refused(key):
    with pytest.raises(UserError, match=f"'{key}' is reserved"):
        base.check_keys({key: ObservationSpec((1,), "vector")})


def test_adapted_space_holds_images_and_vectors():
    specs = {"a": ObservationSpec((32, 32, 3), "image"), "b": ObservationSpec((2,), "vector")}
    space = base.adapted_space(specs)
    assert space["a"].dtype == np.uint8 and space["a"].shape == (32, 32, 3)
    assert space["b"].dtype == np.float32 and space["b"].shape == (2,)
