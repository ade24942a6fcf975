"""LeRobot datasets of every version as rows, against a slow loop over their frames."""

from __future__ import annotations

import json
import shutil

import gymnasium
import numpy as np
import pytest

from common.errors import UserError
from common.replay.logs.source import open_log
from common.spaces import ActionSpec, ObservationSpec, action_spec
from tests.replay.lerobot import made

pytest.importorskip("pyarrow")
pytestmark = pytest.mark.filterwarnings("ignore:.* (has no|stands twice)")
VERSIONS = ("v2.0", "v2.1", "v3.0")
STATE = {"state": ObservationSpec((3,), "vector")}
ARM = action_spec(gymnasium.spaces.Box(-2, 2, (2,)))


@pytest.fixture(scope="module", name="dataset")
def _dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lerobot")
    made.write_dataset(folder, "v3.0")
    return folder


def by_hand(one, scale=2.0):
    """Rows of an episode whose last action led nobody knows where, frame by frame."""
    rows = []
    for t in range(len(one["action"])):
        before = one["action"][t - 1] / scale, one["next.reward"][t - 1]
        action, reward = before if t else (np.zeros(2), 0.0)
        rows.append((one["observation.state"][t], action, reward, t == 0))
    return [np.array(part) for part in zip(*rows, strict=True)]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_is_read_as_a_slow_loop_reads_it(version, tmp_path):
    written = made.write_dataset(tmp_path, version)
    specs = STATE | {
        "images/top": ObservationSpec((48, 64, 3), "image"),
        "image": ObservationSpec((40, 32, 3), "image"),
    }
    log = open_log(str(tmp_path), specs, ARM)
    found = list(log.episodes)
    assert log.kind == "LeRobot" and log.amount == len(found) == 3
    for one, episode in zip(written, found, strict=True):
        state, action, reward, first = by_hand(one)
        np.testing.assert_array_equal(episode["state"], state)
        np.testing.assert_allclose(episode["action"], action, atol=1e-6)
        np.testing.assert_array_equal(episode["reward"], reward)
        np.testing.assert_array_equal(episode["is_first"], first)
        assert episode["is_last"].nonzero()[0].tolist() == [len(first) - 1]
        assert not episode["is_terminal"].any()
        np.testing.assert_array_equal(episode["image"], one[made.WRIST])
        away = episode["images/top"].astype(int) - one[made.CAMERA]
        assert np.abs(away).max() <= 3  # Frames are 20 apart.


def test_without_a_task_the_dataset_says_what_it_holds(tmp_path):
    written = made.write_dataset(tmp_path, "v3.0")
    log = open_log(str(tmp_path), size=32)
    assert log.observations == STATE | {
        "images/top": ObservationSpec((32, 32, 3), "image"),
        "image": ObservationSpec((32, 32, 3), "image"),
    }
    taken = np.concatenate([one["action"] for one in written])
    (part,) = log.actions.parts
    np.testing.assert_array_equal([part.low, part.high], [taken.min(0), taken.max(0)])
    episodes = list(log.episodes)
    actions = np.concatenate([one["action"][1:] for one in episodes])
    assert np.abs(actions).max() <= 1 and actions.min() < -0.9 < 0.9 < actions.max()
    for one, episode in zip(written, episodes, strict=True):
        shade = one[made.CAMERA][:, 0, 0, 0]
        np.testing.assert_allclose(episode["images/top"].mean((1, 2, 3)), shade, atol=3)


MARKS = [  # next.done, next.truncated, transitions, frame seen last, is_last, is_terminal
    ({}, None, 4, 4, True, False),
    ({4}, None, 5, 4, True, True),
    ({3}, None, 4, 4, True, True),
    ({2}, None, 3, 3, True, True),
    ({2, 3, 4}, None, 3, 3, True, True),
    ({}, {}, 4, 4, False, False),
    ({}, {3}, 4, 4, True, False),
    ({}, {4}, 4, 4, True, False),
    ({4}, {4}, 4, 4, True, False),
    ({3}, {}, 4, 4, True, True),
]


