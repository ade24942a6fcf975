"""One environment, in this process or in a spawned one, behind the same handle."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np

from common.envs.base import Crash, Env, Row
from common.envs.pictures import NoPicture
from common.envs.waiting import Silent, running, wait_for
from common.errors import UserError
from common.spaces import ActionSpec, ObservationSpec

ENDING = 2.0
"""Seconds that a worker has to end, once it is asked to."""

Build = Callable[[int], Env]
"""Builds an environment from its seed; for processes it must be importable by name."""


class Description(NamedTuple):
    """What the parent needs to know of an environment."""

    observation_specs: dict[str, ObservationSpec]
    action_spec: ActionSpec
    action_space: gymnasium.Space
    action_repeat: int
    max_steps: int
    notes: dict[str, str]


class Handle(Protocol):
    """An environment that resets itself. Every method may raise Crash or UserError."""

    def describe(self) -> Description:
        """Waits until the environment is built."""
        ...

    def send(self, action: np.ndarray) -> None:
        """Begins a step; on a new environment and after a last row it is a reset."""
        ...

    def receive(self) -> Row:
        """Returns the row of the step that ``send`` began."""
        ...

    def render(self) -> np.ndarray | None:
        """Returns the current frame ``[H, W, 3]``, or None; may raise NoPicture."""
        ...

    def ask_to_end(self) -> None:
        """Begins what ``close`` waits for, so that many end at the same time."""
        ...

    def close(self) -> None:
        """Ends the environment, by force if need be. Raises nothing."""
        ...


class LocalHandle:
    """An environment in this process; it steps in ``receive``.

    Args:
        build: Builds it.
        seed: Its seed.
        index: Its number among those that step together; None where somebody else waits for
            it and looks at the time.
    """

    def __init__(self, build: Build, seed: int, index: int | None = None):
        self._name = None if index is None else f"environment {index}"
        self.env: Env = self._run(build, seed)
        self._over = True
        self._action = np.zeros(0)

    def describe(self) -> Description:
        """Returns the environment's specs."""
        env = self.env
        return Description(
            env.observation_specs, env.action_spec, env.action_space, env.action_repeat,
            env.max_steps, getattr(env, "notes", {}),
        )  # fmt: skip

    def send(self, action: np.ndarray) -> None:
        """Keeps the action for ``receive``."""
        self._action = action

    def receive(self) -> Row:
        """Steps or resets."""
        row = self._run(self.env.reset) if self._over else self._run(self.env.step, self._action)
        self._over = row["is_last"]
        return row

    def render(self) -> np.ndarray | None:
        """Returns the environment's picture; one that fails is no crash."""
        try:
            return self.env.render()
        except NoPicture:
            raise
        except (Exception, SystemExit) as error:
            raise NoPicture(f"render() raised {type(error).__name__}: {error}") from error

    def ask_to_end(self) -> None:
        """Does nothing: ``close`` does not wait."""

    def close(self) -> None:
        """Closes the environment."""
        try:
            self.env.close()
        except (Exception, SystemExit):
            traceback.print_exc()

    def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Calls the environment's code; what goes wrong there is a crash."""
        with running(self._name) if self._name else contextlib.nullcontext():
            try:
                return function(*args)
            except UserError:
                raise
            except (Exception, SystemExit) as error:  # It may not end the run.
                details = traceback.format_exc()
                raise Crash(f"{type(error).__name__}: {error}", details) from error


class ProcessHandle:
    """An environment that a spawned process builds and steps.

    Spawned, not forked: a forked copy of JAX's threads or of an OpenGL context hangs.

    Args:
        build: Builds it; importable by name.
        seed: Its seed.
        index: Its number among those that step together.
        timeout: Seconds that it has for every answer; 0 for ever.
    """

    def __init__(self, build: Build, seed: int, index: int = 0, timeout: float = 0):
        self._name, self._timeout = f"environment {index}", timeout
        self._asked = time.perf_counter()
        self._ending = False
        context = multiprocessing.get_context("spawn")
        self._pipe, remote = context.Pipe()
        self._process = context.Process(target=serve, args=(remote, build, seed), daemon=True)
        try:
            self._process.start()
        except OSError as error:
            self._pipe.close()
            raise UserError(
                f"a worker process cannot be started ({error}); lower --env.amount"
            ) from error
        except Exception as error:  # What cannot be sent raises one of several types.
            self._pipe.close()
            raise UserError(
                f"the environment's factory cannot be sent to a worker process ({error}); "
                "define it at the top of a module, or use --env.workers none"
            ) from error
        finally:
            remote.close()

    def describe(self) -> Description:
        """Waits for the worker's first answer."""
        return self._answer()

    def send(self, action: np.ndarray) -> None:
        """Sends the action; a broken pipe shows in ``receive``."""
        self._request("advance", action)

    def receive(self) -> Row:
        """Waits for the row."""
        return self._answer()

    def render(self) -> np.ndarray | None:
        """Asks the worker for its picture."""
        self._request("render")
        return self._answer()

    def ask_to_end(self) -> None:
        """Asks the worker to end, once."""
        if not self._ending:
            self._request("close")
            self._ending = True
            self._pipe.close()

    def close(self) -> None:
        """Waits until the worker has ended, and ends it by force after ``ENDING`` seconds."""
        self.ask_to_end()
        if self._process.pid is not None:
            self._process.join(max(0.0, self._asked + ENDING - time.perf_counter()))
            if self._process.exitcode is None:
                self._kill()

    def _request(self, command: str, *args: Any) -> None:
        self._asked = time.perf_counter()
        try:
            self._pipe.send((command, *args))
        except OSError:
            pass  # The worker is gone: the next answer says so.

    def _answer(self) -> Any:
        try:
            wait_for(self._pipe, self._name, self._asked, self._timeout)
            kind, value, details = self._pipe.recv()
        except Silent as silent:
            self._kill()
            raise Crash(str(silent)) from None
        except (EOFError, OSError):
            self._process.join(ENDING)
            raise Crash(f"the worker process {_ending(self._process.exitcode)}") from None
        if kind == "value":
            return value
        raise Crash(value, details) if kind == "crash" else _FORWARDED[kind](value)

    def _kill(self) -> None:
        """Ends the worker, and what it has started, by force."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except OSError:  # It had no time to make a group of its own.
            self._process.kill()
        self._process.join(ENDING)


_FORWARDED = {"user": UserError, "picture": NoPicture}
"""What a worker sends by its words and the parent raises as if it were its own."""


def serve(pipe: Any, build: Build, seed: int) -> None:
    """Runs in the worker: builds the environment, then answers until told to close."""
    os.setpgrp()  # The terminal's Ctrl-C is for the parent, which then closes us.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        handle = LocalHandle(build, seed)
        pipe.send(("value", handle.describe(), ""))
        while True:
            command, *args = pipe.recv()
            if command == "close":
                return handle.close()
            if command == "render":
                pipe.send(_picture(handle))
            else:
                handle.send(*args)
                pipe.send(("value", handle.receive(), ""))
    except UserError as error:
        pipe.send(("user", str(error), ""))
    except Crash as error:
        pipe.send(("crash", str(error), error.details))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        sys.exit(1)  # The parent is gone.


def _picture(handle: LocalHandle) -> tuple[str, Any, str]:
    try:
        return "value", handle.render(), ""
    except NoPicture as reason:
        return "picture", str(reason), ""


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
