"""Videos: files, animated GIF bytes, and the strip that compares truth and imagination."""

from __future__ import annotations

import io
import pathlib
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from common.envs.pictures import NoPicture, to_frame
from common.errors import UserError, nearest, warn_once

SUFFIXES = (".mp4", ".gif")

_GREEN = (40, 180, 70)
_RED = (210, 50, 50)
_SMALLEST_MP4 = 256
"""Below this height MP4 frames are enlarged: players and encoders dislike tiny ones."""
_LARGEST_FILM = 2**30
"""Bytes of frames that a film keeps in memory."""


class Film:
    """Collects the pictures of an episode; what cannot be filmed is one warning."""

    def __init__(self) -> None:
        """Starts without a picture."""
        self._frames: list[np.ndarray] = []
        self.open = True
        """Whether it takes further pictures."""

    def add(self, picture: Callable[[], np.ndarray | None]) -> None:
        """Takes what ``picture`` returns; None, NoPicture and another size end the film."""
        if not self.open:
            return
        try:
            found = picture()
            self._append(None if found is None else to_frame(found))
        except NoPicture as reason:
            self._frames, self.open = [], False
            warn_once(f"the environment cannot be filmed: {reason}")

    def video(self) -> np.ndarray | None:
        """Returns uint8 ``[T, H, W, 3]``; None where there is no film."""
        return np.stack(self._frames) if self._frames else None

    def _append(self, frame: np.ndarray | None) -> None:
        if frame is None:
            self._frames, self.open = [], False
            return
        if self._frames and frame.shape != self._frames[0].shape:
            raise NoPicture(
                f"its picture changes its size from {self._frames[0].shape} to {frame.shape}"
            )
        self._frames.append(frame)
        if len(self._frames) * frame.nbytes > _LARGEST_FILM:
            self.open = False
            warn_once(
                f"films end after {_LARGEST_FILM >> 20:,} MiB of pictures, here "
                f"{len(self._frames):,} of {frame.shape}"
            )


class VideoSink:
    """Writes ``<directory>/<name>-<frames>.mp4``, with slashes in the name as "_"."""

    def __init__(self, directory: pathlib.Path, fps: int = 20) -> None:
        self._directory = pathlib.Path(directory)
        self._fps = fps

    def scalars(self, frames: int, scalars: Mapping[str, float]) -> None:
        """Writes nothing."""

    def video(self, frames: int, name: str, video: np.ndarray) -> None:
        """Writes a video ``[T, H, W, C]`` uint8; one that cannot be written is a warning."""
        path = self._directory / f"{name.replace('/', '_')}-{frames:012d}.mp4"
        try:
            write_video(path, video, self._fps)
        except (UserError, ValueError) as error:
            warn_once(f"no video of {name}: {error}")

    def rewind(self, frames: int) -> None:
        """Removes the videos after ``frames``."""
        for path in self._directory.glob("*-*.mp4"):
            number = path.stem.rpartition("-")[2]
            if number.isdigit() and int(number) > frames:
                path.unlink()

    def flush(self) -> None:
        """Does nothing: every video is written at once."""

    def close(self) -> None:
        """Does nothing."""


