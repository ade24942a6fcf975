"""Contents, windows and sampling distributions of the replay."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.replay import Replay, ReplayConfig
from tests.reference import replay as reference
from tests.replay.rows import SPECS, Streams, fill


def count_starts(replay, length, draws):
    starts = replay.sample(draws, length)["id"][:, 0].astype(int)
    keys, counts = np.unique(starts, axis=0, return_counts=True)
    return {tuple(map(int, key)): int(count) for key, count in zip(keys, counts, strict=True)}


def assert_distribution(counts, probabilities):
    """Pearson's statistic lies within five deviations of its mean under the hypothesis."""
    assert set(counts) <= set(probabilities)
    draws = sum(counts.values())
    statistic = sum(
        (counts.get(key, 0) - draws * p) ** 2 / (draws * p) for key, p in probabilities.items()
    )
    freedom = len(probabilities) - 1
    assert statistic < freedom + 5 * np.sqrt(2 * max(freedom, 1))


@pytest.mark.parametrize("length", [1, 5, 11])
def test_steps_are_uniform_over_window_starts(length):
    replay, streams = fill(num_envs=3, lengths=(7, 2, 20), steps=40)
    counts = count_starts(replay, length, 20_000)
    assert_distribution(counts, reference.steps(streams.flags, length))


@pytest.mark.parametrize("prioritize_ends", [False, True])
@pytest.mark.parametrize("lengths", [(12,), (3,), (5, 2, 19), (41,), (100,)])
def test_episodes_follow_the_rule_of_dreamer_v2(lengths, prioritize_ends):
    options = {"sampling": "episodes", "prioritize_ends": prioritize_ends}
    replay, streams = fill(num_envs=2, lengths=lengths, steps=41, **options)
    counts = count_starts(replay, 5, 20_000)
    expected = reference.episode_rule(streams.flags, 5, prioritize_ends, streams.ended)
    assert_distribution(counts, expected)


def test_an_episode_that_has_just_begun_is_hardly_drawn():
    """Of two ended episodes of 50 rows and one of 5, which holds a single window."""
    options = {"sampling": "episodes", "prioritize_ends": True}
    replay, _ = fill(lengths=(50,), steps=105, **options)
    share = count_starts(replay, 5, 20_000)[0, 100] / 20_000
    assert share == pytest.approx((5 / 50) / 2.1, abs=0.01)


def test_a_running_episode_has_no_end_yet():
    """Its newest window is drawn as often as its others, and more often once it is the end."""
    options = {"sampling": "episodes", "prioritize_ends": True}
    replay, streams = fill(lengths=(30,), steps=29, **options)
    share = count_starts(replay, 5, 20_000)[0, 24] / 20_000
    assert share == pytest.approx(1 / 25, abs=0.01)
    replay.add(streams.step())
    share = count_starts(replay, 5, 20_000)[0, 25] / 20_000
    assert share == pytest.approx(6 / 31, abs=0.02)


def test_last_window_of_an_episode_has_the_published_share():
    replay, _ = fill(lengths=(30,), steps=30, sampling="episodes", prioritize_ends=True)
    share = count_starts(replay, 5, 20_000)[0, 25] / 20_000
    assert share == pytest.approx((5 + 1) / (30 + 1), abs=0.01)


@settings(max_examples=25, deadline=None)
@given(
    num_envs=st.integers(1, 4),
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=5),
    steps=st.integers(10, 300),
    capacity=st.integers(80, 600),
    length=st.integers(2, 8),
    sampling=st.sampled_from(["steps", "episodes"]),
)
def test_windows_are_consecutive_rows_of_one_stream(
    num_envs, lengths, steps, capacity, length, sampling
):
    replay, streams = fill(
        num_envs, lengths, steps, capacity=capacity, length=length, sampling=sampling
    )
    added = num_envs * steps
    assert len(replay) == added if added <= capacity * 3 // 4 else len(replay) <= capacity
    # Dropped beyond the limit: at most a chunk of each environment, and what fills no chunk.
    chunk = capacity // (8 * num_envs)
    assert len(replay) >= min(added, capacity) - num_envs * chunk - capacity % chunk
    batch = replay.sample(32, length)
    stream, time = batch["id"][..., 0].astype(int), batch["id"][..., 1].astype(int)
    assert (stream == stream[:, :1]).all()
    assert (time == time[:, :1] + np.arange(length)).all()
    assert (batch["image"] == (time % 256)[..., None, None, None]).all()
    first = np.vectorize(lambda n, t: streams.flags[n][t])(stream, time)
    first[:, 0] = True
    np.testing.assert_array_equal(batch["is_first"], first)


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=5),
    steps=st.integers(150, 400),
    sampling=st.sampled_from(["steps", "episodes"]),
)
def test_distribution_after_rows_were_dropped(lengths, steps, sampling):
    replay, streams = fill(2, lengths, steps, capacity=160, sampling=sampling)
    offsets = oldest_rows(replay)
    kept = [flags[offsets[n] :] for n, flags in enumerate(streams.flags)]
    assert replay.episodes == sum(len(reference.episodes(flags)) for flags in kept)
    if sampling == "steps":
        expected = reference.steps(kept, 5)
    else:
        expected = reference.episode_rule(kept, 5, False, streams.ended)
    shifted = {(n, row + offsets[n]): p for (n, row), p in expected.items()}
    assert_distribution(count_starts(replay, 5, 5000), shifted)


