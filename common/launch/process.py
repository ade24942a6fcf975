"""A command in a process of its own, which a launcher starts and stops."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Mapping

from common.launch.request import Request
from common.run import folder as run_folder

ROOT = pathlib.Path(__file__).resolve().parents[2]
"""Where this package lies."""


def surroundings(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns the variables of a process that runs this package, with some of one's own."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(more or {})}


class Command:
    """A command that runs in a process of its own, as often as it is started.

    Attributes:
        stopping: Whether it was told to stop; then it ends as soon as it is started.
    """

    def __init__(self) -> None:
        """Starts nothing yet."""
        self.stopping = False
        self._running: subprocess.Popen[bytes] | None = None

    def start(self, words: list[str], environment: Mapping[str, str], log: int) -> int:
        """Starts a process that only hears of a stop by ``stop``; returns its number.

        The session of its own keeps a terminal's Ctrl-C away. Slurm sends SIGUSR2 to everybody
        in a job before its time is over; a process started with it blocked does not die of it.

        Args:
            words: What to run.
            environment: All of its variables.
            log: Descriptor of the file that it writes to.
        """
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        try:
            self._running = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        if self.stopping:  # Told so before there was a process.
            self._running.terminate()
        return self._running.pid

    def poll(self) -> int | None:
        """Returns the exit code of what was started; None while it goes on."""
        return self._running.poll()

    def wait(self) -> int:
        """Waits for the end of what was started; returns its exit code."""
        while self._running.poll() is None:
            time.sleep(0.1)
        return self._running.returncode

    def stop(self) -> None:
        """Tells it to write a checkpoint and end."""
        self.stopping = True
        if self._running is not None:
            self._running.terminate()

    def kill(self) -> None:
        """Ends it at once."""
        if self._running is not None:
            self._running.kill()

    def join(self) -> None:
        """Waits for its end, also inside a signal's handler.

        Whoever is in ``wait`` collects the process: here it is left as it is.
        """
        if self._running is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, self._running.pid, os.WEXITED | os.WNOWAIT)


def train(
    command: Command,
    wanted: Request,
    place: tuple[str, int, int],
    environment: Mapping[str, str] | None = None,
) -> int:
    """Runs the train command as one process of a training; returns the exit code.

    Args:
        command: Starts it.
        wanted: What is launched.
        place: Host of process 0, the port at which that one listens, and the number of this one.
        environment: Variables beside those of this machine.
    """
    host, port, index = place
    there = f"{host}:{port},{wanted.nodes},{index}"
    run_folder.make(wanted.log(index).parent)
    with wanted.log(index).open("ab") as log:
        words = [*wanted.command, "--run.coordinator", there]
        command.start(words, surroundings(environment), log.fileno())
    return command.wait()
