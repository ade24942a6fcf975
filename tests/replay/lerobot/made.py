"""LeRobot datasets made by their documented layout, with pyarrow and imageio alone."""

from __future__ import annotations

import io
import json

import imageio.v3 as imageio
import numpy as np

FPS = 10
LENGTHS = (5, 7, 4)
"""Frames of each episode."""
CAMERA, WRIST = "observation.images.top", "observation.image"
FEATURES = {
    "observation.state": ("float32", [3]),
    CAMERA: ("video", [48, 64, 3]),
    WRIST: ("image", [40, 32, 3]),
    "action": ("float32", [2]),
    "next.reward": ("float32", [1]),
    "next.done": ("bool", [1]),
    "note": ("string", [1]),
} | {key: ("int64", [1]) for key in ("frame_index", "episode_index", "index", "task_index")}
INFO, EPISODES = "meta/info.json", "meta/episodes/chunk-000/file-000.parquet"


def frames(number, **changes):
    """What an episode's frames hold, by feature; pictures have one shade each."""
    rng, amount = np.random.default_rng(number), LENGTHS[number]
    shades = 30 * number + 20 * np.arange(amount)
    return {
        "observation.state": rng.normal(size=(amount, 3)).astype(np.float32),
        CAMERA: np.repeat(shades.astype(np.uint8), 48 * 64 * 3).reshape(amount, 48, 64, 3),
        WRIST: rng.integers(0, 256, (amount, 40, 32, 3)).astype(np.uint8),
        "action": rng.uniform(-2, 2, (amount, 2)).astype(np.float32),
        "next.reward": rng.normal(size=amount).astype(np.float32),
        "next.done": np.zeros(amount, bool),
        "note": np.array(["go"] * amount),
        "frame_index": np.arange(amount),
        "episode_index": np.full(amount, number),
        "index": sum(LENGTHS[:number]) + np.arange(amount),
        "task_index": np.zeros(amount, np.int64),
    } | changes


def column(name, values):
    """A column of the table, as the format stores it."""
    import pyarrow

    if FEATURES.get(name, ("",))[0] == "image":
        buffers = [io.BytesIO() for _ in values]
        for buffer, one in zip(buffers, values, strict=True):
            imageio.imwrite(buffer, one, extension=".png")
        return pyarrow.array([{"bytes": buffer.getvalue(), "path": None} for buffer in buffers])
    return pyarrow.array(list(values) if values.ndim > 1 else values)


def write_table(path, episodes, features):
    """A Parquet file of the frames of some episodes."""
    import pyarrow
    import pyarrow.parquet

    names = [name for name, (kind, _) in features.items() if kind != "video"]
    joined = {name: np.concatenate([one[name] for one in episodes]) for name in names}
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.table({name: column(name, value) for name, value in joined.items()})
    pyarrow.parquet.write_table(table, path)


def write_video(path, pictures):
    """A small MP4 file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    imageio.imwrite(path, pictures, fps=FPS, codec="libx264", macro_block_size=1, quality=9)


def write_dataset(folder, version, episodes=None, leave_out=()):
    """A dataset of one of the versions; returns what its frames hold."""
    features = {name: value for name, value in FEATURES.items() if name not in leave_out}
    episodes = episodes or [frames(number) for number in range(len(LENGTHS))]
    info = {
        "codebase_version": version,
        "fps": FPS,
        "total_episodes": len(episodes),
        "chunks_size": 2,
        "features": {
            name: {"dtype": kind, "shape": shape, "names": None}
            for name, (kind, shape) in features.items()
        },
    }
    (_write_v2 if version.startswith("v2") else _write_v3)(folder, episodes, features, info)
    (folder / INFO).write_text(json.dumps(info))
    return episodes


def _write_v2(folder, episodes, features, info):
    """A file for each episode, two episodes in a chunk."""
    chunk = "chunk-{episode_chunk:03d}"
    info["data_path"] = f"data/{chunk}/" + "episode_{episode_index:06d}.parquet"
    info["video_path"] = f"videos/{chunk}/" + "{video_key}/episode_{episode_index:06d}.mp4"
    lines = []
    for number, one in enumerate(episodes):
        names = {"episode_chunk": number // 2, "episode_index": number}
        write_table(folder / info["data_path"].format(**names), [one], features)
        if CAMERA in features:
            path = info["video_path"].format(video_key=CAMERA, **names)
            write_video(folder / path, one[CAMERA])
        length = len(one["action"])
        lines.append(json.dumps({"episode_index": number, "tasks": ["go"], "length": length}))
    (folder / "meta").mkdir()
    (folder / "meta/episodes.jsonl").write_text("\n".join(lines) + "\n")


def _write_v3(folder, episodes, features, info):
    """The first two episodes in one table, all in one video."""
    import pyarrow
    import pyarrow.parquet

    file = "chunk-{chunk_index:03d}/file-{file_index:03d}"
    info["data_path"] = f"data/{file}.parquet"
    info["video_path"] = "videos/{video_key}/" + f"{file}.mp4"
    for index, some in enumerate((episodes[:2], episodes[2:])):
        if some:
            path = info["data_path"].format(chunk_index=0, file_index=index)
            write_table(folder / path, some, features)
    if CAMERA in features:
        path = info["video_path"].format(video_key=CAMERA, chunk_index=0, file_index=0)
        write_video(folder / path, np.concatenate([one[CAMERA] for one in episodes]))
    begin, rows = 0, []
    for number, one in enumerate(episodes):
        length = len(one["action"])
        row = {"episode_index": number, "tasks": ["go"], "length": length}
        row |= {"data/chunk_index": 0, "data/file_index": number // 2}
        if CAMERA in features:
            place = f"videos/{CAMERA}/"
            row |= {place + "chunk_index": 0, place + "file_index": 0}
            row |= {place + "from_timestamp": begin / FPS}
        rows.append(row)
        begin += length
    (folder / EPISODES).parent.mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / EPISODES)
