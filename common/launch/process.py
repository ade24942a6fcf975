"""A command in a process of its own, which a launcher starts and stops."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
from collections.abc import Mapping

from common.launch.request import Request
from common.run import folder as run_folder

ROOT = pathlib.Path(__file__).resolve().parents[2]
"""Where this package lies."""


def surroundings(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns the variables of a process that runs this package, with some of one's own."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(more or {})}


def start(command: list[str], environment: Mapping[str, str], log: int) -> subprocess.Popen[bytes]:
    """Starts a process that only hears of a stop by the launcher's SIGTERM.

    The session of its own keeps a terminal's Ctrl-C away. Slurm sends SIGUSR2 to everybody
    in a job before its time is over; a process started with it blocked does not die of it.

    Args:
        command: What to run.
        environment: All of its variables.
        log: Descriptor of the file that it writes to.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def join(process: subprocess.Popen[bytes]) -> None:
    """Waits for the end of a process, also inside a signal's handler.

    Whoever waits for it elsewhere collects it: here it is left as it is.
    """
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


class Process:
    """The train command as one process of a training, on the machine where it runs."""

    def __init__(self, wanted: Request):
        """Starts nothing yet."""
        self._wanted = wanted
        self._running: subprocess.Popen[bytes] | None = None
        self.stopping = False
        """Whether it was told to stop."""

    def run(self, host: str, port: int, index: int, environment: Mapping[str, str]) -> int:
        """Trains once; returns the exit code.

        Args:
            host: That of process 0.
            port: Where that one listens.
            index: Number of this process.
            environment: Variables beside those of this machine.
        """
        there = f"{host}:{port},{self._wanted.nodes},{index}"
        command = [*self._wanted.command, "--run.coordinator", there]
        run_folder.make(self._wanted.log(index).parent)
        with self._wanted.log(index).open("ab") as log:
            self._running = start(command, surroundings(environment), log.fileno())
        if self.stopping:  # Told so before there was a process.
            self._running.terminate()
        return self._running.wait()

    def stop(self) -> None:
        """Tells the training to write a checkpoint and end."""
        self.stopping = True
        if self._running is not None:
            self._running.terminate()

    def kill(self) -> None:
        """Ends it at once."""
        if self._running is not None:
            self._running.kill()

    def join(self) -> None:
        """Waits for the end of a stopped training."""
        if self._running is not None:
            join(self._running)
