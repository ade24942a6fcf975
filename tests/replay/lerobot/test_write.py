"""Episodes as LeRobot datasets: to the bit and back, and frame for frame."""

from __future__ import annotations

import json

import gymnasium
import numpy as np
import pytest

from common.errors import UserError
from common.export import specs_to_json
from common.replay.lerobot import write
from common.replay.lerobot.write import write_lerobot
from common.replay.logs.source import open_log
from common.spaces import action_spec
from tests.replay.test_episodes import assert_same

parquet = pytest.importorskip("pyarrow.parquet")
ARM = action_spec(gymnasium.spaces.Box(np.float32([-1, 0]), np.float32([1, 5])))


def episode(rows, number, ended, size=(32, 32)):
    """One with numbers and pictures of one shade each; cut, ended by a limit, or by its task."""
    rng, count = np.random.default_rng(number), np.arange(rows)
    first, last = count == 0, count == rows - 1
    shades = (40 * number + 20 * count).astype(np.uint8)
    return {
        "vector": rng.normal(size=(rows, 3)).astype(np.float32),
        "arm/joint": rng.normal(size=(rows, 1)).astype(np.float32),
        "image": np.broadcast_to(shades[:, None, None, None], (rows, *size, 3)).copy(),
        "action": (rng.uniform(-1, 1, (rows, 2)) * ~first[:, None]).astype(np.float32),
        "reward": (rng.normal(size=rows) * ~first).astype(np.float32),
        "is_first": first,
        "is_last": last & (ended > 0),
        "is_terminal": last & (ended > 1),
    }


def some(**changes):
    """A whole one, one that really ended, one that was cut."""
    return [episode(5, 0, 1, **changes), episode(7, 1, 2, **changes), episode(3, 2, 0, **changes)]


def put(folder, episodes, actions=ARM, video=False):
    """Writes a dataset and what an export puts beside it."""
    folder.mkdir()
    written = write_lerobot(folder, episodes, actions, fps=10, task="do it", video=video)
    (folder / "collection.json").write_text(json.dumps(specs_to_json({}, actions)))
    return written


def test_a_round_trip_keeps_numbers_pictures_and_ends(tmp_path, monkeypatch):
    """Also over several files; the bounds of actions come from beside the dataset."""
    monkeypatch.setattr(write, "FRAMES_OF_A_FILE", 10)
    written = some()
    assert put(tmp_path / "set", written) == (3, 15)
    assert len(list((tmp_path / "set").glob("data/chunk-000/*.parquet"))) == 2
    log = open_log(str(tmp_path / "set"), size=32)
    assert log.actions == ARM
    found = list(log.episodes)
    for one, back in zip(written, found, strict=True):
        one["state"] = one.pop("vector")
        np.testing.assert_allclose(back["action"], one["action"], atol=1e-6)
        back["action"] = one["action"]
    assert_same(written, found)


def test_videos_are_the_pictures_that_were_there(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "FRAMES_OF_A_FILE", 12)
    written = some(size=(32, 48))
    put(tmp_path / "set", written, video=True)
    assert len(list((tmp_path / "set").glob("videos/observation.image/chunk-000/*.mp4"))) == 2
    log = open_log(str(tmp_path / "set"), size=32)
    for one, back in zip(written, log.episodes, strict=True):
        assert back["image"].shape[1:] == (32, 32, 3)
        np.testing.assert_allclose(back["image"].mean((1, 2, 3)), one["image"][:, 0, 0, 0], atol=3)


def test_frames_hold_what_is_done_in_them(tmp_path):
    """Row by row: the action that is taken then, and what came of it."""
    written = some()
    put(tmp_path / "set", written)
    table = parquet.read_table(tmp_path / "set/data/chunk-000/file-000.parquet")
    rows = iter(table.to_pylist())
    index = 0
    for number, one in enumerate(written):
        last = len(one["reward"]) - 1
        for t in range(last + 1):
            row, then = next(rows), min(t + 1, last)
            wanted = one["action"][then] * [1, 2.5] + [0, 2.5]
            np.testing.assert_allclose(row["action"], wanted, rtol=1e-6)
            assert row["next.reward"] == (one["reward"][then] if t < last else 0)
            ends = t == last - 1
            assert row["next.done"] == (ends and number == 1)
            assert row["next.truncated"] == (ends and number == 0)
            np.testing.assert_array_equal(row["observation.state"], one["vector"][t])
            assert row["observation.arm.joint"] == one["arm/joint"][t, 0]
            counted = [row[k] for k in ("frame_index", "episode_index", "index", "task_index")]
            assert counted == [t, number, index, 0]
            assert row["timestamp"] == pytest.approx(t / 10)
            index += 1
    assert next(rows, None) is None
    meta = tmp_path / "set" / "meta"
    info, stats = (json.loads((meta / f"{name}.json").read_text()) for name in ("info", "stats"))
    assert (info["codebase_version"], info["total_frames"], info["fps"]) == ("v3.0", 15, 10)
    vectors = np.concatenate([one["vector"] for one in written])
    np.testing.assert_allclose(stats["observation.state"]["mean"], vectors.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats["observation.state"]["std"], vectors.std(0), rtol=1e-5)
    pictures = np.concatenate([one["image"] for one in written]) / 255
    np.testing.assert_allclose(np.ravel(stats["observation.image"]["std"]), pictures.std((0, 1, 2)))
    assert stats["observation.image"]["count"] == [15]


def test_choices_are_written_as_their_numbers(tmp_path):
    space = gymnasium.spaces.MultiDiscrete([2, 3])
    one = episode(4, 0, 1)
    one["action"] = np.float32([[0] * 5, [1, 0, 0, 0, 1], [0, 1, 1, 0, 0], [0, 1, 0, 1, 0]])
    put(tmp_path / "set", [one], action_spec(space))
    table = parquet.read_table(tmp_path / "set/data/chunk-000/file-000.parquet")
    assert table["action"].to_pylist() == [[0, 2], [1, 0], [1, 1], [1, 1]]
    (found,) = open_log(str(tmp_path / "set"), size=32).episodes
    np.testing.assert_array_equal(found["action"], one["action"])


def test_gray_pictures_get_three_channels(tmp_path):
    one = episode(3, 0, 1)
    one["image"] = one["image"][..., :1]
    put(tmp_path / "set", [one])
    (found,) = open_log(str(tmp_path / "set"), size=32).episodes
    np.testing.assert_array_equal(found["image"], np.repeat(one["image"], 3, -1))


@pytest.mark.parametrize(
    ("episodes", "video", "message"),
    [
        ([], True, "there are no episodes to write"),
        ([episode(3, 0, 1, (33, 32))], True, "33x32, videos need even sizes; choose --pictures"),
        ([episode(3, 0, 1), episode(3, 0, 1, (32, 34))], False, "the episodes differ: 'image'"),
        ([{**episode(3, 0, 1), "action": np.zeros((3, 1))}], False, "actions of 1 numbers, not 2"),
        ([{**episode(3, 0, 1), "image": np.zeros((3, 32, 32, 4), np.uint8)}], False, "4 channels"),
    ],
)
def test_mistakes(episodes, video, message, tmp_path):
    with pytest.raises(UserError, match=message):
        put(tmp_path / "set", episodes, video=video)
