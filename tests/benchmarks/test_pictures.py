"""Moments of a video side by side."""

from __future__ import annotations

import numpy as np

from benchmarks.learning.pictures import side_by_side


def test_moments_stand_in_order():
    video = np.zeros((5, 2, 6, 3), np.uint8)
    video += np.arange(5, dtype=np.uint8)[:, None, None, None] * 10
    video += np.repeat(np.arange(3, dtype=np.uint8), 2)[None, None, :, None]
    picture = side_by_side(video, [0, 1, 3, 4], rows=2, panel=2, panels=3)
    assert picture.shape == (4, 4, 3)
    np.testing.assert_array_equal(picture[:2, :, 0], [[2, 2, 12, 12]] * 2)
    np.testing.assert_array_equal(picture[2:, :, 0], [[32, 32, 42, 42]] * 2)
