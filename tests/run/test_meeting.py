"""Threads that work together: nobody is left out, nobody waits for ever."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.run.meeting import Meeting

KINDS = ("first", "second")


def together(scripts, fail=()):
    """Has members make calls; returns what was done, and what each of them got."""
    done, got = [], {member: [] for member in range(len(scripts))}

    def work(kind):
        def one(arguments):
            done.append((kind, dict(arguments)))
            if len(done) - 1 in fail:
                raise RuntimeError(f"no {len(done) - 1}")
            return {member: (kind, argument * 10) for member, argument in arguments.items()}

        return one

    meeting = Meeting(range(len(scripts)), {kind: work(kind) for kind in KINDS})

    def member(number, script):
        for kind, argument, pause in script:
            time.sleep(pause)
            try:
                got[number].append(meeting.call(number, kind, argument))
            except RuntimeError as error:
                got[number].append(str(error))
        meeting.leave(number)

    threads = [threading.Thread(target=member, args=pair) for pair in enumerate(scripts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return done, got


calls = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 9), st.sampled_from([0.0, 0.001])), max_size=6
)


@settings(max_examples=40, deadline=None)
@given(st.lists(calls, min_size=1, max_size=4))
def test_every_call_is_answered_once_and_by_its_own_work(scripts):
    done, got = together(scripts)
    for member, script in enumerate(scripts):
        assert got[member] == [(kind, argument * 10) for kind, argument, _ in script]
        made = [(kind, args[member]) for kind, args in done if member in args]
        assert made == [(kind, argument) for kind, argument, _ in script]


def test_members_in_step_do_all_of_it_together():
    script = [("first", 1, 0), ("first", 2, 0.01), ("second", 3, 0)]
    done, _ = together([script] * 3)
    assert [(kind, len(args)) for kind, args in done] == [("first", 3), ("first", 3), ("second", 3)]


def test_the_first_kind_goes_first_and_order_is_by_number():
    done, _ = together([[("second", 1, 0)], [("first", 2, 0.02), ("second", 3, 0)]])
    assert done == [("first", {1: 2}), ("second", {0: 1, 1: 3})]


def test_what_the_work_raises_is_raised_by_those_whose_it_was():
    script = [("first", 1, 0), ("first", 2, 0)]
    done, got = together([script, script], fail={0})
    assert got == {0: ["no 0", ("first", 20)], 1: ["no 0", ("first", 20)]} and len(done) == 2


@pytest.mark.parametrize("pause", [0, 0.05])
def test_who_leaves_is_not_waited_for(pause):
    done, got = together([[("first", 1, pause)] * 3, []])
    assert len(done) == 3 and len(got[0]) == 3
