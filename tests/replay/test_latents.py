"""Latent states beside the rows, newly collected windows first, and how much memory it takes."""

from __future__ import annotations

import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.replay import Replay, ReplayConfig
from common.replay.chunks import list_chunks, read_chunk, write_chunk
from common.replay.episodes import read_episodes
from common.rows import without_latents
from tests.replay.rows import SPECS, Streams, fill

DETER, STOCH = "latent_state/deter", "latent_state/stoch"
LATENT_SPECS = SPECS | {DETER: ((3,), np.uint16), STOCH: ((2,), np.uint8)}


def _open(directory=None, num_envs=2, **options):
    options = {"capacity": 10_000, "length": 5, "latents": True, **options}
    return Replay(ReplayConfig(**options), directory, LATENT_SPECS, num_envs, seed=0)


def _latents(ids):
    """What a test keeps of rows ``[..., 2]`` that name their stream and time."""
    stream, time = (np.asarray(ids)[..., i] for i in (0, 1))
    deter = np.stack([stream, time, stream + time + 1], -1).astype(np.uint16)
    return {DETER: deter, STOCH: np.stack([time % 251, stream], -1).astype(np.uint8)}


def _fill(replay, steps, streams=None, annotate=True):
    streams = streams or Streams(replay._num_envs, (7,))
    for _ in range(steps):
        rows = streams.step()
        replay.add(rows)
        if annotate:
            replay.annotate(_latents(rows["id"]))
    return streams


def _before(batch):
    """Stream and time of the row before each window."""
    return batch["id"][:, 0] - np.array([0, 1])


def test_a_window_begins_with_what_was_kept_of_the_row_before():
    replay = _open()
    _fill(replay, 60)
    batch = replay.sample(200, 5)
    assert (_before(batch)[:, 1] >= 0).all()
    for key, value in _latents(_before(batch)).items():
        np.testing.assert_array_equal(batch[key], value)
    # A window in mid-episode goes on, so nothing says that it begins there.
    np.testing.assert_array_equal(batch["is_first"], batch["id"][..., 1] % 7 == 0)


def test_rows_of_which_nothing_is_known_are_zero():
    replay = _open()
    _fill(replay, 20, annotate=False)
    batch = replay.sample(20, 5)
    assert not batch[DETER].any() and not batch[STOCH].any()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 9), st.integers(20, 200))
def test_what_is_written_back_is_read_again(seed, length, capacity):
    """Whatever chunks the windows lie in, also where some were dropped in the meantime."""
    replay = _open(capacity=max(capacity, 60 + 4 * length), length=length)
    streams = _fill(replay, 60, annotate=False)
    rng, known = np.random.default_rng(seed), {}
    for _ in range(4):
        windows = replay.draw(8, length)
        batch = replay.gather(windows)
        ids = [tuple(before.astype(int)) for before in _before(batch)]
        for before, deter in zip(ids, batch[DETER], strict=True):
            np.testing.assert_array_equal(deter, known.get(before, np.zeros(3)))
        _fill(replay, 3, streams, annotate=False)
        fresh = rng.integers(1, 2**16, (8, length, 3)).astype(np.uint16)
        replay.write_back(windows, {DETER: fresh})
        for window, values in zip(batch["id"].astype(int), fresh, strict=True):
            known |= {tuple(row): value for row, value in zip(window, values, strict=True)}


def test_what_was_drawn_keeps_what_was_known_then():
    """So that no background thread's speed decides what is learned from."""
    replay = _open()
    _fill(replay, 60)
    windows = replay.draw(8, 5)
    for _ in range(20):
        replay.write_back(replay.draw(8, 5), {DETER: np.full((8, 5, 3), 9, np.uint16)})
    batch = replay.gather(windows)
    np.testing.assert_array_equal(batch[DETER], _latents(_before(batch))[DETER])


def test_windows_to_look_at_begin_anew():
    replay = _open()
    _fill(replay, 60)
    state = replay.state()
    batch = replay.sample(8, 5, np.random.default_rng(0))
    assert DETER not in batch and batch["is_first"][:, 0].all()
    assert replay.state() == state


