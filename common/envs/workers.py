"""Where groups of environments step: in this process, or in spawned ones."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from common.envs.base import Crash
from common.envs.group import Build, Group, answer, unpack
from common.envs.waiting import Silent, wait_for
from common.errors import UserError

ENDING = 2.0
"""Seconds that a worker has to end, once it is asked to."""


class Worker(Protocol):
    """Runs the methods of a ``Group``, one at a time."""

    def send(self, command: str, *args: Any) -> None:
        """Begins a method; a worker that is gone shows in ``receive``."""
        ...

    def receive(self) -> Any:
        """Returns what the method returned.

        Raises:
            Crash: The worker is gone, or did not answer in time and was ended: all of its
                environments are lost.
            UserError: As the method.
            NoPicture: As the method.
        """
        ...

    def ask_to_end(self) -> None:
        """Begins what ``close`` waits for, so that many end at the same time."""
        ...

    def close(self) -> None:
        """Closes the environments and ends the worker, by force if need be. Raises nothing."""
        ...


class Place(NamedTuple):
    """Where environments step.

    Attributes:
        open: ``(build, indices) -> Worker``: starts a worker for the environments of some numbers.
        per_worker: Environments of one worker, at most.
        leave: Frees what the workers share, once all of them are closed.
    """

    open: Callable[[Build, Sequence[int]], Worker]
    per_worker: int
    leave: Callable[[], None] = lambda: None


def here() -> Place:
    """All environments step in this process."""
    return Place(lambda build, indices: LocalWorker(build), sys.maxsize)


def processes(per_worker: int, timeout: float) -> Place:
    """Environments step in spawned processes.

    Args:
        per_worker: Environments of one process.
        timeout: Seconds that a process has for every answer, after which it is ended; 0 for ever.
    """

    def start(build: Build, indices: Sequence[int]) -> Worker:
        return ProcessWorker(build, indices, timeout)

    return Place(start, per_worker)


def name(indices: Sequence[int]) -> str:
    """What messages call environments."""
    if len(indices) == 1:
        return f"environment {indices[0]}"
    return f"environments {indices[0]} to {indices[-1]}"


class LocalWorker:
    """This process; it works in ``receive``."""

    def __init__(self, build: Build):
        """Takes what builds an environment."""
        self.group = Group(build, watched=True)

    def send(self, command: str, *args: Any) -> None:
        """Keeps what is asked for ``receive``."""
        self._asked = command, args

    def receive(self) -> Any:
        """Does what is asked."""
        command, args = self._asked
        return getattr(self.group, command)(*args)

    def ask_to_end(self) -> None:
        """Does nothing: ``close`` does not wait."""

    def close(self) -> None:
        """Closes the environments."""
        self.group.close()


class ProcessWorker:
    """A spawned process.

    Spawned, not forked: a forked copy of JAX's threads or of an OpenGL context hangs.

    Args:
        build: Builds an environment; importable by name.
        indices: Numbers of its environments.
        timeout: Seconds that it has for every answer; 0 for ever.
    """

    def __init__(self, build: Build, indices: Sequence[int], timeout: float):
        self._name, self._timeout = name(indices), timeout
        self._asked = time.perf_counter()
        self._ending = False
        context = multiprocessing.get_context("spawn")
        self._pipe, remote = context.Pipe()
        self._process = context.Process(target=serve, args=(remote, build), daemon=True)
        try:
            self._process.start()
        except OSError as error:
            self._pipe.close()
            raise UserError(
                f"a worker process cannot be started ({error}); lower --env.amount"
            ) from error
        except Exception as error:  # What cannot be sent raises one of several types.
            self._pipe.close()
            raise unsendable(error) from error
        finally:
            remote.close()

    def send(self, command: str, *args: Any) -> None:
        """Sends what is asked."""
        self._asked = time.perf_counter()
        # Where the worker is gone, the next answer says so.
        with contextlib.suppress(OSError):
            self._pipe.send((command, args))

    def receive(self) -> Any:
        """Waits for the answer."""
        try:
            wait_for(self._pipe, self._name, self._asked, self._timeout)
            kind, value = self._pipe.recv()
        except Silent as silent:
            self._kill()
            raise Crash(str(silent)) from None
        except (EOFError, OSError):
            self._process.join(ENDING)
            raise Crash(f"the worker process {_ending(self._process.exitcode)}") from None
        return unpack(kind, value)

    def ask_to_end(self) -> None:
        """Asks the process to end, once."""
        if not self._ending:
            self.send("close")
            self._ending = True
            self._pipe.close()

    def close(self) -> None:
        """Waits until the process has ended, and ends it by force after ``ENDING`` seconds."""
        self.ask_to_end()
        if self._process.pid is not None:
            self._process.join(max(0.0, self._asked + ENDING - time.perf_counter()))
            if self._process.exitcode is None:
                self._kill()

    def _kill(self) -> None:
        """Ends the process, and what it has started, by force."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except OSError:  # It had no time to make a group of its own.
            self._process.kill()
        self._process.join(ENDING)


def unsendable(error: Exception) -> UserError:
    """What to say of a factory that has no name by which a worker finds it."""
    return UserError(
        f"the environment's factory cannot be sent to a worker process ({error}); "
        "define it at the top of a module, or use --env.workers none"
    )


def serve(pipe: Any, build: Build) -> None:
    """Runs in the process: answers until told to close."""
    os.setpgrp()  # The terminal's Ctrl-C is for the parent, which then closes us.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    group = Group(build)
    try:
        while True:
            command, args = pipe.recv()
            if command == "close":
                return group.close()
            pipe.send(answer(group, command, args))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        sys.exit(1)  # The parent is gone.


def _end_with_parent() -> None:
    """Ends this process after its parent, even if the environment hangs."""
    multiprocessing.parent_process().join()
    time.sleep(ENDING)
    os._exit(1)


def _ending(code: int | None) -> str:
    if code is None:
        return "closed its pipe"
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
