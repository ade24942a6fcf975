"""Episodes as a LeRobot dataset of version 3.0.

Row t of an episode is its frame t. The action of a frame is the one that is taken *then*, so that
row t + 1 gives frame t its action, ``next.reward``, ``next.done`` (the task ended) and
``next.truncated`` (a limit of time ended the episode). The last frame has no action of its own: it
holds the last one, as LeRobot's policies go on at the end of an episode, with reward 0.

    action[t] = a[min(t + 1, T)],  next.reward[t] = r[t + 1],  next.reward[T] = 0

Actions are in the units of the environment; of a choice its number is written.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from common.errors import UserError
from common.replay.episodes import Episode
from common.replay.lerobot import layout as names
from common.replay.lerobot.films import FilmWriter, encode
from common.replay.lerobot.statistics import Statistics
from common.replay.lerobot.tables import library
from common.replay.logs.transitions import middle_and_half
from common.rows import ROW_KEYS
from common.spaces import ActionSpec

FRAMES_OF_A_FILE = 50_000
"""After the episode that reaches so many, new files begin."""
FILES_OF_A_CHUNK = 1000
_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_EPISODES = "meta/episodes/chunk-000/file-000.parquet"
_COUNTED = {"timestamp": "float32"} | dict.fromkeys(
    ("frame_index", "episode_index", "index", "task_index"), "int64"
)


def write_lerobot(
    folder: pathlib.Path,
    episodes: Iterable[Episode],
    actions: ActionSpec,
    *,
    fps: int,
    task: str,
    video: bool,
) -> tuple[int, int]:
    """Writes a dataset.

    Args:
        folder: It is there and empty.
        episodes: All with the same keys and shapes; read one by one.
        actions: Their flat action vector.
        fps: Frames per second.
        task: What was done in them, in words.
        video: Whether pictures become videos, which changes them a little, or PNG files.

    Returns:
        How many episodes and frames there are.

    Raises:
        UserError: pyarrow is not installed, the episodes differ, or have pictures that such a
            dataset cannot hold, or actions of another size; or whatever reading one raises.
        OSError: The files cannot be written.
    """
    writer: _Writer | None = None
    try:
        for episode in episodes:
            writer = writer or _Writer(folder, episode, actions, fps, video)
            writer.add(episode)
    finally:
        if writer:
            writer.close_files()
    if writer is None:
        raise UserError("there are no episodes to write")
    writer.write_meta(task)
    return len(writer.entries), writer.frames


class _Writer:
    """Adds episodes to the files of a dataset."""

    def __init__(
        self, folder: pathlib.Path, episode: Episode, actions: ActionSpec, fps: int, video: bool
    ):
        self._folder, self._actions, self._fps = folder, actions, fps
        self._keys = {_name(key, episode): key for key in _observations(episode)}
        self._shapes = {key: episode[key].shape[1:] for key in (*self._keys.values(), "action")}
        if (size := episode["action"].shape[1]) != actions.size:
            raise UserError(f"the episodes have actions of {size} numbers, not {actions.size}")
        self.features = self._features(episode, "video" if video else "image")
        self.entries: list[dict[str, Any]] = []
        self.frames = 0
        self._file, self._table, self._films = 0, None, {}
        self._begun = 0
        self._statistics = Statistics()

    def _features(self, episode: Episode, pictures: str) -> dict[str, dict[str, Any]]:
        features = {}
        for name, key in self._keys.items():
            value = episode[key]
            if value.dtype == np.uint8:
                features[name] = self._camera(name, value.shape[1:], pictures)
            else:
                features[name] = _numbers("float32", value[0].size)
        whole = all(part.kind == "categorical" for part in self._actions.parts)
        width = acted(episode["action"][:1], self._actions).shape[1]
        features[names.ACTION] = _numbers("int64" if whole else "float32", width)
        features[names.REWARD] = _numbers("float32", 1)
        features |= {name: _numbers("bool", 1) for name in (names.DONE, names.TRUNCATED)}
        return features | {name: _numbers(kind, 1) for name, kind in _COUNTED.items()}

    def _camera(self, name: str, shape: tuple[int, ...], kind: str) -> dict[str, Any]:
        height, width, channels = shape
        if channels not in (1, 3):
            raise UserError(f"{name!r} has {channels} channels; a LeRobot dataset has 1 or 3")
        if kind == "video" and (height % 2 or width % 2):
            raise UserError(
                f"{name!r} is {height}x{width}, videos need even sizes; choose --pictures png"
            )
        feature = {
            "dtype": kind,
            "shape": [height, width, 3],
            "names": ["height", "width", "channels"],
        }
        return feature | (
            {"info": FilmWriter.info(height, width, self._fps)} if kind == "video" else {}
        )

    def add(self, episode: Episode) -> None:
        """Writes one episode."""
        for key, shape in self._shapes.items():
            if (found := np.shape(episode.get(key, 0))[1:]) != shape:
                raise UserError(
                    f"the episodes differ: {key!r} is {shape} in one and {found} in another; "
                    "collect them with the same environment options"
                )
        rows, number = len(episode["reward"]), len(self.entries)
        columns = {name: episode[key] for name, key in self._keys.items()}
        columns |= as_frames(episode, self._actions)
        counted = np.arange(rows)
        columns |= {
            "timestamp": counted / self._fps,
            "frame_index": counted,
            "episode_index": np.full(rows, number),
            "index": self.frames + counted,
            "task_index": np.zeros(rows, np.int64),
        }
        entry = {
            "episode_index": number,
            "length": rows,
            "dataset_from_index": self.frames,
            "dataset_to_index": self.frames + rows,
        } | self._place("data/")
        for name, feature in self.features.items():
            if feature["dtype"] == "video":
                begin = (self.frames - self._begun) / self._fps
                span = {"from_timestamp": begin, "to_timestamp": begin + rows / self._fps}
                entry |= self._place(f"videos/{name}/", **span)
                self._film(name).add(_rgb(columns[name]))
            self._statistics.add(name, _rgb(columns[name]))
        self._append(columns)
        self.entries.append(entry)
        self.frames += rows
        if self.frames - self._begun >= FRAMES_OF_A_FILE:
            self.close_files()
            self._file, self._begun = self._file + 1, self.frames

    def _indices(self) -> dict[str, int]:
        chunk, file = divmod(self._file, FILES_OF_A_CHUNK)
        return {"chunk_index": chunk, "file_index": file}

    def _place(self, begin: str, **further: float) -> dict[str, float]:
        return {begin + name: value for name, value in (self._indices() | further).items()}

    def _film(self, name: str) -> FilmWriter:
        if name not in self._films:
            path = self._folder / _VIDEO.format(video_key=name, **self._indices())
            path.parent.mkdir(parents=True, exist_ok=True)
            self._films[name] = FilmWriter(path, self._fps)
        return self._films[name]

    def _append(self, columns: Mapping[str, np.ndarray]) -> None:
        arrow = library()
        arrays = {
            name: _column(arrow, columns[name], feature["dtype"])
            for name, feature in self.features.items()
            if feature["dtype"] != "video"
        }
        table = arrow.table(arrays)
        if self._table is None:
            path = self._folder / _DATA.format(**self._indices())
            path.parent.mkdir(parents=True, exist_ok=True)
            self._table = arrow.parquet.ParquetWriter(path, table.schema)
        self._table.write_table(table)

    def close_files(self) -> None:
        """Completes the files that are open."""
        if self._table is not None:
            self._table.close()
        for film in self._films.values():
            film.close()
        self._table, self._films = None, {}

    def write_meta(self, task: str) -> None:
        """Writes what describes the dataset, when all episodes are in it."""
        arrow = library()
        meta = self._folder / "meta"
        (self._folder / _EPISODES).parent.mkdir(parents=True)
        place = {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        entries = [entry | {"tasks": [task]} | place for entry in self.entries]
        arrow.parquet.write_table(arrow.Table.from_pylist(entries), self._folder / _EPISODES)
        arrow.parquet.write_table(_tasks(arrow, task), meta / "tasks.parquet")
        _write_json(meta / "stats.json", self._statistics.result())
        video = any(one["dtype"] == "video" for one in self.features.values())
        info = {
            "codebase_version": names.VERSIONS[-1],
            "robot_type": None,
            "total_episodes": len(self.entries),
            "total_frames": self.frames,
            "total_tasks": 1,
            "chunks_size": FILES_OF_A_CHUNK,
            "fps": self._fps,
            "splits": {"train": f"0:{len(self.entries)}"},
            "data_path": _DATA,
            "video_path": _VIDEO if video else None,
            "features": self.features,
        }
        _write_json(meta / "info.json", info)


def _observations(episode: Episode) -> Iterator[str]:
    return (key for key in episode if key not in ROW_KEYS)


def _name(key: str, episode: Episode) -> str:
    """What LeRobot calls an observation; the only vector is its "state"."""
    alone = key == "vector" and "state" not in episode
    return f"{names.OBSERVATION}.{'state' if alone else key.replace('/', '.')}"


def _numbers(kind: str, size: int) -> dict[str, Any]:
    return {"dtype": kind, "shape": [size], "names": None}


def acted(taken: np.ndarray, spec: ActionSpec) -> np.ndarray:
    """Returns flat vectors ``[T, A]`` in the units of the environment, side by side ``[T, n]``.

    The inverse of ``common.replay.lerobot.read.by_part`` and what follows it: the numbers of every
    Box, and of every choice its number. float64, or int64 where all are choices.
    """
    columns = []
    for part, entries in spec.blocks:
        block = taken[:, entries]
        if part.kind == "categorical":
            columns.append(block.argmax(1)[:, None] + part.start)
        else:
            middle, half = middle_and_half(part)
            columns.append(middle + half * block.astype(np.float64))
    return np.concatenate(columns, 1)


def as_frames(episode: Episode, spec: ActionSpec) -> dict[str, np.ndarray]:
    """Returns what each frame of an episode did and what came of it; see the module's docstring."""
    last = len(episode["reward"]) - 1
    following = np.minimum(np.arange(last + 1) + 1, last)
    here = np.arange(last + 1) < last
    terminal = episode["is_terminal"][following] & here
    return {
        names.ACTION: acted(episode["action"][following], spec),
        names.REWARD: episode["reward"][following] * here,
        names.DONE: terminal,
        names.TRUNCATED: episode["is_last"][following] & here & ~terminal,
    }


