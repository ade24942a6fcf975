"""HDF5 files as D4RL has them, written by h5py: where episodes end, and what is not known there."""

from __future__ import annotations

import sys

import gymnasium
import numpy as np
import pytest

from common.errors import UserError
from common.npz import SMALL
from common.replay.logs.source import open_log
from common.spaces import ActionPart, ActionSpec, ObservationSpec, action_spec, observation_specs

h5py = pytest.importorskip("h5py")

STATE = {"vector": ObservationSpec((3,), "vector")}
PUSH = ActionSpec((ActionPart((), "continuous", 2, (-1.0, -1.0), (1.0, 1.0), (2,)),))
ROWS = 12


def arrays(**changes):
    """Rows 0 to 4 were cut, 5 to 8 ended, 9 to 11 are of an episode that goes on."""
    rng = np.random.default_rng(0)
    found = {
        "observations": rng.normal(size=(ROWS, 3)).astype(np.float32),
        "next_observations": rng.normal(size=(ROWS, 3)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (ROWS, 2)).astype(np.float32),
        "rewards": rng.normal(size=ROWS).astype(np.float32),
        "terminals": np.arange(ROWS) == 8,
        "timeouts": np.arange(ROWS) == 4,
        "infos/qpos": np.zeros((ROWS, 2)),
    } | changes
    return {key: value for key, value in found.items() if value is not None}


def write(path, found):
    """Writes what ``read`` reads."""
    with h5py.File(path, "w") as file:
        for key, value in found.items():
            file[key] = value
    return str(path)


def read(path, observations=STATE, actions=PUSH):
    """All episodes of a file."""
    return list(open_log(str(path), observations, actions).episodes)


@pytest.mark.parametrize("scalars", [False, True])
def test_with_what_followed(scalars, tmp_path):
    made = arrays()
    if scalars:  # As some files have them.
        made |= {key: made[key][:, None] for key in ("rewards", "terminals", "timeouts")}
    write(tmp_path / "a.hdf5", made)
    assert open_log(str(tmp_path / "a.hdf5"), STATE, PUSH).amount == 3
    for episode, (begin, end), (last, terminal) in zip(
        read(tmp_path / "a.hdf5"), [(0, 5), (5, 9), (9, 12)],
        [(True, False), (True, True), (False, False)], strict=True,
    ):  # fmt: skip
        assert set(episode) == {
            "vector", "action", "reward", "is_first", "is_last", "is_terminal",
        }  # fmt: skip
        for t, i in enumerate(range(begin, end)):
            np.testing.assert_array_equal(episode["vector"][t], made["observations"][i])
            np.testing.assert_allclose(episode["action"][t + 1], made["actions"][i], rtol=1e-6)
            assert episode["reward"][t + 1] == np.ravel(made["rewards"])[i]
        np.testing.assert_array_equal(episode["vector"][-1], made["next_observations"][end - 1])
        assert len(episode["reward"]) == end - begin + 1
        assert episode["is_last"].tolist() == [False] * (end - begin) + [last]
        assert episode["is_terminal"].tolist() == [False] * (end - begin) + [terminal]


def test_without_what_followed(tmp_path):
    made = arrays(next_observations=None)
    write(tmp_path / "a.h5", made)
    with pytest.warns(UserWarning, match="no next_observations: where the task ended, the last"):
        cut, ended, going = read(tmp_path / "a.h5")
    # What the last action led to is not known: five observations, four transitions.
    np.testing.assert_array_equal(cut["vector"], made["observations"][:5])
    assert cut["reward"].tolist() == [0, *made["rewards"][:4]] and cut["is_last"][-1]
    assert not cut["is_terminal"].any()
    # The end itself counts, and its reward.
    np.testing.assert_array_equal(ended["vector"], made["observations"][[5, 6, 7, 8, 8]])
    assert ended["reward"].tolist() == [0, *made["rewards"][5:9]] and ended["is_terminal"][-1]
    assert len(going["reward"]) == 3 and not going["is_last"].any()


def test_a_lone_action_without_a_result_is_left_out(tmp_path):
    ends = np.isin(np.arange(ROWS), [0, 6])
    write(tmp_path / "a.h5", arrays(next_observations=None, terminals=ends & False, timeouts=ends))
    assert [len(one["reward"]) for one in read(tmp_path / "a.h5")] == [6, 5]


