"""Files of the replay: resume, damage, other tools' folders."""

from __future__ import annotations

import json
import tempfile

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.replay import Replay, ReplayConfig, read_episodes, write_chunk
from tests.replay.rows import SPECS, Streams, fill

CONFIG = ReplayConfig(capacity=800, length=5)


def load(directory, config=CONFIG, num_envs=1):
    return Replay(config, directory, SPECS, num_envs, seed=1)


def assert_same(left, right):
    """Compares the numbers of rows and episodes, and what equal draws return."""
    assert (len(left), left.episodes) == (len(right), right.episodes)
    if not left.can_sample(5):
        return
    right.load_state(json.loads(json.dumps(left.state())))
    for _ in range(3):
        a, b = left.sample(32, 5), right.sample(32, 5)
        for key in SPECS:
            np.testing.assert_array_equal(a[key], b[key])


@pytest.mark.parametrize("sampling", ["steps", "episodes"])
@pytest.mark.parametrize("steps", [3, 100, 1000])
def test_resumed_run_equals_an_uninterrupted_one(tmp_path, sampling, steps):
    options = {"num_envs": 3, "lengths": (7, 30), "capacity": 800, "sampling": sampling}
    replay, streams = fill(directory=tmp_path, steps=steps, **options)
    replay.flush()
    config = ReplayConfig(capacity=800, length=5, sampling=sampling)
    resumed = load(tmp_path / ".." / tmp_path.name, config, 3)
    if replay.can_sample(5):
        assert_same(replay, resumed)
    # From here on only one of the two may own the files.
    replay._directory = None
    for _ in range(500):
        rows = streams.step()
        replay.add(rows)
        resumed.add(rows)
    assert_same(replay, resumed)
    resumed.flush()
    assert_same(resumed, load(tmp_path, config, 3))


def test_a_killed_run_keeps_its_full_chunks(tmp_path):
    fill(directory=tmp_path, steps=250, capacity=800)
    assert len(load(tmp_path)) == 200


def test_flush_twice_writes_once(tmp_path):
    replay, _ = fill(directory=tmp_path, steps=10)
    replay.flush()
    (file,) = tmp_path.iterdir()
    before = file.stat().st_mtime_ns
    replay.flush()
    assert file.stat().st_mtime_ns == before


def test_dropped_rows_leave_the_disk_too(tmp_path):
    replay, _ = fill(directory=tmp_path, num_envs=2, steps=1000, capacity=400)
    replay.flush()
    stored = sum(len(episode["reward"]) for episode in read_episodes(tmp_path))
    assert stored == len(replay) <= 400


def test_loading_takes_the_newest_and_deletes_nothing(tmp_path):
    fill(directory=tmp_path, steps=800, capacity=800)
    files = sorted(tmp_path.iterdir())
    replay = load(tmp_path, ReplayConfig(capacity=300, length=5))
    assert len(replay) == 300 and sorted(tmp_path.iterdir()) == files
    assert replay.sample(5000, 1)["id"][..., 1].min() == 500


def test_state_drops_what_was_added_after_it(tmp_path):
    replay, streams = fill(directory=tmp_path, num_envs=2, steps=120, capacity=1600)
    state = replay.state()
    before = replay.sample(32, 5)
    for _ in range(300):
        replay.add(streams.step())
    replay.flush()
    resumed = load(tmp_path, ReplayConfig(capacity=1600, length=5), 2)
    resumed.load_state(state)
    assert len(resumed) == 240
    np.testing.assert_array_equal(resumed.sample(32, 5)["id"], before["id"])
    resumed.flush()
    assert sum(len(np.load(path)["reward"]) for path in tmp_path.glob("*.npz")) == 240


@settings(max_examples=15, deadline=None)
@example(num_envs=1, first=10, sessions=[(5, 5)])  # As many rows again as were lost.
@given(
    num_envs=st.integers(1, 3),
    first=st.integers(1, 250),
    sessions=st.lists(st.tuples(st.integers(1, 150), st.integers(0, 150)), max_size=4),
)
def test_files_hold_what_the_run_held_however_often_it_is_killed(num_envs, first, sessions):
    """Every session ends after it flushed and before its checkpoint: its last rows are lost."""
    with tempfile.TemporaryDirectory() as folder:
        replay, streams = load(folder, num_envs=num_envs), Streams(num_envs, (7, 30))
        add(replay, streams, first)
        for kept, lost in sessions:
            replay.flush()
            state = replay.state()
            add(replay, Streams(num_envs, (9,), mark=True), lost)
            replay.flush()  # Here the kill falls.
            replay = load(folder, num_envs=num_envs)
            replay.load_state(state)
            add(replay, streams, kept)
        replay.flush()
        resumed = load(folder, num_envs=num_envs)
        resumed.load_state(replay.state())
        assert_same(replay, resumed)
        batch = resumed.sample(500, 1)
        assert not batch["is_terminal"].any()  # What was marked was lost.


def add(replay, streams, steps):
    """Adds some rows."""
    for _ in range(steps):
        replay.add(streams.step())