def _rgb(value: np.ndarray) -> np.ndarray:
    """Pictures ``[T, H, W, 1]`` with three channels; all else as it is."""
    return np.repeat(value, 3, -1) if value.ndim == 4 and value.shape[-1] == 1 else value


def _column(arrow: Any, value: np.ndarray, kind: str) -> Any:
    if kind == "image":
        pictures = [{"bytes": encode(one), "path": None} for one in _rgb(value)]
        struct = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
        return arrow.array(pictures, struct)
    flat = value.reshape(len(value), -1)
    items = arrow.array(flat.ravel().astype(kind))
    return (
        items if flat.shape[1] == 1 else arrow.FixedSizeListArray.from_arrays(items, flat.shape[1])
    )


def _tasks(arrow: Any, task: str) -> Any:
    """The table of tasks as pandas writes it, whose index are their words."""
    index = "task"

    def described(name: str, kind: str, stored: str) -> dict[str, Any]:
        return {
            "name": name, "field_name": name, "pandas_type": kind, "numpy_type": stored,
            "metadata": None,
        }  # fmt: skip

    pandas = {
        "index_columns": [index],
        "column_indexes": [],
        "columns": [
            described("task_index", "int64", "int64"),
            described(index, "unicode", "object"),
        ],
        "creator": {"library": "pyarrow", "version": arrow.__version__},
        "pandas_version": "2.0.0",
    }
    table = arrow.table({"task_index": arrow.array([0], arrow.int64()), index: [task]})
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


def _write_json(path: pathlib.Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=4) + "\n", encoding="utf-8")
