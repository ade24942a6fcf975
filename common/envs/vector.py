"""Several environments side by side, restarted where they crash."""

from __future__ import annotations

import functools
import sys
from collections import deque
from collections.abc import Callable

import numpy as np

from common.envs.base import (
    Crash,
    Env,
    Row,
    adapted_space,
    check_actions,
    env_seed,
    make_row,
    stack_rows,
)
from common.envs.handles import Build, Description, Handle, LocalHandle, ProcessHandle
from common.errors import UserError
from common.rows import LOG_PREFIX, ROW_KEYS

Open = Callable[[Build, int, int], Handle]
"""``(build, seed, index) -> Handle``."""

MAX_CRASHES = 3
"""Crashes without a completed step in between that end a run."""
SHARE = 20
"""Steps that an environment has to make from crash to crash, the mean of ``RECENT`` crashes."""
RECENT = 10


class BuildError(UserError):
    """An environment could not be built.

    Attributes:
        details: The traceback of the environment's own code; empty where there is none.
    """

    def __init__(self, words: str, details: str = ""):
        """Keeps the details."""
        super().__init__(words)
        self.details = details


class VectorEnvs:
    """``N`` environments, each behind a handle, as ``common.envs.base.Envs``.

    An environment that crashes is built anew with a new seed. Its episode is closed as
    truncated: one row with ``is_last``, reward 0 and the last observation, then the
    reset row of the new one.

    Args:
        build: Builds one environment from its seed.
        num_envs: N.
        seed: Seed from which each environment's own is derived.
        processes: Whether each environment gets a process of its own.
        timeout: Seconds that a process has for every answer, after which it counts as
            crashed; 0 for ever.
        fewer: Whether fewer environments will do, but at least one, where not all of them can
            be built; those that can keep their seeds.

    Raises:
        BuildError: An environment cannot be built.
        UserError: One crashes three times without a completed step in between, or ten times
            in fewer than ``SHARE`` steps each; and whatever UserError an environment raises.
    """

    def __init__(
        self,
        build: Build,
        num_envs: int,
        seed: int,
        processes: bool,
        timeout: float = 0,
        fewer: bool = False,
    ):
        make = functools.partial(ProcessHandle, timeout=timeout) if processes else LocalHandle
        self._slots: list[_Slot] = []
        descriptions: list[Description] = []
        try:
            # All workers start before the first one is waited for.
            failure = self._start(make, build, num_envs, seed)
            for slot in list(self._slots):
                try:
                    descriptions.append(slot.handle.describe())
                except Crash as crash:
                    failure = crash
                    self._slots.remove(slot)
                    slot.handle.close()
            if failure and not (fewer and descriptions):
                raise BuildError(_unbuilt(failure, processes, bool(descriptions)), failure.details)
        except BaseException:
            self.close()
            raise
        self.missing = str(failure or "")
        """Why there are fewer environments than asked for; empty where there are not."""
        num_envs = len(descriptions)
        self.num_envs = num_envs
        (
            self.observation_specs, self.action_spec, self.action_space, self.action_repeat,
            self.max_steps, self.notes,
        ) = descriptions[0]  # fmt: skip
        self.observation_space = adapted_space(self.observation_specs)

    def step_async(self, action: np.ndarray) -> None:
        """Hands the actions ``[N, A]`` over."""
        action = check_actions(action, self.num_envs, self.action_spec.size)
        for slot, part in zip(self._slots, action, strict=True):
            slot.handle.send(part)

    def step_wait(self) -> dict[str, np.ndarray]:
        """Returns the rows ``[N, ...]`` of the actions that were handed over."""
        return stack_rows([slot.receive() for slot in self._slots])

    def step(self, action: np.ndarray) -> dict[str, np.ndarray]:
        """``step_async`` and ``step_wait`` in one call."""
        self.step_async(action)
        return self.step_wait()

    def render(self, index: int = 0) -> np.ndarray | None:
        """Returns one environment's frame ``[H, W, 3]``, or None where it is missing.

        Raises:
            NoPicture: There is one that cannot be filmed.
        """
        try:
            return self._slots[index].handle.render()
        except Crash:
            return None  # The next step meets the crash again, and mends it.

    def local(self, index: int = 0) -> Env:
        """Returns one of the environments itself; a crash replaces it.

        Raises:
            UserError: It runs in a process of its own.
        """
        handle = self._slots[index].handle
        if not isinstance(handle, LocalHandle):
            raise UserError("the environments run in other processes; set --env.workers none")
        return handle.env

    def close(self) -> None:
        """Ends all environments."""
        for slot in self._slots:
            slot.handle.ask_to_end()
        for slot in self._slots:
            slot.handle.close()

    def _start(self, make: Open, build: Build, num_envs: int, seed: int) -> Crash | None:
        """Opens environments until one cannot be; returns why not."""
        for index in range(num_envs):
            try:
                self._slots.append(_Slot(make, build, seed, index))
            except Crash as crash:
                return crash
        return None


