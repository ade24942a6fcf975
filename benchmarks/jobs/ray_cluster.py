"""Gives jobs to a Ray cluster, one task each; or to a Ray that it starts on this machine."""

from __future__ import annotations

import os
import pathlib
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks.jobs import record as records
from benchmarks.jobs import work
from benchmarks.jobs.plan import LOGS, Job, Plan
from benchmarks.jobs.watch import Watch, stop_signals
from common.cluster import connected
from common.errors import UserError
from common.launch.process import ROOT
from common.launch.request import HANDED_ON

MOST_AT_A_TIME = 1000


class Request(NamedTuple):
    """What a job asks of the cluster.

    Attributes:
        cores: CPUs of a job.
        gpus: GPUs of a job, or the part of one; None for one where the cluster has any.
        parallel: Jobs at a time.
    """

    cores: float = 1
    gpus: float | None = None
    parallel: int = MOST_AT_A_TIME


def launch(plan: Plan, jobs: Sequence[Job], request: Request, retries: int) -> bool:
    """Works on jobs until none is left, or until SIGTERM or Ctrl-C.

    The cluster is that of RAY_ADDRESS; without it, one is started here for as long, which listens
    on the loopback interface and asks for a token that only this user's processes have.

    Args:
        plan: The job list, in a folder that every machine of the cluster sees.
        jobs: What to do.
        request: What each job asks for.
        retries: How often to start again a job that failed, or that was lost.

    Returns:
        Whether it went on to the end.

    Raises:
        UserError: Ray is missing, or the cluster; or it has no room for a job.
    """
    with connected("--launcher ray", [str(ROOT)]) as ray:
        return _Queue(ray, plan, jobs, request, retries).serve()


class _Queue:
    """The jobs that wait for the cluster and those that it has."""

    def __init__(self, ray: Any, plan: Plan, jobs: Sequence[Job], request: Request, retries: int):
        self._ray, self._plan, self._jobs, self._retries = ray, plan, jobs, retries
        room = ray.cluster_resources()
        gpus = request.gpus
        if gpus is None:
            gpus = 1 if room.get("GPU") else 0
        for name, wanted in (("CPU", request.cores), ("GPU", gpus)):
            if wanted > room.get(name, 0):
                raise UserError(
                    f"a job asks for {wanted:g} {name}s; the Ray cluster has "
                    f"{room.get(name, 0):g} in all"
                )
        options = {"num_cpus": request.cores, "num_gpus": gpus, "max_retries": 0}
        self._task = ray.remote(**options)(run_job)
        self._environment = {
            name: value for name, value in os.environ.items() if name.startswith(HANDED_ON)
        }
        if 0 < gpus < 1:
            self._environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        self._parallel = request.parallel
        self._waiting, self._running = deque(jobs), {}
        self._lost: Counter[Job] = Counter()
        self._stopping = False
        self._stop_file = plan.logdir / LOGS / f".stop-{uuid.uuid4().hex}"

    def serve(self) -> bool:
        """Keeps the cluster busy until nothing is left; whether it was not stopped."""
        watch = Watch(self._plan, self._jobs, self._retries)
        with stop_signals(self._stop):
            while self._running or (self._waiting and not self._stopping):
                while self._waiting and not self._stopping and self._has_room():
                    job = self._waiting.popleft()
                    task = self._task.remote(
                        self._plan, job, self._retries, self._environment, self._stop_file
                    )
                    self._running[task] = job
                ready, _ = self._ray.wait(list(self._running), timeout=1)
                for task in ready:
                    self._collect(task, self._running.pop(task))
                watch.look()
        self._stop_file.unlink(missing_ok=True)
        return not self._stopping

    def _has_room(self) -> bool:
        """Whether one job more may run; runs on this machine whose launcher was killed count."""
        if len(self._running) >= self._parallel:
            return False
        jobs = ((self._plan.record(job), self._plan.log(job)) for job in self._plan.jobs)
        return len(self._running) + records.orphans(jobs) < self._parallel

    def _collect(self, task: Any, job: Job) -> None:
        """Looks at a task that ended; one that was lost with its machine is repeated."""
        try:
            outcome = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            self._lost[job] += 1
            again = self._lost[job] <= self._retries
            words = "trying again" if again else "given up"
            print(f"lost: {job}, {type(error).__name__}; {words}", flush=True)
            outcome = "held" if again else "failed"
        if outcome == "held":
            self._waiting.append(job)

    def _stop(self) -> None:
        """Leaves a file for the tasks: Ray 2.60 may abort when it cancels one that runs."""
        self._stopping = True
        self._stop_file.touch()


def run_job(
    plan: Plan, job: Job, retries: int, environment: dict[str, str], stop: pathlib.Path
) -> work.Outcome:
    """What a task of the cluster does.

    Args:
        plan: The job list.
        job: The job.
        retries: How often to start again after a failure.
        environment: Variables for the run beside those of the cluster.
        stop: File that appears when the run shall stop.
    """
    one, ended = work.Work(plan, job, retries, environment), threading.Event()

    def listen() -> None:
        while not stop.exists():
            if ended.wait(1):
                return
        one.stop()

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        outcome = one.run()
    finally:
        ended.set()
        listener.join()
    if outcome == "held":  # The launcher asks again at once.
        time.sleep(1)
    return outcome