def oldest_rows(replay):
    """Returns the number of the oldest row of each stream."""
    oldest = {}
    for n, time in replay.sample(20_000, 1)["id"][:, 0].astype(int):
        oldest[n] = min(oldest.get(n, time), time)
    return oldest


def test_sampling_changes_nothing_that_is_stored():
    replay, _ = fill(lengths=(60,))
    for _ in range(10):
        batch = replay.sample(16, 5)
        batch["image"][:] = 0
    batch = replay.sample(64, 5)
    assert not batch["is_first"][:, 1:].any()
    assert (batch["image"][..., 0, 0, 0] == batch["id"][..., 1]).all()


def test_images_stay_bytes_and_numbers_are_cast():
    replay = Replay(ReplayConfig(capacity=1000, length=5), None, SPECS, 1, 0)
    rows = Streams(1, (9,)).step()
    rows["reward"] = np.float64([0.5])
    replay.add(rows)
    batch = replay.sample(1, 1)
    assert {key: value.dtype for key, value in batch.items()} == {
        key: np.dtype(dtype) for key, (_, dtype) in SPECS.items()
    }
    assert batch["reward"] == 0.5


@pytest.mark.parametrize(
    "change",
    [
        {"reward": np.zeros(2, np.float32)},
        {"image": np.zeros((1, 4, 4, 3), np.float32)},
        {"id": np.zeros((1, 3), np.float32)},
        {"other": np.zeros(1)},
    ],
)
def test_rows_of_another_kind_are_refused(change):
    replay, streams = fill()
    with pytest.raises(ValueError, match=next(iter(change))):
        replay.add({**streams.step(), **change})


def test_nothing_to_sample_yet():
    replay, _ = fill(num_envs=3, steps=4)
    assert len(replay) == 12 and not replay.can_sample(5) and replay.can_sample(4)
    with pytest.raises(ValueError, match="no stream"):
        replay.sample(1, 5)


def test_memory_limits_rows():
    row = 48 + 8 + 4 + 4 + 3
    replay, _ = fill(num_envs=2, steps=400, memory=300 * row / 1e9)
    assert len(replay) <= 300
    assert f"{row} bytes a row, 300 rows fit (limited by replay.memory)" in replay.memory_estimate()


def test_estimate_warns_of_more_than_the_machine_has():
    replay = Replay(ReplayConfig(capacity=10**12, memory=10**6), None, SPECS, 1, 0)
    assert "lower replay.memory" in replay.memory_estimate()
    assert "\n" not in replay.memory_estimate()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampling": "step"}, "did you mean 'steps'"),
        ({"capacity": 10}, "raise replay.capacity"),
        ({"memory": 1e-9}, "replay.memory"),
    ],
)
def test_options_that_cannot_work(options, message):
    with pytest.raises(UserError, match=message):
        Replay(ReplayConfig(**options), None, SPECS, 1, 0)


def test_same_seed_same_batches_and_state_continues():
    left, _ = fill(num_envs=2)
    right, _ = fill(num_envs=2)
    state = left.state()
    first = left.sample(8, 5)
    np.testing.assert_array_equal(first["id"], right.sample(8, 5)["id"])
    left.load_state(state)
    np.testing.assert_array_equal(first["id"], left.sample(8, 5)["id"])


def test_adding_and_sampling_from_two_threads():
    replay, streams = fill(num_envs=2, lengths=(9,), steps=20, capacity=400)
    failures = []
    stop = threading.Event()

    def read():
        while not stop.is_set():
            batch = replay.sample(16, 5)
            time = batch["id"][..., 1].astype(int)
            if (np.diff(time) != 1).any() or (batch["image"][..., 0, 0, 0] != time % 256).any():
                failures.append(time)

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(3000):
        replay.add(streams.step())
    stop.set()
    thread.join()
    assert not failures
