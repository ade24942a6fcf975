"""Waiting for environments that may never answer, and giving up when the run is told to stop.

One in a process of its own is waited for in slices. One in this process has the thread while
it steps: another thread names it when it takes long, and a signal's handler can leave it.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from common.errors import warn_once

SLICE = 0.2
"""Seconds between two looks at whether to stop."""
QUIET = 30.0
"""Seconds after which an environment that does not answer is named."""
GRACE = 3.0
"""Seconds that an environment in this process has for its step, once the run should stop."""

_stop: contextvars.ContextVar[Callable[[], bool]] = contextvars.ContextVar(
    "stop", default=lambda: False
)


class Stopped(BaseException):
    """Waiting for an environment was given up, because whoever waits is told to stop.

    No Exception: it may go through an environment's own code, which should not catch it.
    """


class Silent(Exception):
    """An environment did not answer in time."""


@contextlib.contextmanager
def stopped_by(stop: Callable[[], bool]) -> Iterator[None]:
    """Waiting inside raises Stopped once ``stop()`` is true; in this thread only."""
    token = _stop.set(stop)
    try:
        yield
    finally:
        _stop.reset(token)


@contextlib.contextmanager
def running(who: str) -> Iterator[None]:
    """Says that an environment has this thread; see ``leave``.

    Args:
        who: Its name, for the warning after ``QUIET`` seconds.
    """
    _watch()
    thread = threading.get_ident()
    _running[thread] = _Call(who, time.perf_counter())
    try:
        yield
    finally:
        del _running[thread]


class _Call(NamedTuple):
    who: str
    since: float


_running: dict[int, _Call] = {}
"""Environments that have a thread, by its number."""


@functools.cache
def _watch() -> None:
    """Names environments that have a thread for long, from now on."""

    def watch() -> None:
        while True:
            time.sleep(SLICE)
            for who, since in list(_running.values()):
                if time.perf_counter() - since >= QUIET:
                    warn_once(
                        f"{who} has not answered for {QUIET:g} s, and steps in this process, "
                        "where nothing can end it; with --env.workers process, env.timeout does"
                    )

    threading.Thread(target=watch, daemon=True).start()


def leave() -> None:
    """Raises Stopped inside an environment that keeps this thread for more than ``GRACE`` seconds.

    For the handler of a signal, which runs in the main thread.
    """
    thread = threading.get_ident()
    call = _running.get(thread)
    if call is None:
        return

    def overdue(*_: object) -> None:
        signal.signal(signal.SIGALRM, previous or signal.SIG_DFL)
        if _running.get(thread) is call:
            raise Stopped(f"stopped while {call.who} did not answer")

    previous = signal.signal(signal.SIGALRM, overdue)
    signal.setitimer(signal.ITIMER_REAL, GRACE)


class Pollable(Protocol):
    """Where an answer comes from, such as a pipe."""

    def poll(self, seconds: float) -> bool:
        """Waits so long at most; returns whether there is something to receive."""
        ...


def wait_for(pipe: Pollable, who: str, since: float, timeout: float) -> None:
    """Waits until there is something to receive, or until the other end is gone.

    Args:
        pipe: Where the answer comes from.
        who: Name of the one who answers, for the warning after ``QUIET`` seconds.
        since: When it was asked, by ``time.perf_counter``.
        timeout: Seconds that it has from then on; 0 for ever.

    Raises:
        Stopped: The ``stop`` of ``stopped_by`` became true.
        Silent: The time is over.
    """
    quiet = QUIET
    while not pipe.poll(SLICE):
        if _stop.get()():
            raise Stopped(f"stopped while {who} did not answer")
        seconds = time.perf_counter() - since
        if timeout and seconds >= timeout:
            raise Silent(f"no answer for {timeout:g} s, its env.timeout")
        if seconds >= quiet:
            after = f"after {timeout:g} s it starts anew" if timeout else "there is no env.timeout"
            warn_once(f"{who} has not answered for {quiet:g} s; {after}")
            quiet *= 2
