"""Episodes of folders and of collections of several bodies."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import UserError
from common.replay import Replay, ReplayConfig, read_bodies, read_episodes, write_episodes
from tests.replay.rows import SPECS, Streams, fill


def episode(rows, size=3, seed=0, whole=True):
    """Rows of one body; ``size`` numbers each."""
    rng = np.random.default_rng(seed)
    arrays = {
        "state": rng.normal(size=(rows, size)).astype(np.float32),
        "action": rng.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "reward": rng.normal(size=rows).astype(np.float32),
        "is_first": np.arange(rows) == 0,
        "is_last": np.arange(rows) == rows - 1,
        "is_terminal": np.zeros(rows, bool),
    }
    for key in ("action", "reward"):
        arrays[key][0] = 0
    if not whole:
        arrays["is_last"][:] = False
    return arrays


def assert_same(left, right):
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert value.dtype == other[key].dtype
            np.testing.assert_array_equal(value, other[key])


def test_what_was_written_is_read_and_more_is_appended(tmp_path):
    first, second = [episode(5, seed=1), episode(9, seed=2)], [episode(4, seed=3)]
    write_episodes(tmp_path / "new", first)
    write_episodes(tmp_path / "new", iter(second))
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        f"000{n}.npz" for n in range(3)
    ]
    assert_same(read_episodes(str(tmp_path / "new")), [*first, *second])


def test_the_numbers_go_on_after_a_gap_and_past_four_digits(tmp_path):
    write_episodes(tmp_path, [episode(3)])
    (tmp_path / "0000.npz").rename(tmp_path / "9999.npz")
    write_episodes(tmp_path, [episode(3)])
    assert (tmp_path / "10000.npz").exists()


def test_an_episode_without_a_step_is_left_out(tmp_path):
    write_episodes(tmp_path, [episode(1), episode(2)])
    assert [len(one["reward"]) for one in read_episodes(tmp_path)] == [2]


def test_a_runs_replay_is_split_at_resets(tmp_path):
    replay, streams = fill(directory=tmp_path, num_envs=2, lengths=(7, 250, 1, 40), steps=400)
    replay.flush()
    found = read_episodes(tmp_path)
    lengths = []
    for flags in streams.flags:
        starts = np.flatnonzero(flags)
        lengths += np.diff([*starts, len(flags)]).tolist()
    assert sorted(len(one["reward"]) for one in found) == sorted(n for n in lengths if n > 1)
    assert all(one["is_first"].tolist() == [True] + [False] * (len(one["id"]) - 1) for one in found)


def test_a_runs_own_actions_beyond_their_bounds_are_data_as_the_environment_took_them(tmp_path):
    """A policy's normal goes beyond them; the run that wrote them goes on with what it drew."""
    config = ReplayConfig(capacity=10_000, length=5)
    replay, streams = Replay(config, tmp_path, SPECS, 1, seed=0), Streams(1, (7,))
    for number in range(21):
        rows = streams.step()
        replay.add({**rows, "action": np.where(rows["is_first"][:, None], 0, number / 5 - 2)})
    replay.flush()
    other = Replay(config, None, SPECS, 1, seed=0)
    other.read(tmp_path)
    found = [one["action"] for one in read_episodes(tmp_path)]
    for action in (other.sample(50, 5)["action"], np.concatenate(found)):
        assert action.min() == -1 and action.max() == 1 and action.dtype == np.float32
    again = Replay(config, tmp_path, SPECS, 1, seed=0)
    assert again.sample(50, 5)["action"].max() == 2


def test_a_cut_beginning_becomes_a_reset_row(tmp_path):
    tail = {key: value[2:] for key, value in episode(6).items()}
    assert tail["reward"][0] != 0 and not tail["is_first"].any()
    write_episodes(tmp_path, [tail])
    (found,) = read_episodes(tmp_path)
    assert found["is_first"].tolist() == [True, False, False, False]
    assert found["reward"][0] == 0 and not found["action"][0].any()
    np.testing.assert_array_equal(found["state"], tail["state"])
    np.testing.assert_array_equal(found["action"][1:], tail["action"][1:])


def test_a_collection_joins_the_policies_of_each_body(tmp_path):
    data = {("dmc_a_b", "random"): [episode(4), episode(5)], ("dmc_a_b", "10e3"): [episode(6)]}
    data["dmc_a_b@7", "random"] = [episode(3, size=5)]
    for (task, policy), episodes in data.items():
        write_episodes(tmp_path / task / policy, episodes)
        (tmp_path / task / policy / "collection.json").write_text("{}")
    (tmp_path / "agents" / "dmc_a_b").mkdir(parents=True)
    (tmp_path / "agents" / "dmc_a_b" / "config.yaml").write_text("")
    bodies = read_bodies(tmp_path)
    assert list(bodies) == ["dmc_a_b", "dmc_a_b@7"]
    assert_same(bodies["dmc_a_b"], [*data["dmc_a_b", "10e3"], *data["dmc_a_b", "random"]])
    assert_same(bodies["dmc_a_b@7"], data["dmc_a_b@7", "random"])


def test_mistakes(tmp_path):
    with pytest.raises(UserError, match="no episodes in"):
        read_episodes(tmp_path)
    with pytest.raises(UserError, match="no collection of episodes"):
        read_bodies(tmp_path)
    write_episodes(tmp_path / "a" / "x", [episode(3)])
    write_episodes(tmp_path / "a" / "y", [episode(3, size=4)])
    with pytest.raises(UserError, match=r"episodes of a differ: 'state' is \(3,\) .* \(4,\)"):
        read_bodies(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot make"):
        write_episodes(tmp_path / "file" / "x", [episode(3)])
