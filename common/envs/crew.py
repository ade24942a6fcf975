"""The environments of one worker, built anew where they crash."""

from __future__ import annotations

import functools
import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from common.envs.base import Crash, Row, env_seed, make_row
from common.envs.group import Build, Description
from common.envs.workers import Place, Worker, name
from common.errors import UserError
from common.rows import COST, LOG_PREFIX, ROW_KEYS

MAX_CRASHES = 3
"""Crashes without a completed step in between that end a run."""
SHARE = 20
"""Steps that an environment has to make from crash to crash, the mean of ``RECENT`` crashes."""
RECENT = 10


class Crew:
    """Environments that share a worker.

    One that crashes is built anew with a new seed, and its episode is closed as truncated: one
    row with ``is_last``, reward 0 and the last observation, then the reset row of the new one.
    A worker that is gone takes all of its environments with it. Where all crash at once, their
    worker starts anew with them.

    Args:
        place: Where they step.
        build: Builds one from its seed.
        seed: Seed from which each environment's own is derived.
        indices: Their numbers among all that step together.
    """

    def __init__(self, place: Place, build: Build, seed: int, indices: Sequence[int]):
        self._open = functools.partial(place.open, build)
        self._slots = {index: _Slot(seed, index) for index in indices}
        self._indices = tuple(indices)
        self._closing: set[int] = set()
        """Environments that were built anew, and whose episode is closed by their next row."""
        self._newest: dict[int, Row] = {}
        self.worker: Worker = self._open(self._indices)
        self.worker.send("open", {index: slot.next_seed() for index, slot in self._slots.items()})

    def start(self) -> tuple[dict[int, Description], Crash | None]:
        """Waits until the environments are built; those that cannot be are forgotten.

        Returns:
            Descriptions of the environments, and why there are fewer than asked for.
        """
        try:
            found, failure = self.worker.receive()
        except Crash as crash:
            found, failure = {}, crash
        self._slots = {index: self._slots[index] for index in found}
        self._indices = tuple(found)
        return found, failure

    def send(self, actions: np.ndarray) -> None:
        """Hands the actions ``[K, A]`` over."""
        self._asked = self._indices
        if self._closing:
            asked = [i for i, index in enumerate(self._indices) if index not in self._closing]
            self._asked, actions = tuple(self._indices[i] for i in asked), actions[asked]
        self.worker.send("advance", self._asked, actions)

    def receive(self) -> list[Row]:
        """Returns the rows, of which some may close the episodes of the crashed."""
        came, crashes = self._answer()
        while len(came) < len(self._indices):
            newest = {**self._newest, **came}
            self._restart(crashes, newest)
            for index in self._closing - came.keys():
                came[index] = _closing_row(newest[index])
                self._closing.remove(index)
            # Between episodes there is nothing to close: ask for the reset row.
            self._asked = tuple(index for index in self._indices if index not in came)
            if self._asked:
                nothing = np.zeros((len(self._asked), 0), np.float32)
                self.worker.send("advance", self._asked, nothing)
                more, crashes = self._answer()
                came.update(more)
        self._newest = came
        return [came[index] for index in self._indices]

    def _answer(self) -> tuple[dict[int, Row], Mapping[int, Crash]]:
        """Returns rows and crashes by the numbers of those that were asked."""
        try:
            rows, crashes = self.worker.receive()
        except Crash as crash:
            return {}, dict.fromkeys(self._indices, crash)
        asked = [i for i in self._asked if i not in crashes] if crashes else self._asked
        came = dict(zip(asked, rows, strict=True))
        for index, row in came.items():
            if not row["is_first"]:
                self._slots[index].count_step()
        return came, crashes

    def _restart(self, crashes: Mapping[int, Crash], newest: Mapping[int, Row]) -> None:
        """Builds environments anew, again and again if need be.

        Args:
            crashes: Why, by the environments' numbers.
            newest: The newest row of each environment that has one.
        """
        while crashes:
            self._blame(crashes)
            self._closing.update(
                index for index in crashes if index in newest and not newest[index]["is_last"]
            )
            if len(crashes) == len(self._indices):
                self.worker.close()
                self.worker = self._open(self._indices)
            crashes = self._build(crashes)

    def _build(self, indices: Iterable[int]) -> dict[int, Crash]:
        """Returns why some could not be built."""
        crashes = {}
        for index in indices:
            self.worker.send("open", {index: self._slots[index].next_seed()})
            try:
                _, crash = self.worker.receive()
            except Crash as gone:
                return dict.fromkeys(self._indices, gone)
            if crash:
                crashes[index] = crash
        return crashes

    def _blame(self, crashes: Mapping[int, Crash]) -> None:
        """Prints who crashed and why, and counts it; raises a UserError where it is too often."""
        for reason in dict.fromkeys(crashes.values()):
            indices = [index for index, crash in crashes.items() if crash is reason]
            print(reason.details, end="", file=sys.stderr, flush=True)
            for index in indices:
                self._slots[index].count_crash(reason)
            goes_on = (
                "it starts anew and its episode ends"
                if len(indices) == 1
                else "they start anew and their episodes end"
            )
            print(
                f"warning: {name(indices)} crashed ({reason}); {goes_on} as truncated",
                file=sys.stderr,
                flush=True,
            )


class _Slot:
    """What is counted of one environment, whatever copy of it is alive."""

    def __init__(self, seed: int, index: int):
        self._seed, self._index = seed, index
        self._built = 0
        self._crashes = 0
        self._steps = 0
        self._crashed_at: deque[int] = deque(maxlen=RECENT)

    def next_seed(self) -> int:
        """Returns the seed of the next copy."""
        seed = env_seed(self._seed, self._index, self._built)
        self._built += 1
        return seed

    def count_step(self) -> None:
        self._crashes = 0
        self._steps += 1

    def count_crash(self, reason: Crash) -> None:
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


def _closing_row(row: Row) -> Row:
    """Repeats the last observation as the truncated end of its episode."""
    observation = {
        key: value
        for key, value in row.items()
        if key not in ROW_KEYS and not key.startswith(LOG_PREFIX)
    }
    return make_row(observation, last=True, cost=0.0 if COST in row else None)
