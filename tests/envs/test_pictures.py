import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from common.envs.pictures import NoPicture, to_frame

TYPES = st.sampled_from([np.uint8, np.uint8, bool, np.int32, np.float32, np.float64, object])
PICTURES = arrays.arrays(TYPES, arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5))


def test_alpha_is_dropped_and_gray_gets_three_channels():
    picture = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    np.testing.assert_array_equal(to_frame(picture), picture[..., :3])
    gray = picture[..., 0]
    for form in (gray, gray[..., None]):
        np.testing.assert_array_equal(to_frame(form), np.stack([gray] * 3, -1))


def test_frames_are_copies_of_a_reused_buffer():
    picture = np.zeros((4, 4, 3), np.uint8)
    frame = to_frame(picture)
    picture[:] = 7
    assert frame.max() == 0 and frame.flags.writeable


@settings(max_examples=50, deadline=None)
@given(PICTURES)
def test_a_picture_is_a_frame_or_is_refused_by_name(picture):
    try:
        frame = to_frame(picture)
    except NoPicture as reason:
        assert "picture is" in str(reason)
        filmable = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[-1] in (1, 3, 4))
        assert picture.dtype != np.uint8 or not filmable or not picture.size
    else:
        assert frame.dtype == np.uint8 and frame.shape == (*picture.shape[:2], 3)
        first = picture if picture.ndim == 2 else picture[..., 0]
        np.testing.assert_array_equal(frame[..., 0], first)


@pytest.mark.parametrize("picture", ["text", None, 3, [[1, 2], [3]], {"a": 1}])
def test_what_is_no_array(picture):
    with pytest.raises(NoPicture, match="its picture is"):
        to_frame(picture)
