"""Running magnitude of a stream, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import UserError
from common.learning.normalize import (
    SpreadConfig,
    StreamNormConfig,
    initial_magnitude,
    stream_norm,
)


def test_magnitude_moves_towards_the_mean_of_absolute_values():
    config = StreamNormConfig(momentum=0.75, scale=2.0, eps=0.0)
    x = np.float32([-6, 3, 0])
    first, magnitude = stream_norm(x, initial_magnitude(), config)
    np.testing.assert_allclose(magnitude, 0.75 * 1 + 0.25 * 3)
    np.testing.assert_allclose(first, 2 * x / 1.5)
    _, magnitude = stream_norm(x, magnitude, config)
    np.testing.assert_allclose(magnitude, 0.75 * 1.5 + 0.25 * 3)


def test_momentum_one_is_off():
    x = np.float32([[-60, 3], [0, 1]])
    y, magnitude = stream_norm(x, initial_magnitude(), StreamNormConfig())
    assert magnitude == 1
    np.testing.assert_allclose(y, x, rtol=1e-6)


def test_the_low_percentile_is_below_the_high_one():
    with pytest.raises(UserError, match="SpreadConfig.low is 50; expected less than .*high, 50"):
        SpreadConfig(low=50, high=50)
