import multiprocessing
import signal
import threading
import time

import pytest

from common.envs import waiting
from common.envs.waiting import Silent, Stopped, leave, running, stopped_by, wait_for
from common.errors import warn_once


@pytest.fixture
def pipes():
    """Both ends of a pipe, of which nobody says anything."""
    ends = multiprocessing.Pipe()
    yield ends
    for end in ends:
        end.close()


def test_an_answer_ends_the_waiting_even_if_it_is_late(pipes):
    here, there = pipes
    there.send(1)
    wait_for(here, "it", time.perf_counter() - 1000, timeout=1)
    with stopped_by(lambda: True):
        wait_for(here, "it", time.perf_counter(), timeout=0)


def test_the_other_end_being_gone_is_an_answer(pipes):
    pipes[1].close()
    wait_for(pipes[0], "it", time.perf_counter(), timeout=0)


def test_silence_ends_after_the_time_that_it_has(pipes):
    with pytest.raises(Silent, match="no answer for 0.1 s, its env.timeout"):
        wait_for(pipes[0], "it", time.perf_counter(), timeout=0.1)
    with pytest.raises(Silent):
        wait_for(pipes[0], "it", time.perf_counter() - 1000, timeout=999)


def test_who_waits_is_asked_whether_to_stop_inside_the_context_only(pipes):
    with stopped_by(lambda: True):
        with stopped_by(lambda: False), pytest.raises(Silent):
            wait_for(pipes[0], "it", time.perf_counter(), timeout=0.01)
        with pytest.raises(Stopped, match="while it did not answer"):
            wait_for(pipes[0], "it", time.perf_counter(), timeout=0.01)
    with pytest.raises(Silent):
        wait_for(pipes[0], "it", time.perf_counter(), timeout=0.01)


def test_another_thread_is_not_stopped(pipes):
    found = []

    def wait():
        try:
            wait_for(pipes[0], "it", time.perf_counter(), timeout=0.01)
        except Exception as error:
            found.append(type(error))

    with stopped_by(lambda: True):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join()
    assert found == [Silent]


@pytest.mark.parametrize(
    "timeout, words", [(0.5, "after 0.5 s it starts anew"), (0, "no env.time")]
)
def test_who_is_silent_is_named(pipes, timeout, words, monkeypatch, capsys):
    warn_once.cache_clear()
    monkeypatch.setattr(waiting, "QUIET", 0.1)
    monkeypatch.setattr(waiting, "SLICE", 0.01)
    stops = iter([False] * 100 + [True])
    with pytest.raises(Silent if timeout else Stopped), stopped_by(lambda: next(stops)):
        wait_for(pipes[0], "environment 3", time.perf_counter(), timeout)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("warning: environment 3 has not answered for 0.1 s; ")
    assert words in lines[0] and len(lines) == len(set(lines))


def test_an_environment_in_this_process_is_left_after_a_grace(monkeypatch):
    monkeypatch.setattr(waiting, "GRACE", 0.2)
    before = signal.getsignal(signal.SIGALRM)
    with (
        pytest.raises(Stopped, match="while environment 0 did not answer"),
        running("environment 0"),
    ):
        leave()
        while True:
            time.sleep(0.01)
    assert signal.getsignal(signal.SIGALRM) is before


def test_one_that_answers_in_time_is_not_left(monkeypatch):
    monkeypatch.setattr(waiting, "GRACE", 0.05)
    leave()  # Nobody has the thread.
    before = signal.getsignal(signal.SIGALRM)
    with running("environment 0"):
        leave()
    with running("environment 0"):  # Another step.
        while signal.getsignal(signal.SIGALRM) is not before:
            time.sleep(0.01)


def test_one_that_keeps_the_thread_is_named(monkeypatch, capsys):
    warn_once.cache_clear()
    monkeypatch.setattr(waiting, "QUIET", 0.0)
    printed = ""
    with running("environment 2"):
        while "environment 2 has not answered" not in printed:
            time.sleep(0.01)
            printed += capsys.readouterr().err
    assert "--env.workers process" in printed
