"""Threads that do some of their work together: the last one that comes does it for all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any

Work = Callable[[dict[int, Any]], Mapping[int, Any]]
"""``{member: argument} -> {member: result}``."""


class Meeting:
    """Has members wait for each other.

    Work is done once all members that are left wait for some. Where they wait for different work,
    the first kind goes first, for those that wait for it.
    """

    def __init__(self, members: Collection[int], work: Mapping[str, Work]):
        """Begins with all members busy elsewhere.

        Args:
            members: Their numbers.
            work: What can be done, by its kind, the most urgent first.
        """
        self._left, self._work = set(members), work
        self._waiting: dict[int, tuple[str, Any]] = {}
        self._results: dict[int, Any] = {}
        self._changed = threading.Condition()

    def call(self, member: int, kind: str, argument: Any) -> Any:
        """Waits until the work is done; returns this member's result.

        Raises:
            BaseException: What the work raised.
        """
        with self._changed:
            self._waiting[member] = kind, argument
            self._serve()
            while member not in self._results:
                self._changed.wait()
            result = self._results.pop(member)
        if isinstance(result, BaseException):
            raise result
        return result

    def leave(self, member: int) -> None:
        """Goes; the others wait no longer for it."""
        with self._changed:
            self._left.discard(member)
            if self._waiting:
                self._serve()

    def _serve(self) -> None:
        if len(self._waiting) < len(self._left):
            return
        wanted = {kind for kind, _ in self._waiting.values()}
        kind = next(name for name in self._work if name in wanted)
        chosen = {member: x for member, (name, x) in self._waiting.items() if name == kind}
        for member in chosen:
            del self._waiting[member]
        try:
            self._results.update(self._work[kind](dict(sorted(chosen.items()))))
        except BaseException as error:
            self._results.update(dict.fromkeys(chosen, error))
        self._changed.notify_all()
