"""One environment, in this process or in a spawned one, behind the same handle."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np

from common.envs.base import Crash, Env, Row
from common.errors import UserError
from common.spaces import ActionSpec, ObservationSpec

Build = Callable[[int], Env]
"""Builds an environment from its seed; for processes it must be importable by name."""


class Description(NamedTuple):
    """What the parent needs to know of an environment."""

    observation_specs: dict[str, ObservationSpec]
    action_spec: ActionSpec
    action_space: gymnasium.Space
    action_repeat: int
    max_steps: int


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
        """Returns the current frame ``[H, W, 3]``, or None."""
        ...

    def close(self) -> None:
        """Ends the environment, by force if need be. Raises nothing."""
        ...


class LocalHandle:
    """An environment in this process; it steps in ``receive``."""

    def __init__(self, build: Build, seed: int):
        self.env: Env = _guard(build, seed)
        self._over = True
        self._action = np.zeros(0)

    def describe(self) -> Description:
        """Returns the environment's specs."""
        env = self.env
        return Description(
            env.observation_specs, env.action_spec, env.action_space, env.action_repeat,
            env.max_steps,
        )  # fmt: skip

    def send(self, action: np.ndarray) -> None:
        """Keeps the action for ``receive``."""
        self._action = action

    def receive(self) -> Row:
        """Steps or resets."""
        row = _guard(self.env.reset) if self._over else _guard(self.env.step, self._action)
        self._over = row["is_last"]
        return row

    def render(self) -> np.ndarray | None:
        """Returns the environment's picture."""
        return _guard(self.env.render)

    def close(self) -> None:
        """Closes the environment."""
        try:
            self.env.close()
        except Exception:
            traceback.print_exc()


def _guard(function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except UserError:
        raise
    except Exception as error:
        traceback.print_exc()
        raise Crash(f"{type(error).__name__}: {error}") from error


class ProcessHandle:
    """An environment that a spawned process builds and steps.

    Spawned, not forked: a forked copy of JAX's threads or of an OpenGL context hangs.
    """

    def __init__(self, build: Build, seed: int):
        context = multiprocessing.get_context("spawn")
        self._pipe, remote = context.Pipe()
        self._process = context.Process(target=serve, args=(remote, build, seed), daemon=True)
        try:
            self._process.start()
        except OSError:
            raise
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

    def close(self) -> None:
        """Asks the worker to end, and ends it by force after two seconds."""
        self._request("close")
        self._pipe.close()
        if self._process.pid is not None:
            self._process.join(2)
            if self._process.exitcode is None:
                self._process.kill()
                self._process.join()

    def _request(self, command: str, *args: Any) -> None:
        try:
            self._pipe.send((command, *args))
        except OSError:
            pass  # The worker is gone: the next answer says so.

    def _answer(self) -> Any:
        try:
            kind, value = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(2)
            raise Crash(f"the worker process {_ending(self._process.exitcode)}") from None
        if kind == "user":
            raise UserError(value)
        if kind == "crash":
            raise Crash(value)
        return value


def serve(pipe: Any, build: Build, seed: int) -> None:
    """Runs in the worker: builds the environment, then answers until told to close."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # The terminal's Ctrl-C is for the parent, which then closes us.
    try:
        handle = LocalHandle(build, seed)
        pipe.send(("value", handle.describe()))
        while True:
            command, *args = pipe.recv()
            if command == "close":
                return handle.close()
            if command == "render":
                pipe.send(("value", handle.render()))
            else:
                handle.send(*args)
                pipe.send(("value", handle.receive()))
    except UserError as error:
        pipe.send(("user", str(error)))
    except Crash as error:
        pipe.send(("crash", str(error)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        sys.exit(1)  # The parent is gone.


def _ending(code: int | None) -> str:
    if code is None:
        return "closed its pipe"
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
