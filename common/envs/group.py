"""Environments that one process steps, one after the other: what every kind of worker runs."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from common.envs.base import Crash, Env, Row, split_rows, stack_rows
from common.envs.pictures import NoPicture
from common.envs.waiting import running
from common.errors import UserError
from common.spaces import ActionSpec, ObservationSpec

Build = Callable[[int], Env]
"""Builds an environment from its seed; for other processes it must be importable by name."""


Advanced = tuple[list[Row], dict[int, Crash]]


class Description(NamedTuple):
    """What the parent needs to know of an environment."""

    observation_specs: dict[str, ObservationSpec]
    action_spec: ActionSpec
    action_space: gymnasium.Space
    action_repeat: int
    max_steps: int
    notes: dict[str, str]


class Group:
    """Environments, by their numbers among all that step together. They reset themselves.

    One that crashes leaves its neighbours as they are. Every method may raise a UserError.

    Args:
        build: Builds one of them.
        watched: Whether to name one that keeps the thread; not where somebody else waits
            for it and looks at the time.
    """

    def __init__(self, build: Build, watched: bool = False):
        self._build, self._watched = build, watched
        self._members: dict[int, _Member] = {}

    def open(self, seeds: Mapping[int, int]) -> tuple[dict[int, Description], Crash | None]:
        """Builds environments, in the place of those that there are, until one cannot be.

        Args:
            seeds: The seed of each, by its number.

        Returns:
            Descriptions of those that were built, and why the next one could not be.
        """
        found = {}
        for index, seed in seeds.items():
            if index in self._members:
                self._members.pop(index).close()
            name = f"environment {index}" if self._watched else None
            try:
                self._members[index] = _Member(self._build, seed, name)
            except Crash as crash:
                return found, crash
            found[index] = self._members[index].describe()
        return found, None

    def advance(self, indices: Sequence[int], actions: np.ndarray) -> Advanced:
        """Steps some of the environments; a new one and one after its last row is reset.

        Args:
            indices: Their numbers.
            actions: Their actions ``[K, A]``; a reset ignores its own.

        Returns:
            The rows of those that did not crash, and why the others did.
        """
        rows, crashes = [], {}
        for index, action in zip(indices, actions, strict=True):
            try:
                rows.append(self._members[index].advance(action))
            except Crash as crash:
                crashes[index] = crash
        return rows, crashes

    def render(self, index: int) -> np.ndarray | None:
        """Returns the picture ``[H, W, 3]`` of an environment, or None; may raise NoPicture."""
        return self._members[index].render()

    def env(self, index: int) -> Env:
        """Returns an environment itself."""
        return self._members[index].env

    def close(self) -> None:
        """Closes the environments."""
        for member in self._members.values():
            member.close()


class _Member:
    """An environment that resets itself, and whose failures are crashes."""

    def __init__(self, build: Build, seed: int, name: str | None):
        self._name = name
        self.env: Env = self._run(build, seed)
        self._over = True

    def describe(self) -> Description:
        env = self.env
        return Description(
            env.observation_specs, env.action_spec, env.action_space, env.action_repeat,
            env.max_steps, getattr(env, "notes", {}),
        )  # fmt: skip

    def advance(self, action: np.ndarray) -> Row:
        row = self._run(self.env.reset) if self._over else self._run(self.env.step, action)
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

    def close(self) -> None:
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


def answer(group: Group, command: str, args: Sequence[Any]) -> tuple[str, Any]:
    """Runs a method of a group for somebody in another process.

    Args:
        group: The group.
        command: Name of the method.
        args: Its arguments.

    Returns:
        What ``unpack`` takes: several rows go stacked, exceptions for the caller by their words.
    """
    try:
        value = getattr(group, command)(*args)
    except UserError as error:
        return "user", str(error)
    except NoPicture as reason:
        return "picture", str(reason)
    if command == "advance" and len(value[0]) > 1:
        rows, crashes = value
        return "stacked", (stack_rows(rows), crashes)
    return "value", value


_FORWARDED = {"user": UserError, "picture": NoPicture}


def unpack(kind: str, value: Any) -> Any:
    """Returns what a method of a group returned elsewhere, or raises what it raised."""
    if kind in _FORWARDED:
        raise _FORWARDED[kind](value)
    if kind == "stacked":
        stacked, crashes = value
        return split_rows(stacked), crashes
    return value