def test_files_hold_them_and_other_readers_pass_them_over(tmp_path):
    replay = _open(tmp_path, num_envs=1)
    _fill(replay, 60)
    replay.flush()
    assert {*LATENT_SPECS} == {*read_chunk(list_chunks(tmp_path)[0].path)}
    assert all({*episode} == {*SPECS} for episode in read_episodes(tmp_path))
    again = _open(tmp_path, num_envs=1)
    batch = again.sample(50, 5)
    np.testing.assert_array_equal(batch[DETER], _latents(_before(batch))[DETER])
    plain = Replay(ReplayConfig(capacity=10_000, length=5), tmp_path, SPECS, 1, seed=0)
    assert len(plain) == 60 and {*plain.sample(5, 5)} == {*SPECS}


def _learned(directory, steps, **options):
    """A replay whose latent states were all written back, to chunks that were on disk too."""
    replay = _open(directory, capacity=400, **options)
    streams, rng = _fill(replay, steps), np.random.default_rng(0)
    for _ in range(60):
        windows = replay.draw(8, 5)
        replay.write_back(windows, {DETER: rng.integers(1, 2**16, (8, 5, 3)).astype(np.uint16)})
    return replay, streams


def _assert_same(left, right):
    """Compares everything that two replays hold, and what they draw next."""
    right.load_state(left.state())
    for one, other in zip(left._live, right._live, strict=True):
        for mine, theirs in zip(one.chunks, other.chunks, strict=True):
            for key, value in mine.rows.items():
                np.testing.assert_array_equal(value, theirs.rows[key])
    a, b = left.sample(64, 5), right.sample(64, 5)
    assert all((a[key] == b[key]).all() for key in a)


@pytest.mark.parametrize("steps", [20, 160, 700])
def test_a_stopped_run_goes_on_with_what_was_written_back(tmp_path, steps):
    """To the bit, also of chunks that were full before, and of those that were dropped."""
    replay, streams = _learned(tmp_path, steps)
    replay.flush()
    again = _open(tmp_path, capacity=400)
    _assert_same(replay, again)
    replay._directory = None  # From here on only one of the two owns the files.
    for _ in range(2):
        for _ in range(40):
            rows = streams.step()
            for one in (replay, again):
                one.add(rows)
                one.annotate(_latents(rows["id"]))
        again.flush()
        _assert_same(replay, _open(tmp_path, capacity=400))
    names = {path.stem for path in tmp_path.glob("*.npz")}
    assert {path.stem for path in tmp_path.glob("*.latents")} <= names


def test_only_chunks_that_changed_are_written_again(tmp_path):
    replay, _ = _learned(tmp_path, 160)
    replay.flush()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    windows = replay.draw(1, 5)
    replay.write_back(windows, {DETER: np.ones((1, 5, 3), np.uint16)})
    replay.flush()
    changed = [path for path in tmp_path.iterdir() if before.get(path) != path.stat().st_mtime_ns]
    assert 1 <= len(changed) <= 2 and {path.suffix for path in changed} == {".latents"}
    replay.flush()
    assert changed == [x for x in tmp_path.iterdir() if before.get(x) != x.stat().st_mtime_ns]


def test_a_run_killed_between_two_checkpoints_reads_what_fits(tmp_path):
    """Rows that come in the place of lost ones have nothing of theirs."""
    replay, streams = _learned(tmp_path, 60)
    replay.flush()
    state = replay.state()
    _fill(replay, 61, Streams(2, (9,)))
    for _ in range(20):
        replay.write_back(replay.draw(8, 5), {DETER: np.full((8, 5, 3), 9, np.uint16)})
    replay.flush()  # Here the kill falls.
    again = _open(tmp_path, capacity=400)
    again.load_state(state)
    _fill(again, 61, streams)
    again.flush()
    _assert_same(again, _open(tmp_path, capacity=400))


def test_a_damaged_file_beside_a_chunk_is_left_out(tmp_path):
    replay, _ = _learned(tmp_path, 160)
    replay.flush()
    for path in tmp_path.glob("*.latents"):
        path.write_bytes(b"no archive")
    with pytest.warns(UserWarning, match=r"\.latents is damaged .* are those of when it was wr"):
        again = _open(tmp_path, capacity=400)
    assert len(again) == len(replay)


def test_a_replay_without_them_is_refused_in_one_line(tmp_path):
    replay, _ = fill(steps=30, directory=tmp_path)
    replay.flush()
    with pytest.raises(UserError, match="written without latent states; set replay.latents false"):
        _open(tmp_path, num_envs=1)


