"""A training on the machines of a Slurm cluster, by submitit: one task on each.

Slurm says some minutes before it takes the machines back: then the training writes a checkpoint,
and goes back to the queue.
"""

from __future__ import annotations

import os
import pathlib
import zlib
from typing import Any

from common.errors import MISTAKE, STOPPED, Lost, UserError
from common.launch.process import Command, train
from common.launch.request import Request

SIGNAL_SECONDS = 120
"""How long before the end of its time a task is told to stop; checkpoints take a while."""
MOST_REQUEUES = 1000


def executor(folder: pathlib.Path, cluster: str = "slurm", **parameters: Any) -> Any:
    """Returns what submits tasks.

    Args:
        folder: For what submitit writes.
        cluster: "slurm", or "local" for processes of this machine.
        parameters: What a task asks for, as submitit calls it.

    Raises:
        UserError: submitit is missing, or Slurm.
    """
    # Its way to set up logging would close the handlers of others.
    os.environ.setdefault("SUBMITIT_LOG_LEVEL", "NOCONFIG")
    try:
        import submitit
    except ImportError as error:
        raise UserError(
            "--launcher slurm needs submitit: pip install 'world-model-agents[cluster]'"
        ) from error
    try:
        options = {"slurm_max_num_timeout": MOST_REQUEUES} if cluster == "slurm" else {}
        found = submitit.AutoExecutor(folder, cluster=cluster, **options)
    except RuntimeError as error:
        raise UserError(f"{error}; run this where sbatch is, or choose a --launcher") from error
    found.update_parameters(**parameters)
    return found


def parameters(name: str, minutes: int, cores: int, gpus: int, partition: str) -> dict[str, Any]:
    """Returns what submitit calls all this, of a task that may go back to the queue."""
    asked: dict[str, Any] = {
        "name": name,
        "timeout_min": minutes,
        "cpus_per_task": cores,
        "slurm_signal_delay_s": SIGNAL_SECONDS,
        "slurm_additional_parameters": {"requeue": True},
    }
    if gpus:
        asked["gpus_per_node"] = gpus
    if partition:
        asked["slurm_partition"] = partition
    return asked


def submit(wanted: Request, cluster: str = "slurm") -> Any:
    """Hands a training to Slurm and returns at once.

    Args:
        wanted: What to train.
        cluster: As of ``executor``.

    Returns:
        The job, as submitit knows it.

    Raises:
        UserError: As of ``executor``, or Slurm refused it.
    """
    asked = parameters("train", wanted.minutes, wanted.cores, wanted.gpus, wanted.partition)
    folder = wanted.log(0).parent / "slurm"
    on_one = {} if cluster == "slurm" else {"tasks_per_node": wanted.nodes}
    asked |= on_one or {"nodes": wanted.nodes, "tasks_per_node": 1}
    try:
        return executor(folder, cluster, **asked).submit(Task(wanted))
    except (RuntimeError, OSError) as error:
        raise UserError(f"Slurm refused the training: {str(error).splitlines()[-1]}") from error


class Task:
    """What each of the tasks calls."""

    def __init__(self, wanted: Request):
        """Starts nothing yet."""
        self._wanted, self._command = wanted, Command()

    def __call__(self) -> int:
        """Trains until the end, with as many starts as are wanted; returns the exit code.

        Raises:
            Lost: It failed too often.
        """
        import submitit

        here = submitit.JobEnvironment()
        # The same in all tasks, and below the ports that systems hand out themselves.
        port = 20_000 + 2 * (zlib.crc32(here.job_id.encode()) % 5_000)
        for _ in range(self._wanted.retries + 1):
            place = here.hostnames[0], port, here.global_rank
            code = train(self._command, self._wanted, place)
            if code in (0, MISTAKE, STOPPED):
                return code
        raise Lost(f"given up after {self._wanted.retries} retries; {self._wanted.fault()}")

    def checkpoint(self) -> Any:
        """Stops the training when Slurm asks for the machines; the rest is done later."""
        import submitit

        self._command.stop()
        self._command.join()
        return submitit.helpers.DelayedSubmission(Task(self._wanted))