def _unbuilt(crash: Crash, processes: bool, others: bool) -> str:
    words = f"the environment could not be built: {crash}"
    if others and not processes:
        words += (
            " (the first one could; where a process can hold only one, set --env.workers process)"
        )
    return words


class _Slot:
    """The place of one environment: its handle, its restarts and its last row."""

    def __init__(self, make: Open, build: Build, seed: int, index: int):
        self._make, self._build, self._seed, self._index = make, build, seed, index
        self._restarts = 0
        self._crashes = 0
        self._steps = 0
        self._crashed_at: deque[int] = deque(maxlen=RECENT)
        self._row: Row | None = None
        self.handle = self._open()

    def receive(self) -> Row:
        """Returns the next row, or closes the episode of a crashed environment."""
        while True:
            try:
                self._row = self.handle.receive()
            except Crash as crash:
                self._restart(crash)
                if self._row is not None and not self._row["is_last"]:
                    self._row = _closing_row(self._row)
                    return self._row
                # Between episodes there is nothing to close: ask for the reset row.
                self.handle.send(np.zeros(0, np.float32))
            else:
                if not self._row["is_first"]:
                    self._crashes = 0
                    self._steps += 1
                return self._row

    def _restart(self, reason: Crash) -> None:
        while True:
            print(reason.details, end="", file=sys.stderr, flush=True)
            self._check_crashes(reason)
            print(
                f"warning: environment {self._index} crashed ({reason}); it starts anew and "
                "its episode ends as truncated",
                file=sys.stderr,
                flush=True,
            )
            self.handle.close()
            self._restarts += 1
            try:
                self.handle = self._open()
                self.handle.describe()
                return
            except Crash as again:
                reason = again

    def _check_crashes(self, reason: Crash) -> None:
        """Counts a crash; raises a UserError where there are too many."""
        self._crashes += 1
        self._crashed_at.append(self._steps)
        steps = self._steps - self._crashed_at[0]
        if self._crashes >= MAX_CRASHES:
            often = f"{self._crashes} times without a completed step"
        elif len(self._crashed_at) == RECENT and steps < SHARE * (RECENT - 1):
            often = (
                f"{RECENT} times within {steps} steps, more often than once in {SHARE}, which is "
                "the limit"
            )
        else:
            return
        raise UserError(
            f"environment {self._index} crashed {often}; the last reason: {reason}"
        ) from reason

    def _open(self) -> Handle:
        seed = env_seed(self._seed, self._index, self._restarts)
        return self._make(self._build, seed, self._index)


def _closing_row(row: Row) -> Row:
    """Repeats the last observation as the truncated end of its episode."""
    observation = {
        key: value
        for key, value in row.items()
        if key not in ROW_KEYS and not key.startswith(LOG_PREFIX)
    }
    return make_row(observation, last=True)
