"""Clocks: when things are due, at which ratio, and how fast they went."""

from __future__ import annotations

import time

import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.logging import read_jsonl
from common.run import clocks
from common.run.clocks import Every, Meter, Ratio, Silence, announced
from common.run.train import train
from tests import fake_agent


def test_every_is_due_when_a_multiple_was_passed():
    every = Every(10)
    due = [every.due(counter) for counter in (0, 9, 10, 11, 19, 35, 36, 40)]
    assert due == [False, False, True, False, False, True, False, True]


def test_every_starts_anywhere_and_zero_is_never():
    every = Every(10, start=20)
    assert [every.due(counter) for counter in (20, 29, 30)] == [False, False, True]
    assert not any(Every(0).due(counter) for counter in range(5))


def drain(ratio: Ratio, steps: int) -> int:
    """Number of updates that are due at once."""
    amount = 0
    while ratio.due(steps):
        amount += 1
    return amount


@pytest.mark.parametrize(
    "train_every, expected",
    [(0.5, [4, 2, 2, 2, 2, 2, 2]), (1, [4, 1, 1, 1, 1, 1, 1]), (3, [4, 0, 0, 1, 0, 0, 1])],
)
def test_ratio_of_updates_to_steps(train_every, expected):
    ratio = Ratio(1 / train_every, first=4)
    assert [drain(ratio, steps) for steps in range(100, 107)] == expected


@settings(max_examples=30, deadline=None)
@given(
    train_every=st.floats(0.1, 50),
    jumps=st.lists(st.integers(0, 20), min_size=1, max_size=30),
    stop=st.integers(0, 29),
)
def test_ratio_does_not_drift_and_continues(train_every, jumps, stop):
    ratio = Ratio(1 / train_every)
    steps = total = 0
    drain(ratio, 0)
    for index, jump in enumerate(jumps):
        steps += jump
        if index == stop:  # Stopped in the middle of its updates, and continued.
            total += ratio.due(steps)
            state = ratio.state()
            ratio = Ratio(1 / train_every)
            ratio.load(state)
        total += drain(ratio, steps)
        assert total == int(steps / train_every + 1e-6)


def test_meter_averages_and_starts_anew():
    meter = Meter(frames=100, updates=10)
    meter.add({"a/loss": 1.0, "b/x": jnp.asarray(5.0)})
    meter.add({"a/loss": jnp.asarray(3.0)})
    time.sleep(0.01)
    values = meter.take(frames=300, updates=14)
    assert values["a/loss"] == 2 and values["b/x"] == 5
    assert values["time/updates"] == 14
    speed = values["time/frames_per_s"]
    assert 0 < speed < 200 / 0.01
    assert values["time/updates_per_s"] == pytest.approx(speed * 4 / 200)
    again = meter.take(frames=300, updates=14)
    assert again["time/frames_per_s"] == 0 and "a/loss" not in again


def test_silence(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    silence = Silence(10)
    answers = []
    for now[0] in (9, 10, 15, 20, 27):
        answers.append(silence.too_long())
    silence.broken()
    for now[0] in (36, 37):
        answers.append(silence.too_long())
    assert answers == [False, True, False, True, False, False, True]


def test_announced_says_so_before_and_after(capsys):
    with announced("compiling"):
        assert capsys.readouterr().out == "compiling ... "
    assert capsys.readouterr().out == "0.0 s\n"
    with pytest.raises(KeyError), announced("x"):
        raise KeyError
    assert capsys.readouterr().out.endswith("\n")


class TestStopwatch:
    """Seconds of parts; the clock is moved by hand."""

    @pytest.fixture
    def clock(self, monkeypatch):
        now = [0.0]
        monkeypatch.setattr(clocks.time, "perf_counter", lambda: now[0])
        return now

    def test_what_is_inside_counts_once(self, clock):
        watch = clocks.Stopwatch()
        clock[0] = 1
        with watch.part("environment"):
            clock[0] += 2
            with watch.part("acting"):
                clock[0] += 4
            clock[0] += 8
        clock[0] += 16
        taken = watch.take()
        names = {name.removeprefix(clocks.SECONDS): x for name, x in taken.items()}
        assert names == {"rest": 17, "environment": 10, "acting": 4}
        assert watch.take() == {clocks.SECONDS + "rest": 0}

    def test_the_first_time_counts_elsewhere(self, clock):
        watch = clocks.Stopwatch()
        for _ in range(3):
            with watch.part("update", first="compiling"):
                clock[0] += 1
        taken = watch.take()
        assert taken[clocks.SECONDS + "compiling"] == 1 and taken[clocks.SECONDS + "update"] == 2

    def test_it_goes_on_after_an_error(self, clock):
        watch = clocks.Stopwatch()
        with pytest.raises(KeyError), watch.part("update"):
            clock[0] += 1
            raise KeyError
        clock[0] += 3
        assert watch.take() == {clocks.SECONDS + "update": 1, clocks.SECONDS + "rest": 3}

    @given(st.recursive(st.just([]), lambda inner: st.lists(inner, max_size=3), max_leaves=12))
    def test_the_parts_make_the_whole(self, tree):
        now = [0.0]
        watch = clocks.Stopwatch()
        watch._mark = 0.0

        def walk(node, depth):
            now[0] += 1
            for child in node:
                with watch.part(f"depth {depth}"):
                    walk(child, depth + 1)
                now[0] += 1

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(clocks.time, "perf_counter", lambda: now[0])
            walk(tree, 0)
            assert sum(watch.take().values()) == now[0]


def test_a_run_counts_its_last_evaluation_too(tmp_path):
    program = fake_agent.load_program()
    train(program, program.default_config, tmp_path)
    *_, last = read_jsonl(tmp_path / "metrics.jsonl")
    assert "eval/return_mean" in last and last[clocks.SECONDS + "evaluation"] > 0