def test_clear_drops_all_rows_but_no_foreign_file(tmp_path):
    write_chunk(tmp_path / "mine.npz", episode(10))
    replay, streams = fill(directory=tmp_path, steps=250, capacity=800)
    replay.flush()
    replay = load(tmp_path)
    replay.clear()
    assert len(replay) == replay.episodes == 0 and not replay.can_sample(1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.npz"]
    for _ in range(10):
        replay.add(streams.step())
    assert len(replay) == 10 and replay.sample(100, 5)["id"][..., 1].min() == 250


@pytest.mark.parametrize("num_envs", [1, 4])
def test_another_number_of_environments_keeps_all_rows(tmp_path, num_envs):
    replay, _ = fill(directory=tmp_path, num_envs=2, steps=90)
    replay.flush()
    config = ReplayConfig(capacity=10_000, length=5)
    resumed = load(tmp_path, config, num_envs)
    streams = Streams(num_envs, (6,))
    for _ in range(20):
        resumed.add(streams.step())
    assert len(resumed) == 180 + 20 * num_envs
    resumed.flush()
    assert len(load(tmp_path, config, num_envs)) == len(resumed)


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "text"])
def test_a_damaged_file_costs_only_its_own_rows(tmp_path, damage):
    replay, _ = fill(directory=tmp_path, steps=350, capacity=800)
    replay.flush()
    victim = sorted(tmp_path.iterdir())[1]
    content = victim.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
    damaged = {"cut": content[:middle], "empty": b"", "flipped": flipped, "text": b"hello"}
    victim.write_bytes(damaged[damage])
    with pytest.warns(UserWarning, match=f"{victim.name} is damaged") as caught:
        replay = load(tmp_path)
    assert len(caught) == 1 and "\n" not in str(caught[0].message)
    assert len(replay) == 250
    time = replay.sample(2000, 5)["id"][..., 1]
    assert (np.diff(time) == 1).all()
    assert not ((time >= 100) & (time < 200)).any()
    assert time.max() == 349 and time.min() == 0


def test_new_rows_after_a_damaged_end_are_kept(tmp_path):
    replay, streams = fill(directory=tmp_path, steps=150, capacity=800)
    replay.flush()
    victim = sorted(tmp_path.iterdir())[-1]
    victim.write_bytes(b"")
    with pytest.warns(UserWarning, match="damaged"):
        replay = load(tmp_path)
    for _ in range(120):
        replay.add(streams.step())
    replay.flush()
    victim.unlink()
    assert len(load(tmp_path)) == len(replay) == 220


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ({"image": ((8, 8, 3), np.uint8)}, r"holds 'image' as uint8 \(4, 4, 3\)"),
        ({"id": ((2,), np.uint8)}, "holds 'id' as float32"),
        ({"velocity": ((2,), np.float32)}, "has no array 'velocity'"),
    ],
)
def test_files_of_another_task_are_refused(tmp_path, specs, message):
    replay, _ = fill(directory=tmp_path, steps=10)
    replay.flush()
    with pytest.raises(UserError, match=message):
        Replay(CONFIG, tmp_path, {**SPECS, **specs}, 1, 0)
    less = {key: value for key, value in SPECS.items() if key != "image"}
    with pytest.raises(UserError, match="unknown array 'image'"):
        Replay(CONFIG, tmp_path, less, 1, 0)


def test_a_file_larger_than_the_replay_is_refused(tmp_path):
    write_chunk(tmp_path / "all.npz", episode(2000))
    with pytest.raises(UserError, match="all.npz holds 2000 rows, 800 fit"):
        load(tmp_path)


def episode(length, stream=0):
    streams = Streams(1, (length,))
    steps = [streams.step() for _ in range(length)]
    return {key: np.concatenate([rows[key] for rows in steps]) for key in SPECS}


def test_folders_of_other_tools_are_read_and_left_alone(tmp_path):
    # Short episodes, as single files: windows go from one into the next.
    for number, length in enumerate([3, 1, 30, 4]):
        arrays = episode(length)
        arrays["is_first"][:] = False
        np.savez_compressed(tmp_path / f"{number}.npz", **arrays)
    replay = load(tmp_path, ReplayConfig(capacity=80, length=5))
    assert len(replay) == 38 and replay.episodes == 4
    batch = replay.sample(500, 5)
    start = (batch["id"][..., 1] == 0) | (np.arange(5) == 0)
    np.testing.assert_array_equal(batch["is_first"], start)
    streams = Streams(1, (9,))
    for _ in range(200):
        replay.add(streams.step())
    assert {f"{number}.npz" for number in range(4)} <= {path.name for path in tmp_path.iterdir()}
    assert replay.sample(500, 5)["id"][..., 0].max() == 0


def test_no_pickle_is_read(tmp_path):
    arrays = {**episode(3), "reward": np.array([None, {}, 1], dtype=object)}
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.warns(UserWarning, match="damaged"):
        assert len(load(tmp_path)) == 0


def test_leftovers_of_a_killed_write_are_removed(tmp_path):
    (tmp_path / ".00000000-env000-0000000000.npz.tmp").write_bytes(b"half")
    assert len(load(tmp_path)) == 0 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("key, row", [("action", 0), ("reward", 4), ("id", 9)])
def test_data_that_are_not_finite_are_refused(tmp_path, bad, key, row):
    arrays = episode(10)
    arrays[key].reshape(10, -1)[row, -1] = bad
    write_chunk(tmp_path / "a.npz", episode(10))
    write_chunk(tmp_path / "b.npz", arrays)
    replay = Replay(CONFIG, None, SPECS, 1, 0)
    with pytest.raises(UserError, match=rf"b\.npz .*'{key}' is {bad} in row {row}"):
        replay.read(tmp_path)
    assert len(replay) == 0


def test_a_folder_that_is_gone_is_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot write .*make the folder"):
        write_chunk(tmp_path / "missing" / "x.npz", episode(3))
