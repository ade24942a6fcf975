"""Where a LeRobot dataset keeps what: versions 2.0, 2.1 and 3.0 of its format.

A dataset is a folder. ``meta/info.json`` names the version, the frames per second and the features
of a frame, and how the files are called:

=========  ===============================  ==============================  ======================
version    numbers and pictures             videos                          list of episodes
=========  ===============================  ==============================  ======================
2.0, 2.1   a Parquet file for each episode  a file for each episode, camera  ``meta/episodes.jsonl``
3.0        Parquet files of many episodes   files of many episodes, one      ``meta/episodes/``,
                                            after the other                  Parquet
=========  ===============================  ==============================  ======================

Paths come from a stranger's file; none may lead out of the folder.
"""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from common.errors import UserError
from common.replay.lerobot.tables import read_table

INFO = "meta/info.json"
VERSIONS = ("v2.0", "v2.1", "v3.0")
OBSERVATION = "observation"
ACTION, REWARD, DONE, TRUNCATED = "action", "next.reward", "next.done", "next.truncated"
PICTURES = ("image", "video")
"""Types of features that are pictures: PNG files inside of the table, or frames of a video."""
_EPISODES = {"v2": "meta/episodes.jsonl", "v3": "meta/episodes"}
_DAMAGE = (
    ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
)  # fmt: skip


class Feature(NamedTuple):
    """One entry of a frame.

    Attributes:
        dtype: "float32" and the like, "string", or one of ``PICTURES``.
        size: How many numbers it is.
    """

    dtype: str
    size: int


class Frames(NamedTuple):
    """Where the frames of a camera are.

    Attributes:
        path: The video.
        start: The first frame of the episode in it.
    """

    path: pathlib.Path
    start: int


class Entry(NamedTuple):
    """One episode.

    Attributes:
        number: Its ``episode_index``.
        frames: How many it has.
        table: The Parquet file that it is in.
        videos: Its frames, by the name of the feature.
    """

    number: int
    frames: int
    table: pathlib.Path
    videos: dict[str, Frames]


class Layout(NamedTuple):
    """A dataset whose files are all there.

    Attributes:
        folder: The dataset.
        fps: Frames per second.
        features: Every entry of a frame by its name.
        episodes: In the order of their numbers.
    """

    folder: pathlib.Path
    fps: float
    features: dict[str, Feature]
    episodes: list[Entry]


def is_dataset(folder: pathlib.Path) -> bool:
    """Whether a folder is meant to be a LeRobot dataset, complete or not."""
    return (folder / "meta").is_dir() or any(folder.glob("data/chunk-*"))


def read_layout(folder: pathlib.Path) -> Layout:
    """Reads what a dataset consists of.

    Raises:
        UserError: pyarrow is not installed; or there is no ``meta/info.json``, it is damaged or of
            an unknown version, or a file is missing.
    """
    info = _read_info(folder)
    try:
        version = str(info["codebase_version"])
        if version not in VERSIONS:
            raise UserError(
                f"{folder} has codebase_version {version!r}; expected one of {', '.join(VERSIONS)}"
            )
        features = {str(key): _feature(value) for key, value in info["features"].items()}
        fps = float(info["fps"])
        if not 0 < fps < math.inf:
            raise ValueError(f"fps is {fps}")
        read = _entries_v2 if version.startswith("v2") else _entries_v3
        episodes = sorted(read(folder, info, fps, _cameras(features)))
        said = int(info["total_episodes"])
    except UserError:
        raise
    except _DAMAGE as error:
        words = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, KeyError):
            words = f"there is no {words}"
        raise UserError(f"{folder / INFO}, or the list of episodes, is damaged: {words}") from error
    if len(episodes) != said or not episodes:
        raise UserError(
            f"{folder / INFO} says that there are {said} episodes, {len(episodes)} are listed; "
            "download or copy the dataset again"
        )
    for path in _files(episodes):
        if not path.is_file():
            raise UserError(
                f"{folder} has no {path.relative_to(folder)}, which its list of episodes names; "
                "download or copy the dataset again"
            )
    return Layout(folder, fps, features, episodes)


def _read_info(folder: pathlib.Path) -> Mapping[str, Any]:
    path = folder / INFO
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} has no {INFO}; name the folder of a whole LeRobot dataset"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        words = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {path}: {words}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} is damaged: it holds no names and values")
    return found


def _feature(found: Mapping[str, Any]) -> Feature:
    shape = [int(size) for size in found["shape"]]
    if any(size < 1 for size in shape):
        raise ValueError(f"a feature has the shape {shape}")
    return Feature(str(found["dtype"]), math.prod(shape))


def _cameras(features: Mapping[str, Feature]) -> list[str]:
    return [key for key, feature in features.items() if feature.dtype == "video"]


def _files(episodes: list[Entry]) -> list[pathlib.Path]:
    tables = [one.table for one in episodes]
    videos = [frames.path for one in episodes for frames in one.videos.values()]
    return list(dict.fromkeys([*tables, *videos]))


def _entries_v2(
    folder: pathlib.Path, info: Mapping[str, Any], fps: float, cameras: list[str]
) -> Iterator[Entry]:
    path = folder / _EPISODES["v2"]
    if not path.is_file():
        raise UserError(f"{folder} has no {_EPISODES['v2']}; download or copy the dataset again")
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip():
            continue
        found = json.loads(line)
        number = int(found["episode_index"])
        names = {"episode_index": number, "episode_chunk": number // int(info["chunks_size"])}
        videos = {
            key: Frames(_path(folder, info["video_path"], names | {"video_key": key}), 0)
            for key in cameras
        }
        table = _path(folder, info["data_path"], names)
        yield Entry(number, int(found["length"]), table, videos)


def _entries_v3(
    folder: pathlib.Path, info: Mapping[str, Any], fps: float, cameras: list[str]
) -> Iterator[Entry]:
    paths = sorted((folder / _EPISODES["v3"]).glob("*/*.parquet"))
    if not paths:
        raise UserError(
            f"{folder} has no {_EPISODES['v3']}/*/*.parquet; download or copy the dataset again"
        )
    begin = [f"videos/{key}/" for key in cameras]
    wanted = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    for one in begin:
        wanted += [one + name for name in ("chunk_index", "file_index", "from_timestamp")]
    for path in paths:
        for row in read_table(path, wanted).to_pylist():
            videos = {}
            for key, one in zip(cameras, begin, strict=True):
                place = _path(folder, info["video_path"], _numbers(row, one) | {"video_key": key})
                videos[key] = Frames(place, round(float(row[one + "from_timestamp"]) * fps))
            table = _path(folder, info["data_path"], _numbers(row, "data/"))
            yield Entry(int(row["episode_index"]), int(row["length"]), table, videos)


def _numbers(row: Mapping[str, Any], begin: str) -> dict[str, Any]:
    return {name: int(row[begin + name]) for name in ("chunk_index", "file_index")}


def _path(folder: pathlib.Path, template: str, names: Mapping[str, Any]) -> pathlib.Path:
    """Fills in the name of a file; a ValueError where it leads out of the folder."""
    path = folder / str(template).format(**names)
    if ".." in path.relative_to(folder).parts:
        raise ValueError(f"{template!r} leads out of the folder")
    return path
