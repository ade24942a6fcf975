"""RLDS and RL Unplugged: in both, which action led where."""

from __future__ import annotations

import shutil
import struct

import numpy as np
import pytest

from common.errors import UserError
from common.replay.logs.records import masked_crc
from common.replay.logs.source import open_log
from common.spaces import ActionPart, ActionSpec, ObservationSpec
from tests.replay.logs.made import STEPS, arm, game
from tests.replay.logs.test_records import RECORDED, example, field, varint

ARM = {"height": ObservationSpec((1,), "vector"), "joints": ObservationSpec((3,), "vector")}
TORQUES = ActionSpec((ActionPart((), "continuous", 2, (-2.0, -4.0), (2.0, 4.0), (2,)),))
GAME = {"image": ObservationSpec((32, 32, 3), "image")}
BUTTONS = ActionSpec((ActionPart((), "categorical", 3),))


def check_time(episodes, expected, ends):
    """Every transition of an environment is where a row says that it is."""
    assert len(episodes) == len(expected)
    for episode, (_, actions, rewards), end in zip(episodes, expected, ends, strict=True):
        steps = len(rewards)
        assert len(episode["reward"]) == steps + 1
        assert not episode["action"][0].any() and episode["reward"][0] == 0
        for t in range(steps):  # At o[t], a[t] leads to o[t + 1] and pays r[t].
            np.testing.assert_allclose(episode["action"][t + 1], actions[t], rtol=1e-6)
            assert episode["reward"][t + 1] == rewards[t]
        assert np.flatnonzero(episode["is_first"]).tolist() == [0]
        assert np.flatnonzero(episode["is_last"]).tolist() == [steps]
        assert np.flatnonzero(episode["is_terminal"]).tolist() == [steps] * end


@pytest.mark.parametrize("name", ["rlds_arm", "raw_arm"])
def test_both_layouts_are_the_same_episodes(name):
    log = open_log(str(RECORDED / name), ARM, TORQUES)
    episodes, expected = list(log.episodes), [arm(number) for number in range(len(STEPS))]
    scaled = [(o, a / np.float32([2, 4]), r) for o, a, r in expected]
    check_time(episodes, scaled, (False, True))
    for episode, (observations, _, _) in zip(episodes, expected, strict=True):
        np.testing.assert_array_equal(episode["joints"], observations["joints"])
        np.testing.assert_array_equal(episode["height"][:, 0], observations["height"])


def test_pictures_and_choices():
    episodes = list(open_log(str(RECORDED / "rlds_game"), GAME, BUTTONS).episodes)
    expected = [game(number) for number in range(len(STEPS))]
    one_hot = [(o, np.eye(3)[a], r) for o, a, r in expected]
    check_time(episodes, one_hot, (False, True))
    for episode, (pictures, _, _) in zip(episodes, expected, strict=True):
        np.testing.assert_array_equal(episode["image"], pictures)


def test_a_folder_is_searched_and_a_file_will_do(tmp_path):
    shutil.copytree(RECORDED / "raw_arm", tmp_path / "deep" / "1.0.0")
    assert len(list(open_log(str(tmp_path), ARM, TORQUES).episodes)) == 2
    (path, _) = sorted(tmp_path.rglob("*tfrecord*"))
    assert len(list(open_log(str(path), ARM, TORQUES).episodes)) == 1


def floats(*values):
    return field(2, field(1, np.float32(values).tobytes()))


def integers(*values):
    return field(3, field(1, b"".join(map(varint, values))))


STEP = {
    "steps/observation": floats(1, 2, 3), "steps/action": floats(0, 0, 9),
    "steps/reward": floats(1, 2, 9), "steps/is_first": integers(1, 0, 0),
    "steps/is_last": integers(0, 0, 1), "steps/is_terminal": integers(0, 0, 0),
}  # fmt: skip
STATE = {"vector": ObservationSpec((1,), "vector")}
PUSH = ActionSpec((ActionPart((), "continuous", 1, (-1.0,), (1.0,), (1,)),))


def write(path, features):
    """A file of one record."""
    data = example(**{key: value for key, value in features.items() if value is not None})
    head = struct.pack("<Q", len(data))
    sums = [struct.pack("<I", masked_crc(part)) for part in (head, data)]
    path.write_bytes(head + sums[0] + data + sums[1])
    return str(path)


def test_the_last_action_and_reward_mean_nothing(tmp_path):
    (found,) = open_log(write(tmp_path / "a.tfrecord", STEP), STATE, PUSH).episodes
    assert found["reward"].tolist() == [0, 1, 2] and not found["action"].any()
    cut = STEP | {"steps/is_last": integers(0, 0, 0)}
    (found,) = open_log(write(tmp_path / "a.tfrecord", cut), STATE, PUSH).episodes
    assert not found["is_last"].any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps/reward": None}, "there is no 'reward', but action, is_first"),
        ({"steps/is_last": None}, "there is no 'is_last'"),
        ({"steps/observation": None}, "there is no 'observation'"),
        ({"steps/action": floats(0, 0)}, "'action' has 2 values in 3 steps"),
        ({"steps/action": floats(0, 0, 0, 0, 0, 0)}, "expected 2 of 1 number"),
        ({"steps/action": floats(0, 3, 0)}, "action 1 is 3 in entry 0; its space reaches from -1"),
        (
            {"steps/observation": field(1, field(1, b"x") * 3)},
            "'observation' holds bytes that are no pictures",
        ),
        ({"steps/observation": floats(*range(6))}, r"'vector' has the shape \(2,\) in a row"),
        ({"steps/observation": floats(0, np.nan, 0)}, "'vector' is nan in row 1"),
        ({"steps/is_first": integers(0, 0, 0)}, "is_first marks other steps than the first"),
        ({"steps/is_last": integers(0, 1, 0)}, "is_last or is_terminal marks other steps than"),
        ({"steps/is_terminal": integers(0, 1, 0)}, "is_last or is_terminal marks other steps"),
    ],
)
def test_mistakes(changes, message, tmp_path):
    source = write(tmp_path / "a.tfrecord", STEP | changes)
    with pytest.raises(UserError, match=f"episode 0 of .*a.tfrecord .*{message}") as caught:
        list(open_log(source, STATE, PUSH).episodes)
    assert "\n" not in str(caught.value)


def test_other_layouts_and_other_files(tmp_path):
    source = write(tmp_path / "a.tfrecord", {"label": integers(1)})
    with pytest.raises(UserError, match="unknown layout; expected features steps.* found label"):
        list(open_log(source, STATE, PUSH).episodes)
    (tmp_path / "a.tfrecord").write_text("words")
    with pytest.raises(UserError, match="cannot read .*a.tfrecord: it ends within the record"):
        list(open_log(source, STATE, PUSH).episodes)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.txt").write_text("words")
    for name in ("b", "b/a.txt"):
        with pytest.raises(UserError, match="is a log of an unknown format; expected an .hdf5"):
            open_log(str(tmp_path / name), STATE, PUSH)
    with pytest.raises(UserError, match="there is no file or folder none; expected an .hdf5"):
        open_log("none", STATE, PUSH)