def test_several_observations_have_names(tmp_path):
    made = arrays(observations=None, next_observations=None, timeouts=None)
    for group in ("observations", "next_observations"):
        made |= {f"{group}/arm/joint": np.ones((ROWS, 2)), f"{group}/speed": np.zeros(ROWS)}
    specs = {"arm/joint": ObservationSpec((2,), "vector"), "speed": ObservationSpec((1,), "vector")}
    ended, going = read(write(tmp_path / "a.hdf5", made), specs)
    assert ended["arm/joint"].shape == (10, 2) and going["speed"].shape == (4, 1)


def test_what_was_recorded_is_what_stepping_by_hand_gives(tmp_path):
    """An environment with bounds of -2 and 2, stepped as D4RL's recorders do."""
    env = gymnasium.make("Pendulum-v1", max_episode_steps=6)
    env.action_space.seed(1)
    rows = {key: [] for key in arrays() if "/" not in key}
    for seed in range(2):
        seen, _ = env.reset(seed=seed)
        cut = False
        while not cut:
            action = env.action_space.sample()
            following, reward, terminal, cut, _ = env.step(action)
            step = seen, following, action, reward, terminal, cut
            for key, value in zip(rows, step, strict=True):
                rows[key].append(value)
            seen = following
    path = write(tmp_path / "pendulum.hdf5", {k: np.array(v) for k, v in rows.items()})
    space = observation_specs(env.observation_space), action_spec(env.action_space)
    for seed, episode in enumerate(read(path, *space)):
        np.testing.assert_array_equal(episode["vector"][0], env.reset(seed=seed)[0])
        for row in range(1, 7):
            seen, reward, *_ = env.step(space[1].decode(episode["action"][row]))
            np.testing.assert_allclose(episode["vector"][row], seen, atol=1e-5)
            assert episode["reward"][row] == pytest.approx(reward, rel=1e-4)
        assert episode["is_last"].tolist() == [False] * 6 + [True]


ENDLESS = {"terminals": np.zeros(ROWS, bool)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actions": None}, "has no 'actions', but infos, next_observations"),
        ({"rewards": np.zeros(5)}, "'observations' has 12 rows, 'rewards' has 5"),
        ({"actions": np.array(["a"] * ROWS, "S")}, "'actions' holds .S1, expected numbers"),
        ({"actions": np.full((ROWS, 2), 3.0)}, "action 0 is 3 in entry 0; its space reaches from"),
        ({"actions": np.zeros((ROWS, 5))}, r"the actions have shape \(5, 5\); expected 5 of 2"),
        ({"observations": np.zeros((ROWS, 4))}, r"'observations' have the shape \(4,\) in a row, "
         r"'next_observations' \(3,\); expected the same"),
        ({"rewards": np.full(ROWS, np.nan)}, "'reward' is nan in row 1"),
        ({**ENDLESS, "timeouts": None}, "terminals mark no end of an episode; expected 'timeouts'"),
        ({**ENDLESS, "timeouts": np.zeros(ROWS)}, "terminals and timeouts mark no end"),
        ({"observations": None, "episode_0/x": [1.0]}, "a Minari dataset is named: minari:<name>"),
    ],
)  # fmt: skip
def test_mistakes(changes, message, tmp_path):
    path = write(tmp_path / "a.hdf5", arrays(**changes))
    with pytest.raises(UserError, match=message) as caught:
        read(path)
    assert "a.hdf5" in str(caught.value) and "\n" not in str(caught.value)


def test_an_observation_of_a_task_with_several_keeps_its_name(tmp_path):
    specs = {"a": ObservationSpec((1,), "vector"), "b": ObservationSpec((2,), "vector")}
    path = write(tmp_path / "a.hdf5", arrays())
    with pytest.raises(UserError, match="there is no 'a' .*what else is there: 'observation'"):
        read(path, specs)


def test_other_files(tmp_path, monkeypatch):
    (tmp_path / "a.hdf5").write_text("words")
    with pytest.raises(UserError, match="a.hdf5 is no HDF5 file, or damaged"):
        read(tmp_path / "a.hdf5")
    with h5py.File(tmp_path / "b.hdf5", "w") as file:
        for key, value in arrays().items():
            shape = (SMALL // 8, *value.shape[1:])
            file.create_dataset(key, shape, value.dtype, chunks=(1024, *value.shape[1:]))
    with pytest.raises(UserError, match="would become [0-9,]+ bytes; store it plainly"):
        read(tmp_path / "b.hdf5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match="run pip install h5py"):
        read(tmp_path / "a.hdf5")