def check_suffix(path: pathlib.Path) -> None:
    """Raises a UserError where ``write_video`` does not know the format of that name."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"cannot write a video as {path.name!r}{nearest(path.suffix, SUFFIXES)}")


def write_video(path: pathlib.Path, video: np.ndarray, fps: int = 20) -> None:
    """Writes a video by the suffix of its name; folders are made.

    MP4 needs even sizes and is hard to see when tiny: small frames are enlarged by a
    whole factor, and an odd size is completed by repeating the last row or column.

    Args:
        path: A name that ends in ``.mp4`` or ``.gif``.
        video: ``[T, H, W, C]`` uint8 with one or three channels, at least one frame.
        fps: Frames per second.

    Raises:
        UserError: Another suffix, or the file cannot be written.
        ValueError: Not such an array.
    """
    path = pathlib.Path(path)
    check_suffix(path)
    frames = _rgb(_checked(video))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".gif":
            path.write_bytes(encode_gif(video, fps))
        else:
            _write_mp4(path, _even(frames), fps)
    except (OSError, RuntimeError) as error:  # Where there is no ffmpeg, the latter.
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot write {path}: {reason}") from error


def encode_gif(video: np.ndarray, fps: int = 20) -> bytes:
    """Returns an endless animated GIF of ``[T, H, W, C]`` uint8 frames.

    GIF counts time in hundredths of a second: the rate is rounded to 100 / n. Frames of
    one channel keep every shade of grey, others get 256 colours each.
    """
    first, *others = map(_paletted, _checked(video))
    buffer = io.BytesIO()
    # Pillow joins equal frames into one that is shown longer.
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=1000 / fps, loop=0)
    return buffer.getvalue()


def open_loop_strip(truth: np.ndarray, model: np.ndarray, context: int) -> np.ndarray:
    """Lays out truth, model and error of a batch of sequences as one video.

    Args:
        truth: ``[B, T, H, W, C]`` uint8.
        model: The same shape: reconstructions of ``context`` frames, then imagination.
        context: Frames that the model was shown. Their border in the model's row is
            green, that of imagined frames red.

    Returns:
        ``[T, 3 * H, B * W, 3]`` uint8; ``(model - truth) / 2`` around mid-grey below.
    """
    truth, model = _rgb(truth), _rgb(model)
    error = ((model.astype(np.int16) - truth.astype(np.int16) + 255) // 2).astype(np.uint8)
    model = model.copy()
    _border(model[:, :context], _GREEN)
    _border(model[:, context:], _RED)
    rows = [np.concatenate(list(part), axis=2) for part in (truth, model, error)]
    return np.concatenate(rows, axis=1)


def _border(frames: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Paints the edge of ``[..., H, W, 3]`` frames in place."""
    width = max(1, min(frames.shape[-3:-1]) // 32)
    frames[..., :width, :, :] = colour
    frames[..., -width:, :, :] = colour
    frames[..., :, :width, :] = colour
    frames[..., :, -width:, :] = colour


def _checked(video: np.ndarray) -> np.ndarray:
    right = video.ndim == 4 and video.shape[-1] in (1, 3) and video.size > 0
    if not right or video.dtype != np.uint8:
        raise ValueError(f"a video is uint8 [T, H, W, 1 or 3], this is {video.dtype} {video.shape}")
    return video


def _rgb(frames: np.ndarray) -> np.ndarray:
    """Returns three channels; of a stack of pictures the last, as grey."""
    return frames if frames.shape[-1] == 3 else np.repeat(frames[..., -1:], 3, -1)


def _paletted(frame: np.ndarray) -> Any:
    from PIL import Image

    if frame.shape[-1] == 1:
        return Image.fromarray(frame[..., 0])
    # The octree palette is many times faster than Pillow's own choice and as good here.
    return Image.fromarray(frame).quantize(256, Image.Quantize.FASTOCTREE)


def _even(frames: np.ndarray) -> np.ndarray:
    """Enlarges small frames by a whole factor and completes odd sizes."""
    factor = max(1, -(-_SMALLEST_MP4 // min(frames.shape[1:3])))
    frames = frames.repeat(factor, 1).repeat(factor, 2)
    odd = [(0, size % 2) for size in frames.shape[1:3]]
    return np.pad(frames, [(0, 0), *odd, (0, 0)], mode="edge")


def _write_mp4(path: pathlib.Path, frames: np.ndarray, fps: int) -> None:
    """Encodes H.264 with the ffmpeg that imageio brings, in colours that browsers play."""
    import imageio_ffmpeg

    height, width = frames.shape[1:3]
    temporary = path.with_name(f".{path.name}")
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps)]
    target = ["-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    # Not imageio's own writer: it forks this process, in which JAX runs threads.
    done = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *source, "-i", "-", *target]
        + [str(temporary.absolute())],
        input=frames.tobytes(),
        capture_output=True,
        start_new_session=True,
    )
    if done.returncode:
        temporary.unlink(missing_ok=True)
        message = done.stderr.decode(errors="replace").strip().splitlines()
        raise OSError(message[-1] if message else f"ffmpeg ended with {done.returncode}")
    temporary.replace(path)
