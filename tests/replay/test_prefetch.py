"""The background thread: order, exceptions, end."""

from __future__ import annotations

import itertools
import threading
import time

import pytest

from common.replay import Prefetcher


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_batches_arrive_in_order_and_transferred(depth):
    with Prefetcher(itertools.count().__next__, lambda x: x * 10, depth) as batches:
        assert [next(batches) for _ in range(20)] == list(range(0, 200, 10))


def test_depth_zero_samples_only_when_asked():
    calls = []
    batches = Prefetcher(lambda: calls.append(1), lambda x: x, 0)
    assert not calls
    next(batches)
    assert len(calls) == 1


def test_prepares_ahead_but_not_without_limit():
    made = []

    def sample():
        made.append(len(made))
        return made[-1]

    with Prefetcher(sample, lambda x: x, 2) as batches:
        while len(made) < 3:
            time.sleep(0.01)
        time.sleep(0.2)  # Enough to go too far.
        assert len(made) == 3
        assert next(batches) == 0


@pytest.mark.parametrize("depth", [0, 2])
def test_exceptions_reach_the_consumer_after_the_good_batches(depth):
    source = iter([1, 2])

    def sample():
        try:
            return next(source)
        except StopIteration:
            raise ZeroDivisionError("no more") from None

    batches = Prefetcher(sample, lambda x: x, depth)
    assert [next(batches), next(batches)] == [1, 2]
    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="no more"):
            next(batches)
    batches.close()


def test_close_joins_also_when_nobody_takes():
    before = threading.active_count()
    batches = Prefetcher(itertools.count().__next__, lambda x: x, 1)
    assert threading.active_count() == before + 1
    batches.close()
    batches.close()
    assert threading.active_count() == before
    with pytest.raises(StopIteration):
        next(batches)


def test_close_from_another_thread_wakes_the_consumer():
    release = threading.Event()
    batches = Prefetcher(release.wait, lambda x: x, 1)
    threading.Timer(0.1, lambda: (batches._closed.set(), release.set())).start()
    with pytest.raises(StopIteration):
        while True:
            next(batches)
