"""LeRobot's own package on what is written here, and this one's reader on what LeRobot writes.

It needs the package, which brings torch: python -m pip install 'lerobot[dataset]'.
"""

from __future__ import annotations

import numpy as np
import pytest

from common.replay.logs.source import open_log
from common.spaces import ActionSpec
from tests.replay.lerobot.test_write import ARM, put, some

datasets = pytest.importorskip("lerobot.datasets.lerobot_dataset")
FEATURES = {
    "observation.state": {"dtype": "float32", "shape": (3,), "names": None},
    "observation.images.top": {"dtype": "video", "shape": (64, 96, 3), "names": None},
    "observation.images.wrist": {"dtype": "image", "shape": (48, 64, 3), "names": None},
    "action": {"dtype": "float32", "shape": (2,), "names": None},
    "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
    "next.done": {"dtype": "bool", "shape": (1,), "names": None},
}
for _feature in FEATURES.values():
    if len(_feature["shape"]) == 3:
        _feature["names"] = ["height", "width", "channels"]


@pytest.mark.parametrize("video", [True, False])
def test_lerobot_reads_what_is_written_here(video, tmp_path):
    written = some(size=(32, 48))
    put(tmp_path / "set", written, video=video)
    found = datasets.LeRobotDataset("of/others", root=tmp_path / "set")
    assert len(found) == 15 and found.meta.total_episodes == 3 and found.fps == 10
    index = 0
    for one in written:
        last = len(one["reward"]) - 1
        for t in range(last + 1):
            frame, then = found[index], min(t + 1, last)
            wanted = one["action"][then] * [1, 2.5] + [0, 2.5]
            np.testing.assert_allclose(frame["action"], wanted, rtol=1e-6)
            np.testing.assert_array_equal(frame["observation.state"], one["vector"][t])
            assert frame["next.reward"] == (one["reward"][then] if t < last else 0)
            assert bool(frame["next.done"]) == (t == last - 1 and one["is_terminal"][-1])
            picture = 255 * np.asarray(frame["observation.image"]).transpose(1, 2, 0)
            assert np.abs(picture - one["image"][t]).max() <= (3 if video else 0.01)
            assert frame["task"] == "do it"
            index += 1


def test_what_lerobot_wrote_is_read(tmp_path):
    made = datasets.LeRobotDataset.create(
        "of/others", fps=10, features=FEATURES, root=tmp_path / "set", use_videos=True
    )
    rng = np.random.default_rng(0)
    written = []
    for number, amount in enumerate((5, 8, 6)):
        frames = []
        for t in range(amount):
            shade = np.uint8(40 * number + 15 * t)
            frames.append({
                "observation.state": rng.normal(size=3).astype(np.float32),
                "observation.images.top": np.full((64, 96, 3), shade, np.uint8),
                "observation.images.wrist": rng.integers(0, 256, (48, 64, 3)).astype(np.uint8),
                "action": rng.uniform(-1, 1, 2).astype(np.float32) * [1, 2.5] + [0, 2.5],
                "next.reward": np.float32([t + 10 * number]),
                "next.done": np.array([number == 1 and t == amount - 1]),
            })  # fmt: skip
            frames[-1]["action"] = frames[-1]["action"].astype(np.float32)
            made.add_frame(frames[-1] | {"task": "push it"})
        made.save_episode()
        written.append(frames)
    made.finalize()
    log = open_log(str(tmp_path / "set"), actions=ActionSpec(ARM.parts), size=48)
    with pytest.warns(UserWarning, match="stands twice"):
        found = list(log.episodes)
    for number, (frames, episode) in enumerate(zip(written, found, strict=True)):
        rows = len(frames) + (number == 1)  # Of the one that ended the last frame stands twice.
        assert len(episode["reward"]) == rows
        for row in range(rows):
            frame = frames[min(row, len(frames) - 1)]
            np.testing.assert_array_equal(episode["state"][row], frame["observation.state"])
            shade = frame["observation.images.top"][0, 0, 0]
            assert episode["images/top"][row].mean() == pytest.approx(int(shade), abs=4)
            wrist = frame["observation.images.wrist"].mean()
            assert episode["images/wrist"][row].mean() == pytest.approx(wrist, abs=1)
            if row:
                before = frames[row - 1]
                assert episode["reward"][row] == before["next.reward"][0]
                wanted = (before["action"] - [0, 2.5]) / [1, 2.5]
                np.testing.assert_allclose(episode["action"][row], wanted, atol=1e-5)
        assert episode["is_terminal"][-1] == (number == 1)