def test_a_replay_of_other_latents_is_refused(tmp_path):
    replay = _open(tmp_path, num_envs=1)
    _fill(replay, 30)
    replay.flush()
    path = list_chunks(tmp_path)[0].path
    arrays = read_chunk(path)
    write_chunk(path, arrays | {DETER: arrays[DETER][:, :2]})
    with pytest.raises(UserError, match=re.escape("'latent_state/deter' as uint16 (2,)")):
        _open(tmp_path, num_envs=1)


def test_one_way_to_begin():
    with pytest.raises(UserError, match=r"latents true needs \S*burn_in 0"):
        ReplayConfig(latents=True, burn_in=2)


class TestOnline:
    """Newly collected windows before any other."""

    @pytest.mark.parametrize("latents", [False, True])
    def test_every_window_is_served_once_in_order(self, latents):
        """Beside a queue that really holds them, as DreamerV3's."""
        specs = LATENT_SPECS if latents else SPECS
        config = ReplayConfig(capacity=10_000, length=4, latents=latents, online=True)
        replay, streams = Replay(config, None, specs, 2, seed=0), Streams(2, (7,))
        stride, queue, rng = 4 + latents, [], np.random.default_rng(0)
        for rows in range(1, 120):
            replay.add(streams.step())
            if rows % stride == 0:
                queue += [(env, rows - 4) for env in range(2)]
            if rows >= 12 and rng.random() < 0.3:
                batch = replay.sample(2, 4)
                served = [tuple(first.astype(int)) for first in batch["id"][:, 0]]
                assert served[: len(queue)] == queue[:2]
                del queue[:2]
        assert not queue or len(queue) < 20

    def test_a_burn_in_lies_before_the_rows_that_are_learned_once(self):
        replay, _ = fill(steps=40, length=4, burn_in=2, online=True)
        first = [int(replay.sample(1, 6)["id"][0, 2, 1]) for _ in range(5)]
        assert first == [2, 6, 10, 14, 18]

    def test_dropped_windows_are_passed_over(self):
        replay, _ = fill(steps=400, length=5, online=True, capacity=60)
        batch = replay.sample(3, 5)
        oldest = 400 - len(replay)
        assert (batch["id"][:, 0, 1] >= oldest).all()
        assert batch["id"][0, 0, 1] == -(-oldest // 5) * 5

    def test_a_resumed_sampler_serves_what_is_left(self, tmp_path):
        replay, _ = fill(steps=60, directory=tmp_path, online=True)
        replay.sample(3, 5)
        windows = replay.draw(2, 5)
        replay.flush()
        config = ReplayConfig(capacity=10_000, length=5, online=True)
        for ahead in (windows, None):
            wanted = [15, 20] if ahead else [25, 30]
            again = Replay(config, tmp_path, SPECS, 1, seed=1)
            again.load_state(replay.state(ahead))
            assert again.sample(2, 5)["id"][:, 0, 1].tolist() == wanted

    def test_the_rest_of_a_batch_is_drawn(self):
        replay, _ = fill(steps=12, online=True)
        starts = replay.sample(500, 5)["id"][:, 0, 1].astype(int)
        assert starts[:2].tolist() == [0, 5] and set(starts) == set(range(8))


def test_learning_waits_for_as_many_windows_as_it_should():
    replay, streams = fill(steps=5, num_envs=2, minimum=10)
    for _ in range(4):
        assert not replay.can_sample(5)
        replay.add(streams.step())
    assert replay.can_sample(5)


def test_more_windows_than_fit_are_refused():
    with pytest.raises(UserError, match=r"the replay holds 100 rows .* need 205; raise"):
        fill(capacity=100, minimum=200)


@pytest.mark.parametrize("options", [{}, {"latents": True}])
def test_the_estimate_of_memory_is_within_five_percent(options):
    specs = LATENT_SPECS if options else SPECS
    config = ReplayConfig(capacity=200_000, memory=3e-3, length=5, **options)
    tracemalloc.start()
    replay, streams = Replay(config, None, specs, 4, seed=0), Streams(4, (50,))
    for _ in range(12_000):
        replay.add(streams.step())
    del streams
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    rows = int(re.search(r"([\d,]+) rows fit", replay.memory_estimate())[1].replace(",", ""))
    size = int(re.search(r"([\d,]+) bytes a row", replay.memory_estimate())[1].replace(",", ""))
    assert len(replay) > 0.8 * rows
    assert taken == pytest.approx(rows * size, rel=0.05)


def test_latents_are_what_the_environment_did_not_give():
    assert without_latents(LATENT_SPECS) == SPECS
