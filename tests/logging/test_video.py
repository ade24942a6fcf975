"""Videos that are written can be read back."""

from __future__ import annotations

import imageio.v3
import numpy as np
import pytest

from common.errors import UserError
from common.logging import video

# The reader that these tests use forks; our writer does not.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork")


def gradient(frames, height, width, channels):
    """Smooth frames, which codecs keep well, that brighten with time."""
    ramp = (
        np.linspace(0, 120, width)[None, None, :, None] + np.arange(frames)[:, None, None, None] * 5
    )
    return np.broadcast_to(ramp, (frames, height, width, channels)).astype(np.uint8)


@pytest.mark.parametrize(
    "shape", [(10, 64, 64, 3), (5, 33, 47, 1), (1, 1, 1, 3), (3, 2, 2, 1), (4, 210, 160, 3)]
)
def test_mp4_of_any_size(tmp_path, shape):
    frames = gradient(*shape)
    path = tmp_path / "deep" / "x.mp4"
    video.write_video(path, frames, fps=15)
    found = imageio.v3.imread(path, plugin="FFMPEG")
    factor = found.shape[1] // shape[1]
    assert found.shape[0] == shape[0] and factor >= 1
    assert found.shape[1] % 2 == found.shape[2] % 2 == 0
    small = found[:, factor // 2 :: factor, factor // 2 :: factor][:, : shape[1], : shape[2]]
    assert np.abs(small.astype(int) - frames).mean() < 4
    assert imageio.v3.immeta(path, plugin="FFMPEG")["fps"] == 15


@pytest.mark.parametrize("shape", [(10, 64, 64, 3), (5, 33, 47, 1), (1, 1, 1, 3)])
def test_gif_of_any_size(tmp_path, shape):
    frames = gradient(*shape)
    video.write_video(tmp_path / "x.gif", frames, fps=20)
    found = imageio.v3.imread(tmp_path / "x.gif", index=None)
    assert found.shape[:3] == shape[:3]
    assert np.abs(found[..., :3].astype(int) - frames).max() <= (0 if shape[-1] == 1 else 32)
    if shape[0] > 1:
        assert imageio.v3.immeta(tmp_path / "x.gif", index=0)["duration"] == 50


def test_unknown_suffix(tmp_path):
    with pytest.raises(UserError, match="'x.mp3'; did you mean '.mp4'"):
        video.write_video(tmp_path / "x.mp3", gradient(1, 8, 8, 3))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        video.write_video(tmp_path / "file" / "x.mp4", gradient(1, 8, 8, 3))


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((2, 8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((2, 8, 8, 4), np.uint8),
        np.zeros((0, 8, 8, 3), np.uint8),
    ],
)
@pytest.mark.parametrize("name", ["x.mp4", "x.gif"])
def test_arrays_that_are_no_video(tmp_path, frames, name):
    with pytest.raises(ValueError, match="a video is uint8"):
        video.write_video(tmp_path / name, frames)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_open_loop_strip(channels):
    truth = np.full((2, 6, 32, 40, channels), 100, np.uint8)
    model = truth.copy()
    model[:, 4:] = 200
    strip = video.open_loop_strip(truth, model, context=3)
    assert strip.shape == (6, 96, 80, 3) and strip.dtype == np.uint8
    assert (strip[:, :32] == 100).all()
    assert (strip[:4, 33:63, 1:39] == 100).all() and (strip[4:, 33:63, 1:39] == 200).all()
    # The error row: mid-grey without an error, brighter where the model is.
    assert (strip[:4, 64:] == 127).all() and (strip[4:, 64:] == 177).all()
    for column in (0, 39, 40, 79):
        red, green, _ = strip[:, 48, column].astype(int).T
        assert (green[:3] > red[:3]).all() and (red[3:] > green[3:]).all()
    assert (model[:, :4] == 100).all()
