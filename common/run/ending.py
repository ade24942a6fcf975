"""How a run is told to end before its end: by a signal, by whoever watches, by a failure.

A run stops between two steps, with a checkpoint. What the log or the caller's code raises waits for
that checkpoint too. Several processes stop at the same step: one of them is told, and all are once
they have exchanged it (``common.run.processes``).
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from common.envs.waiting import leave, stopped_by
from common.run.processes import Processes

STOP_SIGNALS = signal.SIGTERM, signal.SIGINT


class Ending:
    """Whether a run should stop now, and why.

    Attributes:
        failure: What ends it and waits for a checkpoint; None for nothing.
    """

    def __init__(self, processes: Processes, told: Callable[[], bool] = lambda: False):
        """Nothing ends yet.

        Args:
            processes: Those of the run.
            told: Asked whether somebody else has told the run to stop.
        """
        self._processes, self._told = processes, told
        self._asked = self._agreed = False
        self.failure: BaseException | None = None

    @property
    def asked(self) -> bool:
        """Whether this process was told to stop."""
        return self._asked or self._told()

    @property
    def now(self) -> bool:
        """Whether the run stops: once all of its processes know."""
        return self.asked if self._processes.amount == 1 else self._agreed

    def ask(self, failure: BaseException | None = None) -> None:
        """Tells the run to stop; the first failure is kept."""
        self._asked, self.failure = True, self.failure or failure

    def agree(self, **mine: Any) -> list[dict[str, Any]]:
        """Exchanges what JSON can hold, and whether any process was told to stop.

        Args:
            mine: Of this process, by name.

        Returns:
            That of every process, in their order.
        """
        heard = self._processes.gather({"asked": self.asked, **mine})
        self._agreed = any(one["asked"] for one in heard)
        return heard

    @contextlib.contextmanager
    def waits(self) -> Iterator[None]:
        """What is raised inside ends the run, after a checkpoint."""
        try:
            yield
        except (Exception, SystemExit, KeyboardInterrupt) as failure:
            self.ask(failure)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Listens to signals, where the run has the main thread; another may not.

        Of a run that stops, waiting for an environment is given up.
        """
        with stopped_by(lambda: self.now):
            if threading.current_thread() is not threading.main_thread():
                yield
                return
            previous = {name: signal.signal(name, self._signalled) for name in STOP_SIGNALS}
            try:
                yield
            finally:
                for name, handler in previous.items():
                    signal.signal(name, handler)

    def _signalled(self, *_: Any) -> None:
        """Ends the run at its next step; a second Ctrl-C ends it at once."""
        self.ask()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._processes.amount == 1:  # Others would wait for the step that is left.
            leave()
