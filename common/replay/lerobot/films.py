"""Pictures of a dataset: frames of videos, and PNG files inside of a table.

Videos are decoded by the ffmpeg that imageio-ffmpeg brings, which knows AV1, H.264, H.265 and VP9.
Pictures are resized while they are decoded, each pixel of the small picture being the mean of
those that it covers.
"""

from __future__ import annotations

import io
import logging
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from common.errors import UserError

CHANNELS = {1: ("gray", "L"), 3: ("rgb24", "RGB")}
"""What ffmpeg and Pillow call pictures of so many channels."""
_SAFE = ["-protocol_whitelist", "file", "-f", "mov"]
"""A file of others is read as what it should be, and can't send ffmpeg to another place."""


class Film:
    """The frames of a video, one after the other."""

    def __init__(self, path: pathlib.Path, shape: Sequence[int]):
        """Opens nothing yet.

        Args:
            path: The video.
            shape: Height, width and channels that its frames are to have.
        """
        self._path, self._shape = path, tuple(shape)
        self._frames: Iterator[bytes] = iter(())
        self._next: int | None = None

    def take(self, start: int, amount: int) -> np.ndarray:
        """Returns frames uint8 ``[amount, H, W, C]``.

        Args:
            start: The first of them; that of a later call may not come before.
            amount: How many.

        Raises:
            UserError: The video is damaged, or ends before.
        """
        if self._next is None or start < self._next:
            self._open()
        taken = np.empty((amount, *self._shape), np.uint8)
        for number in range(self._next, start + amount):
            frame = self._read()
            if frame is None:
                raise UserError(
                    f"{self._path} ends after {number} frames; its episodes have at least "
                    f"{start + amount}"
                )
            if number >= start:
                taken[number - start] = np.frombuffer(frame, np.uint8).reshape(self._shape)
        self._next = start + amount
        return taken

    def check_end(self) -> None:
        """Raises a UserError where there are more frames than were taken."""
        if self._read() is not None:
            raise UserError(f"{self._path} has more frames than its episodes, {self._next}")

    def close(self) -> None:
        """Ends ffmpeg."""
        if self._next is not None:
            self._frames.close()

    def _open(self) -> None:
        import imageio_ffmpeg

        # It would say of every video that frames are resized.
        logging.getLogger("imageio_ffmpeg").setLevel(logging.ERROR)
        self.close()
        height, width, channels = self._shape
        self._frames = imageio_ffmpeg.read_frames(
            str(self._path.resolve()),
            pix_fmt=CHANNELS[channels][0],
            bits_per_pixel=8 * channels,
            input_params=_SAFE,
            output_params=[
                "-vf", f"scale={width}:{height}:flags=area", "-fps_mode", "passthrough"
            ],
        )  # fmt: skip
        self._next = 0
        found = self._read()
        if found is None or tuple(found["size"]) != (width, height):
            raise UserError(f"cannot read {self._path}: ffmpeg gives no frames")

    def _read(self) -> Any:
        try:
            return next(self._frames, None)
        except (OSError, RuntimeError, LookupError, ValueError) as error:
            # The last line that ffmpeg wrote says what is wrong.
            words = " ".join(str(error).strip().splitlines()[-1:]) or type(error).__name__
            raise UserError(f"cannot read {self._path}: {words}") from error


def decode(pictures: Iterable[Any], shape: Sequence[int]) -> np.ndarray:
    """Decodes the pictures that a table holds.

    Args:
        pictures: Each a mapping whose "bytes" are a PNG or JPEG file.
        shape: Height, width and channels that they are to have.

    Returns:
        uint8 ``[T, H, W, C]``.

    Raises:
        ValueError: Something is no picture.
    """
    from PIL import Image

    height, width, channels = shape
    found = []
    for one in pictures:
        try:
            picture = Image.open(io.BytesIO(one["bytes"])).convert(CHANNELS[channels][1])
        except (OSError, TypeError, LookupError, Image.DecompressionBombError) as error:
            raise ValueError(f"a picture cannot be read: {error}") from error
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.BOX)
        found.append(np.asarray(picture).reshape(shape))
    return np.stack(found)


def encode(picture: np.ndarray) -> bytes:
    """Returns a picture uint8 ``[H, W, C]``, of 1 or 3 channels, as a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(buffer, "PNG")
    return buffer.getvalue()


class FilmWriter:
    """Writes frames into a video, H.264, every second of them whole so that any is found fast."""

    CODEC, PIXELS = "h264", "yuv420p"

    def __init__(self, path: pathlib.Path, fps: int):
        """Opens nothing before the first frame."""
        self._path, self._fps = path, fps
        self._pipe: Any = None

    def add(self, frames: np.ndarray) -> None:
        """Appends frames uint8 ``[T, H, W, 3]`` of even height and width.

        Raises:
            OSError: The file cannot be written.
        """
        import imageio_ffmpeg

        if self._pipe is None:
            self._pipe = imageio_ffmpeg.write_frames(
                str(self._path), frames.shape[2:0:-1], pix_fmt_in="rgb24", pix_fmt_out=self.PIXELS,
                fps=self._fps, codec="libx264", quality=None, macro_block_size=1,
                output_params=["-g", "2", "-crf", "16", "-bf", "0", "-threads", "2"],
            )  # fmt: skip
            self._pipe.send(None)
        for frame in frames:
            self._pipe.send(np.ascontiguousarray(frame))

    def close(self) -> None:
        """Completes the file."""
        if self._pipe is not None:
            self._pipe.close()

    @classmethod
    def info(cls, height: int, width: int, fps: int) -> dict[str, Any]:
        """Returns what a dataset says of such a video."""
        return {
            "video.height": height, "video.width": width, "video.codec": cls.CODEC,
            "video.pix_fmt": cls.PIXELS, "video.is_depth_map": False, "video.fps": fps,
            "video.channels": 3, "has_audio": False,
        }  # fmt: skip
