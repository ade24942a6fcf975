"""Hands jobs to Slurm as one array, by submitit.

A task of the array makes all attempts of its job. When its time is over or it is preempted,
the run writes a checkpoint and the task goes back to the queue.
"""

from __future__ import annotations

import dataclasses
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.jobs import record as records
from benchmarks.jobs.plan import LOGS, Job, Plan
from benchmarks.jobs.work import Work
from common.errors import UserError
from common.launch.on_slurm import executor, parameters

FOLDER = "slurm"
KILL_SECONDS = 120
"""How long after stopping everybody in a task Slurm kills it."""
MOST_AT_A_TIME = 256


@dataclasses.dataclass(frozen=True)
class Request:
    """What a task of the array asks for.

    Attributes:
        partition: Partition; empty for the cluster's default.
        minutes: Time limit; a run that takes longer goes back to the queue with a checkpoint.
        gpus: GPUs of a task.
        cores: Cores of a task.
        parallel: Tasks at a time.
    """

    partition: str = ""
    minutes: int = 1440
    gpus: int = 1
    cores: int = 4
    parallel: int = MOST_AT_A_TIME

    def parameters(self) -> dict[str, Any]:
        """Returns what submitit calls all this."""
        asked = parameters("benchmark", self.minutes, self.cores, self.gpus, self.partition)
        return asked | {"slurm_array_parallelism": self.parallel}


class Task:
    """What a task of the array calls."""

    def __init__(self, plan: Plan, job: Job, retries: int):
        """Starts nothing yet; the arguments are those of ``Work``."""
        self._plan, self._job, self._retries = plan, job, retries
        self._work: Work | None = None

    def __call__(self) -> str:
        """Works on the job until it is done or given up."""
        while True:
            self._work = Work(self._plan, self._job, self._retries)
            outcome = self._work.run()
            if outcome in ("done", "failed"):
                return outcome
            # Slurm stops every process of a task before it kills them: wait for that. A
            # job that another process works on is looked at again.
            time.sleep(KILL_SECONDS)

    def checkpoint(self) -> Any:
        """Stops the run when Slurm asks for the machine; the rest is done later."""
        import submitit

        if self._work is not None:
            self._work.stop()
            self._work.join()
        return submitit.helpers.DelayedSubmission(Task(self._plan, self._job, self._retries))


def launch(
    plan: Plan, jobs: Sequence[Job], request: Request, retries: int, cluster: str = "slurm"
) -> list[Any]:
    """Submits the jobs that are not in the queue yet, and returns at once.

    Args:
        plan: The job list.
        jobs: What to do.
        request: What each task asks for.
        retries: How often to start again a job that failed.
        cluster: "slurm", or "local" for processes of this machine.

    Returns:
        The submitted jobs, as submitit knows them.

    Raises:
        UserError: submitit is missing, or Slurm, or it refused the jobs.
    """
    folder = plan.logdir / LOGS / FOLDER
    numbers = folder / "jobs.txt"
    folder.mkdir(parents=True, exist_ok=True)
    queue = executor(folder, cluster, **request.parameters())
    waiting = queued() if cluster == "slurm" else set()
    known = _read_numbers(numbers)
    new = [job for job in jobs if known.get(str(job)) not in waiting]
    new = [job for job in new if not records.held(plan.log(job))]
    print(f"{len(jobs) - len(new)} jobs are in the queue; submitting {len(new)}", flush=True)
    if not new:
        return []
    try:
        with queue.batch():
            submitted = [queue.submit(Task(plan, job, retries)) for job in new]
    except (RuntimeError, OSError) as error:
        raise UserError(f"Slurm refused the jobs: {str(error).splitlines()[-1]}") from error
    known |= {str(job): one.job_id for job, one in zip(new, submitted, strict=True)}
    lines = [f"{number} {job}\n" for job, number in known.items()]
    numbers.write_text("".join(lines))
    print(f"submitted as {submitted[0].job_id} and following; see {numbers}", flush=True)
    return submitted


def queued() -> set[str]:
    """Returns the numbers of the user's jobs that wait or run, such as "17_3".

    Raises:
        UserError: Slurm does not say.
    """
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(f"squeue does not say which jobs are in the queue: {error}") from error
    return set(done.stdout.split())


def _read_numbers(path: Any) -> dict[str, str]:
    lines = path.read_text().splitlines() if path.exists() else []
    pairs = [line.partition(" ") for line in lines]
    return {job: number for number, _, job in pairs}
