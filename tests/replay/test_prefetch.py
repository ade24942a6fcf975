"""Batches that are drawn ahead: order, reproducibility, exceptions, end."""

from __future__ import annotations

import itertools
import threading

import pytest

from common.replay import Prefetcher


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_batches_arrive_in_order_and_prepared(depth):
    batches = Prefetcher(itertools.count().__next__, lambda x: x * 10, depth)
    assert [next(batches) for _ in range(20)] == list(range(0, 200, 10))
    batches.close()


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_a_fixed_number_is_drawn_ahead_whatever_the_thread_does(depth):
    """By whoever asks, so that the same calls draw the same: no batch has to be ready for it."""
    drawn, threads, gate = [], set(), threading.Event()

    def draw():
        threads.add(threading.current_thread())
        drawn.append(len(drawn))
        return drawn[-1]

    def prepare(number):
        assert number == 0 or depth == 0 or gate.wait(60)
        return number

    batches = Prefetcher(draw, prepare, depth)
    assert not drawn and batches.ahead is None
    assert next(batches) == 0 and len(drawn) == 1 + depth
    assert batches.ahead == (1 if depth else None)
    gate.set()
    assert next(batches) == 1 and len(drawn) == 2 + depth
    assert threads == {threading.current_thread()}
    batches.close()


def test_preparing_is_done_in_another_thread():
    where = []
    batches = Prefetcher(lambda: 0, lambda _: where.append(threading.current_thread()), 1)
    next(batches)
    batches.close()
    assert threading.current_thread() not in where


@pytest.mark.parametrize("depth", [0, 2])
def test_exceptions_come_in_the_place_of_their_batch(depth):
    def prepare(number):
        if number == 2:
            raise ZeroDivisionError("no more")
        return number

    batches = Prefetcher(itertools.count().__next__, prepare, depth)
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(ZeroDivisionError, match="no more"):
        next(batches)
    batches.close()


def test_close_joins_also_when_nobody_takes():
    before = threading.active_count()
    batches = Prefetcher(itertools.count().__next__, lambda x: x, 1)
    next(batches)
    assert threading.active_count() == before + 1
    batches.close()
    batches.close()
    assert threading.active_count() == before
    with pytest.raises(StopIteration):
        next(batches)
