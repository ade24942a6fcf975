"""Videos that are written can be read back."""

from __future__ import annotations

import imageio.v3
import imageio_ffmpeg
import numpy as np
import pytest

from common.envs.pictures import NoPicture
from common.errors import UserError, warn_once
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


def filmed(pictures):
    """What a film makes of pictures, which are arrays, None or errors."""
    film = video.Film()
    for picture in pictures:

        def draw(picture=picture):
            if isinstance(picture, Exception):
                raise picture
            return picture

        film.add(draw)
    return film.video()


FRAME = np.full((6, 8, 3), 7, np.uint8)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_film_of_frames(channels):
    pictures = [np.full((6, 8, channels), i, np.uint8) for i in range(3)]
    found = filmed(pictures)
    assert found.shape == (3, 6, 8, 3) and found.dtype == np.uint8
    np.testing.assert_array_equal(found[:, 0, 0, 0], [0, 1, 2])


@pytest.mark.parametrize(
    "bad, words",
    [
        (FRAME.astype(np.float32), "its picture is float32 (6, 8, 3)"),
        (FRAME[:5], "its picture changes its size from (6, 8, 3) to (5, 8, 3)"),
        (FRAME[None], "its picture is uint8 (1, 6, 8, 3)"),
        (np.zeros((6, 8, 2), np.uint8), "its picture is uint8 (6, 8, 2)"),
        (NoPicture("render() raised OSError: no display"), "no display"),
    ],
)
def test_a_film_that_cannot_be_made_is_one_warning(bad, words, capsys):
    warn_once.cache_clear()
    for _ in range(2):
        assert filmed([FRAME, bad, FRAME, bad]) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: the environment cannot be filmed: ") and words in line


def test_no_picture_is_no_film_and_no_warning(capsys):
    assert filmed([]) is None and filmed([None, FRAME]) is None
    assert capsys.readouterr().err == ""


def test_films_have_a_largest_size(monkeypatch, capsys):
    warn_once.cache_clear()
    monkeypatch.setattr(video, "_LARGEST_FILM", 3 * FRAME.nbytes)
    assert len(filmed([FRAME] * 9)) == 4
    assert "films end after 0 MiB of pictures" in capsys.readouterr().err


def test_a_video_that_cannot_be_written_ends_nothing(tmp_path, monkeypatch, capsys):
    warn_once.cache_clear()
    (tmp_path / "file").write_text("")
    sink = video.VideoSink(tmp_path / "file")
    sink.video(10, "eval/policy", gradient(2, 8, 8, 3))
    assert "warning: no video of eval/policy: cannot write" in capsys.readouterr().err

    def missing():
        raise RuntimeError("No ffmpeg exe could be found")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", missing)
    video.VideoSink(tmp_path).video(10, "eval/policy", gradient(2, 8, 8, 3))
    assert "No ffmpeg exe could be found" in capsys.readouterr().err


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
