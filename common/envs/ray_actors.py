"""Groups of environments as actors of a Ray cluster."""

from __future__ import annotations

import contextlib
import os
import pathlib
import time
from collections.abc import Sequence
from multiprocessing.reduction import ForkingPickler
from typing import Any

from common import cluster
from common.envs.base import Crash
from common.envs.group import Build, Group, answer, unpack
from common.envs.render import choose_backend
from common.envs.waiting import Silent, wait_for
from common.envs.workers import ENDING, Place, Worker, name, unsendable

OF_AN_ACTOR = 4
"""Environments of one actor where nothing else is asked for: a call costs Ray as much as several
steps of a cheap environment, while those of one actor step one after the other."""
RESTARTS = 3
"""How often Ray starts an actor again: one that it lost with its node before it ran needs that.
One that ran has lost its environments and says so; a new one takes its place."""

_ROOT = str(pathlib.Path(__file__).resolve().parents[2])


def actors(per_worker: int, timeout: float) -> Place:
    """Environments step in actors of the cluster of RAY_ADDRESS, or of a Ray that is started here.

    They ask for none of its CPUs, so that there is room for all, and are spread over its nodes.

    Args:
        per_worker: Environments of one actor.
        timeout: Seconds that an actor has for every answer, after which it is ended; 0 for ever.

    Raises:
        UserError: Ray is missing, or the cluster.
    """
    stack = contextlib.ExitStack()
    # The user's own modules lie in the folder in which the run was started.
    paths = [_ROOT, os.getcwd()]
    ray = stack.enter_context(cluster.connected("--env.workers ray", paths))

    def start(build: Build, indices: Sequence[int]) -> Worker:
        return RayWorker(ray, build, indices, timeout)

    return Place(start, per_worker, stack.close)


class RayWorker:
    """An actor.

    Args:
        ray: The module, connected.
        build: Builds an environment; importable by name.
        indices: Numbers of its environments.
        timeout: Seconds that it has for every answer; 0 for ever.
    """

    def __init__(self, ray: Any, build: Build, indices: Sequence[int], timeout: float):
        try:  # Ray itself would send a function without a name by its code.
            ForkingPickler.dumps(build)
        except Exception as error:  # What cannot be sent raises one of several types.
            raise unsendable(error) from error
        self._ray, self._name, self._timeout = ray, name(indices), timeout
        options = ray.remote(
            num_cpus=0, max_restarts=RESTARTS, max_task_retries=0, scheduling_strategy="SPREAD"
        )
        self._actor = options(_Server).remote(build)
        self._ending = False

    def send(self, command: str, *args: Any) -> None:
        """Calls the actor."""
        self._asked = time.perf_counter()
        self._call = self._actor.run.remote(command, args)

    def receive(self) -> Any:
        """Waits for what the call returns."""
        try:
            wait_for(self, self._name, self._asked, self._timeout)
            return unpack(*self._answer)
        except Silent as silent:
            self._kill()
            raise Crash(str(silent)) from None
        except self._ray.exceptions.RayError as error:
            reason = str(error).splitlines()[-1].partition(". ")[0]  # Advice follows.
            raise Crash(f"its Ray actor is gone: {reason}") from None

    def poll(self, seconds: float) -> bool:
        """Waits for the answer, so long at most; returns whether it is there."""
        try:
            self._answer = self._ray.get(self._call, timeout=seconds)
        except self._ray.exceptions.GetTimeoutError:
            return False
        return True

    def ask_to_end(self) -> None:
        """Has the environments closed, once."""
        if not self._ending:
            self._ending = True
            self.send("close")

    def close(self) -> None:
        """Ends the actor, by force after ``ENDING`` seconds."""
        self.ask_to_end()
        left = max(0.0, self._asked + ENDING - time.perf_counter())
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.get(self._call, timeout=left)
        self._kill()

    def _kill(self) -> None:
        self._ray.kill(self._actor)


class _Server:
    """Runs in the actor."""

    def __init__(self, build: Build):
        choose_backend()  # Of this machine, before any import of MuJoCo.
        self._group = Group(build)
        self._opened = False

    def run(self, command: str, args: Sequence[Any]) -> tuple[str, Any]:
        self._opened |= command == "open"
        if not self._opened and command != "close":
            raise RuntimeError("Ray has started it again, without its environments")
        return answer(self._group, command, args)
