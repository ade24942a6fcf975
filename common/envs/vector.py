"""Several environments side by side, restarted where they crash."""

from __future__ import annotations

import sys
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
from common.envs.handles import Build, Handle, LocalHandle, ProcessHandle
from common.errors import UserError
from common.rows import LOG_PREFIX, ROW_KEYS

MAX_CRASHES = 3


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

    Raises:
        UserError: An environment cannot be built, or crashes three times without a
            completed step in between; and whatever UserError an environment raises.
    """

    def __init__(self, build: Build, num_envs: int, seed: int, processes: bool):
        handle = ProcessHandle if processes else LocalHandle
        self._slots: list[_Slot] = []
        try:
            for index in range(num_envs):
                self._slots.append(_Slot(handle, build, seed, index))
            # All workers start before the first one is waited for.
            descriptions = [slot.handle.describe() for slot in self._slots]
        except Crash as crash:
            self.close()
            raise UserError(f"the environment could not be built: {crash}") from crash
        except BaseException:
            self.close()
            raise
        self.num_envs = num_envs
        (
            self.observation_specs, self.action_spec, self.action_space, self.action_repeat,
            self.max_steps,
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
        """Returns one environment's frame ``[H, W, 3]``, or None where it is missing."""
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
            slot.handle.close()


class _Slot:
    """The place of one environment: its handle, its restarts and its last row."""

    def __init__(self, make: Callable[[Build, int], Handle], build: Build, seed: int, index: int):
        self._make, self._build, self._seed, self._index = make, build, seed, index
        self._restarts = 0
        self._crashes = 0
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
                return self._row

    def _restart(self, crash: Crash) -> None:
        reason: Exception = crash
        while True:
            self._crashes += 1
            if self._crashes >= MAX_CRASHES:
                raise UserError(
                    f"environment {self._index} crashed {self._crashes} times without a "
                    f"completed step; the last reason: {reason}"
                ) from reason
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

    def _open(self) -> Handle:
        return self._make(self._build, env_seed(self._seed, self._index, self._restarts))


def _closing_row(row: Row) -> Row:
    """Repeats the last observation as the truncated end of its episode."""
    observation = {
        key: value
        for key, value in row.items()
        if key not in ROW_KEYS and not key.startswith(LOG_PREFIX)
    }
    return make_row(observation, last=True)