@pytest.mark.parametrize(("done", "cut", "steps", "last", "ended", "terminal"), MARKS)
def test_where_an_episode_ends(done, cut, steps, last, ended, terminal, tmp_path, monkeypatch):
    marks = {"next.done": np.isin(np.arange(5), list(done))}
    if cut is not None:
        monkeypatch.setitem(made.FEATURES, "next.truncated", ("bool", [1]))
        marks["next.truncated"] = np.isin(np.arange(5), list(cut))
    leave_out = (made.CAMERA, made.WRIST)
    (one,) = made.write_dataset(tmp_path, "v3.0", [made.frames(0, **marks)], leave_out)
    (found,) = open_log(str(tmp_path), STATE, ARM).episodes
    assert len(found["reward"]) == steps + 1
    np.testing.assert_array_equal(found["reward"][1:], one["next.reward"][:steps])
    np.testing.assert_array_equal(found["state"][-1], one["observation.state"][last])
    assert (found["is_last"][-1], found["is_terminal"][-1]) == (ended, terminal)
    assert not found["is_last"][:-1].any() and not found["is_terminal"][:-1].any()


def test_the_end_of_a_task_is_told(tmp_path):
    ends = made.frames(0, **{"next.done": np.arange(5) == 4})
    made.write_dataset(tmp_path, "v3.0", [ends], (made.CAMERA, made.WRIST, "next.reward"))
    with pytest.warns(UserWarning, match="has no next.reward: all rewards are 0"):
        with pytest.warns(UserWarning, match="the last frame of such an episode stands twice"):
            (found,) = open_log(str(tmp_path), STATE, ARM).episodes
    assert not found["reward"].any()


def test_names_decide_and_then_what_is_the_only_one_left(tmp_path):
    made.write_dataset(tmp_path, "v2.1", leave_out=(made.WRIST,))
    picture = ObservationSpec((32, 32, 1), "image")
    specs = {"vector": STATE["state"], "image": picture}
    first, *_ = open_log(str(tmp_path), specs, ARM).episodes
    assert first["vector"].shape == (5, 3) and first["image"].shape == (5, 32, 32, 1)
    np.testing.assert_allclose(first["image"].mean((1, 2, 3)), [0, 20, 40, 60, 80], atol=3)
    for wrong, message in [
        ({"a": STATE["state"], "b": STATE["state"]}, "has no 'a', which the task shows, but state"),
        ({"a": picture, "state": STATE["state"], "b": picture}, "but images/top; choose"),
        ({"image": ObservationSpec((32, 32, 12), "image")}, "'image' of the task has 12"),
    ]:
        with pytest.raises(UserError, match=message):
            open_log(str(tmp_path), wrong, ARM)


@pytest.mark.parametrize(
    ("space", "taken", "expected"),
    [
        (gymnasium.spaces.Discrete(3), [1, 0], [[0, 1, 0], [1, 0, 0]]),
        (gymnasium.spaces.Discrete(2, start=1), [1, 2], [[1, 0], [0, 1]]),
        (gymnasium.spaces.MultiDiscrete([2, 2]), [[0, 1], [1, 1]], [[1, 0, 0, 1], [0, 1, 0, 1]]),
        (
            gymnasium.spaces.Dict(
                a=gymnasium.spaces.Discrete(2), b=gymnasium.spaces.Box(0, 4, (1,))
            ),
            [[1, 4.0], [0, 1.0]],
            [[0, 1, 1], [1, 0, -0.5]],
        ),
    ],
)  # fmt: skip
def test_choices_become_one_hot(space, taken, expected, tmp_path, monkeypatch):
    taken = np.array(taken)
    size = [1] if taken.ndim == 1 else [taken.shape[1]]
    monkeypatch.setitem(made.FEATURES, "action", (str(taken.dtype), size))
    one = made.frames(2, action=np.concatenate([taken, taken]), episode_index=np.zeros(4, int))
    made.write_dataset(tmp_path, "v3.0", [one], (made.CAMERA, made.WRIST))
    (found,) = open_log(str(tmp_path), STATE, action_spec(space)).episodes
    np.testing.assert_array_equal(found["action"][1:3], expected)
    if isinstance(space, gymnasium.spaces.Discrete):  # Whole numbers are choices of their own.
        own = open_log(str(tmp_path))
        assert own.actions.parts[0].kind == "categorical" and own.actions.discrete
        assert next(own.episodes)["action"].shape == (4, 2)


