"""Videos of a run as files."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

import numpy as np

from common.logging import video as videos

VIDEOS = "videos"


class VideoSink:
    """Writes ``logdir/videos/<name>-<frames>.mp4``, with slashes in the name as "_"."""

    def __init__(self, logdir: pathlib.Path, fps: int = 20) -> None:
        self._directory = pathlib.Path(logdir) / VIDEOS
        self._fps = fps

    def scalars(self, frames: int, scalars: Mapping[str, float]) -> None:
        """Writes nothing."""

    def video(self, frames: int, name: str, video: np.ndarray) -> None:
        """Writes a video ``[T, H, W, C]`` uint8."""
        path = self._directory / f"{name.replace('/', '_')}-{frames:012d}.mp4"
        videos.write_video(path, video, self._fps)

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
