"""Puts moments of a run's video side by side, as the README shows them.

    python -m benchmarks.learning.pictures RUN/videos/eval_policy-000000080000.mp4 \
        benchmarks/results/learning/quickstart_policy.png --rows 2
    python -m benchmarks.learning.pictures RUN/videos/open_loop_image-000000400000.mp4 \
        benchmarks/results/learning/atari_boxing_open_loop.png \
        --moments 0 2 4 5 6 8 10 12 14 15 --panel 1 --panels 6
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Sequence

import imageio.v3 as iio
import numpy as np


def side_by_side(
    video: np.ndarray, moments: Sequence[int], rows: int = 1, panel: int = 0, panels: int = 1
) -> np.ndarray:
    """Cuts moments out of a video and lays them out from left to right, row by row.

    Args:
        video: ``[T, height, width, 3]``.
        moments: Numbers of frames; as many as fill the rows.
        rows: Rows of the picture.
        panel: Which of the panels that stand side by side in every frame.
        panels: How many there are.

    Returns:
        ``[rows * height, len(moments) / rows * width / panels, 3]``.
    """
    width = video.shape[2] // panels
    chosen = video[np.asarray(moments), :, panel * width : (panel + 1) * width]
    return np.concatenate([np.concatenate(row, 1) for row in np.split(chosen, rows)], 0)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning.pictures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("video", type=pathlib.Path)
    parser.add_argument("picture", type=pathlib.Path)
    parser.add_argument("--moments", type=int, nargs="+", help="frames (12, evenly spread)")
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--panel", type=int, default=0)
    parser.add_argument("--panels", type=int, default=1)
    arguments = parser.parse_args()
    video = iio.imread(arguments.video, plugin="FFMPEG")
    moments = arguments.moments or np.linspace(0, len(video) - 1, 12).astype(int)
    layout = arguments.rows, arguments.panel, arguments.panels
    iio.imwrite(arguments.picture, side_by_side(video, moments, *layout))


if __name__ == "__main__":
    main()