def edit(folder, **changes):
    """Changes what the dataset says of itself."""
    path = folder / made.INFO
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def video(folder):
    """The only one."""
    (path,) = folder.glob("videos/*/*/*.mp4")
    return path


def black(folder, frames):
    """Makes the video shorter or longer."""
    made.write_video(video(folder), np.zeros((frames, 48, 64, 3), np.uint8))


def rewrite(folder, **changes):
    """Writes the first table of a v3.0 dataset anew, with other frames in its second episode."""
    episodes = [made.frames(0), made.frames(1, **changes)]
    made.write_table(folder / "data/chunk-000/file-000.parquet", episodes, made.FEATURES)


TABLE = "data/chunk-000/file-001.parquet"
MISTAKES = {
    "info": (lambda f: (f / made.INFO).unlink(), "has no meta/info.json; name the folder of a"),
    "json": (lambda f: (f / made.INFO).write_text("{"), "cannot read .*info.json"),
    "list": (lambda f: (f / made.INFO).write_text("[]"), "it holds no names and values"),
    "version": (lambda f: edit(f, codebase_version="v4.0"), "^(?!.*damaged).*'v4.0'; expected"),
    "fps": (lambda f: edit(f, fps=0), "is damaged: fps is 0"),
    "none": (lambda f: edit(f, features=None), "info.json, or the list .* is damaged"),
    "more": (lambda f: edit(f, total_episodes=4), "4 episodes, 3 are listed"),
    "away": (lambda f: edit(f, data_path="../x"), "'../x' leads out of the folder"),
    "root": (lambda f: edit(f, data_path="/etc/passwd"), "is damaged: .*/etc/passwd"),
    "episodes": (lambda f: (f / made.EPISODES).unlink(), r"has no meta/episodes/\*/\*.parquet"),
    "table": (lambda f: (f / TABLE).unlink(), f"has no {TABLE}, which its list"),
    "bytes": (lambda f: (f / TABLE).write_text("x"), "cannot read .*001"),
    "video": (lambda f: video(f).unlink(), "has no videos/observation.images.top"),
    "noise": (lambda f: video(f).write_text("x"), "cannot read .*mp4"),
    "short": (lambda f: black(f, 11), "ends after 11 frames; its episodes have at least 12"),
    "long": (lambda f: black(f, 20), "file-000.mp4 has more frames than its episodes, 16"),
    "nan": (
        lambda f: rewrite(f, **{"next.reward": np.full(7, np.nan, np.float32)}),
        "episode 1 of .* 'reward' is nan in row 1",
    ),
    "gap": (lambda f: rewrite(f, frame_index=np.arange(7) + 1), "frames are missing"),
    "fewer": (lambda f: rewrite(f, episode_index=np.zeros(7, int)), "12 frames of it, expected 5"),
    "beyond": (lambda f: rewrite(f, action=np.full((7, 2), 3.0)), "space reaches from -2 to 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_line(name, dataset, tmp_path):
    spoil, message = MISTAKES[name]
    folder = shutil.copytree(dataset, tmp_path / "copy")
    spoil(folder)
    specs = STATE | {"images/top": ObservationSpec((32, 32, 3), "image")}
    with pytest.raises(UserError, match=message) as raised:
        list(open_log(str(folder), specs, ARM).episodes)
    assert "\n" not in str(raised.value)


def test_an_action_of_another_size_is_refused(tmp_path):
    made.write_dataset(tmp_path, "v3.0", leave_out=(made.CAMERA, made.WRIST))
    three = action_spec(gymnasium.spaces.Box(-1, 1, (3,)))
    with pytest.raises(UserError, match="an action has 2 numbers, that of the task 3"):
        list(open_log(str(tmp_path), STATE, three).episodes)
    with pytest.raises(UserError, match="pictures of 8x8 are too small"):
        open_log(str(tmp_path), size=8)
    assert isinstance(open_log(str(tmp_path)).actions, ActionSpec)
