"""TensorBoard event files, without TensorFlow."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

import numpy as np

from common.logging.video import encode_gif


class TensorBoardSink:
    """Writes scalars and videos as event files of a folder.

    TensorBoard groups scalars by the part of the name before the slash. Videos are
    written as the bytes of an animated GIF: the library's own ``add_video`` drops them
    where moviepy is not installed.
    """

    def __init__(self, directory: pathlib.Path, fps: int = 20) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(directory))
        self._fps = fps

    def scalars(self, frames: int, scalars: Mapping[str, float]) -> None:
        """Adds one point to the curve of every name."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, float(value), frames)

    def video(self, frames: int, name: str, video: np.ndarray) -> None:
        """Adds an animation ``[T, H, W, C]`` uint8."""
        from tensorboardX.proto.summary_pb2 import Summary

        height, width, channels = video.shape[1:]
        image = Summary.Image(
            height=height,
            width=width,
            colorspace=channels,
            encoded_image_string=encode_gif(video, self._fps),
        )
        summary = Summary(value=[Summary.Value(tag=name, image=image)])
        self._writer.file_writer.add_summary(summary, frames)

    def rewind(self, frames: int) -> None:
        """Does nothing: TensorBoard draws the later of two points of one step."""

    def flush(self) -> None:
        """Writes what waits."""
        self._writer.flush()

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()
