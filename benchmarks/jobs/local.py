"""Fills one machine with jobs: some on each GPU, or some on the cores."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence

from benchmarks.jobs import record as records
from benchmarks.jobs.plan import Job, Plan
from benchmarks.jobs.watch import Watch, stop_signals
from benchmarks.jobs.work import Work
from common.errors import UserError

_GPUS = pathlib.Path("/proc/driver/nvidia/gpus")


@dataclasses.dataclass(frozen=True)
class Slot:
    """Room for one job at a time.

    Attributes:
        cores: The cores that it computes on.
        environment: Variables of its processes.
    """

    cores: frozenset[int]
    environment: Mapping[str, str]


def gpus(environment: Mapping[str, str], folder: pathlib.Path = _GPUS) -> list[str]:
    """Names the GPUs that jobs may use: those of CUDA_VISIBLE_DEVICES, or all.

    Args:
        environment: Variables of this process.
        folder: Where the driver lists the GPUs.
    """
    if environment.get("JAX_PLATFORMS", "").lower() == "cpu":
        return []
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    return [str(number) for number in range(len(list(folder.glob("*"))))]


def make_slots(
    jobs: int, cores: int | None, devices: Sequence[str], available: Sequence[int]
) -> list[Slot]:
    """Divides a machine.

    Args:
        jobs: Jobs on each GPU, or on the machine where there is none.
        cores: Cores of each job; None shares all of them out.
        devices: Names of the GPUs.
        available: Numbers of the cores.

    Raises:
        UserError: There are too few cores.
    """
    count = jobs * max(1, len(devices))
    each = max(1, len(available) // count) if cores is None else cores
    if cores is not None and count * cores > len(available):
        raise UserError(
            f"{count} jobs of {cores} cores need {count * cores} cores; this machine has "
            f"{len(available)}; lower --jobs or --cores"
        )
    slots = []
    for number in range(count):
        first = number * each
        taken = [available[(first + i) % len(available)] for i in range(each)]
        environment = {}
        if devices:
            environment["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
        if devices and jobs > 1:
            environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        slots.append(Slot(frozenset(taken), environment))
    return slots


def launch(plan: Plan, jobs: Sequence[Job], slots: Sequence[Slot], retries: int) -> bool:
    """Works on jobs until none is left, or until SIGTERM or Ctrl-C.

    Args:
        plan: The job list.
        jobs: What to do.
        slots: Where to do it.
        retries: How often to start again a job that failed.

    Returns:
        Whether it went on to the end.
    """
    watch = Watch(plan, jobs, retries)
    pool = _Pool(plan, jobs, slots, retries)
    with stop_signals(pool.stop):
        pool.start()
        while pool.busy():
            time.sleep(0.5)
            watch.look()
        watch.look()
    return not pool.stopping


class _Pool:
    """A thread per slot, each with one job at a time.

    Attributes:
        stopping: Whether the pool was told to stop.
    """

    def __init__(self, plan: Plan, jobs: Sequence[Job], slots: Sequence[Slot], retries: int):
        self._plan, self._retries, self.stopping = plan, retries, False
        self._queue = deque(jobs)
        self._works: set[Work] = set()
        self._slots = len(slots)
        self._said = False
        self._threads = [
            threading.Thread(target=self._serve, args=(number, slot), daemon=True)
            for number, slot in enumerate(slots)
        ]

    def start(self) -> None:
        """Begins with the first jobs."""
        for thread in self._threads:
            thread.start()

    def busy(self) -> bool:
        """Whether any job is under way."""
        return any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Stops every job and begins none."""
        self.stopping = True
        for work in list(self._works):
            work.stop()

    def _wait_for_room(self, number: int) -> None:
        """Waits while runs of a launcher that was killed have the place of a slot."""
        while not self.stopping and self._queue:
            count = records.orphans(
                (self._plan.record(x), self._plan.log(x)) for x in self._plan.jobs
            )
            if number < self._slots - count:
                return
            if not self._said:
                self._said = True
                print(f"{count} runs of a launcher that was killed go on; waiting", flush=True)
            time.sleep(1)

    def _serve(self, number: int, slot: Slot) -> None:
        os.sched_setaffinity(0, slot.cores)  # Of this thread, and of the processes it starts.
        while not self.stopping:
            self._wait_for_room(number)
            if self.stopping:
                return
            try:
                job = self._queue.popleft()
            except IndexError:
                return
            work = Work(self._plan, job, self._retries, slot.environment)
            self._works.add(work)
            if self.stopping:  # Whoever stops the pool may not have seen this work.
                work.stop()
            outcome = work.run()
            self._works.discard(work)
            if outcome == "held":  # Look again when the others are through.
                self._queue.append(job)
                time.sleep(1)
