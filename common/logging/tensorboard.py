"""TensorBoard event files, without TensorFlow."""

from __future__ import annotations

import contextlib
import pathlib
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from common.files import cannot_write
from common.logging.video import encode_gif

FLUSH_SECONDS = 30
"""How long what was written may wait before TensorBoard can see it."""


class TensorBoardSink:
    """Writes scalars and videos as event files of a folder.

    TensorBoard groups scalars by the part of the name before the slash. Videos are
    written as the bytes of an animated GIF: the library's own ``add_video`` drops them
    where moviepy is not installed. Nor is its ``SummaryWriter`` used: that one writes in a
    thread, which a full disk ends, and then blocks whoever writes for ever.

    Where the disk is full, ``common.files.WriteError`` is raised by all but ``close``.
    """

    def __init__(self, directory: pathlib.Path, fps: int = 20) -> None:
        """Begins a new file of the folder, which is made if missing."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.record_writer import RecordWriter

        self._directory, self._fps = pathlib.Path(directory), fps
        # Nanoseconds, since another session may begin within this second.
        now = time.time_ns()
        name = f"events.out.tfevents.{now // 10**9}.{socket.gethostname()}.{now}"
        with self._full_disk_said():
            self._directory.mkdir(parents=True, exist_ok=True)
            self._file = RecordWriter(str(self._directory / name))
        self._write(Event(wall_time=now / 1e9, file_version="brain.Event:2"))
        self.flush()

    def scalars(self, frames: int, scalars: Mapping[str, float]) -> None:
        """Adds one point to the curve of every name."""
        from tensorboardX.summary import scalar

        self._add(frames, [scalar(name, float(x)).value[0] for name, x in scalars.items()])

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
        self._add(frames, [Summary.Value(tag=name, image=image)])

    def rewind(self, frames: int) -> None:
        """Does nothing: TensorBoard draws the later of two points of one step."""

    def flush(self) -> None:
        """Writes what waits."""
        with self._full_disk_said():
            self._file.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Closes the event file, with what waits where the disk takes it."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _add(self, frames: int, values: list[Any]) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        self._write(Event(wall_time=time.time(), step=int(frames), summary=Summary(value=values)))
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def _write(self, event: Any) -> None:
        with self._full_disk_said():
            self._file.write(event.SerializeToString())

    @contextlib.contextmanager
    def _full_disk_said(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise cannot_write(self._directory, error) from error
