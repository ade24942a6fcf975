"""What a launcher is asked for."""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from common import config as configs
from common.errors import UserError, nearest
from common.run import folder as run_folder
from common.run.processes import GONE

OPTIONS = {
    "launcher": "Has several machines make one training: ray, on the cluster of RAY_ADDRESS or on "
    "a Ray that it starts here; or slurm. [one of ray, slurm; default: this process trains]",
    "nodes": "With a launcher: processes, one on each machine where there are as many. "
    "[default: 2]",
    "gpus": "With a launcher: GPUs of each process; run.devices is as many. [default: 0]",
    "cores": "With a launcher: CPU cores of each process. [default: 1]",
    "retries": "With a launcher: starts after a process failed or was lost. [default: 2]",
    "partition": "With slurm: partition. [default: the cluster's own]",
    "time": "With slurm: minutes after which the training goes back to the queue with a "
    "checkpoint. [default: 1440]",
}
"""What ``train`` takes besides, and what it means."""
_NUMBERS = {"nodes": (2, 1), "gpus": (0, 0), "cores": (1, 1), "retries": (2, 0), "time": (1440, 1)}
"""Default and least value."""
_LAUNCHERS = ("ray", "slurm")
HANDED_ON = ("JAX_", "XLA_", "MUJOCO_")
"""Beginnings of the names of variables that processes take from the launcher's shell."""


class Request(NamedTuple):
    """What is launched, and what each process of it asks for.

    Attributes:
        launcher: "ray" or "slurm".
        command: The train command, without ``--run.coordinator``.
        logdir: The run's folder.
        nodes: How many processes.
        gpus: GPUs of each.
        cores: CPU cores of each.
        retries: Starts after a failure.
        partition: Of Slurm; empty for the cluster's own.
        minutes: Time limit of Slurm.
    """

    launcher: str
    command: list[str]
    logdir: pathlib.Path
    nodes: int
    gpus: int
    cores: int
    retries: int
    partition: str
    minutes: int

    @classmethod
    def read(
        cls, program: str, argv: Sequence[str], given: Mapping[str, str], logdir: pathlib.Path
    ) -> Self:
        """Reads it from a command line; arguments as of ``common.launch.launch``.

        Raises:
            UserError: A number is out of its range, or an option is not this launcher's.
        """
        launcher = given.get("launcher", "")
        if launcher not in _LAUNCHERS:
            if not launcher:
                raise UserError(f"--{next(iter(given))} needs --launcher ray or slurm")
            raise UserError(f"unknown --launcher {launcher!r}{nearest(launcher, _LAUNCHERS)}")
        for name in ("partition", "time"):
            if name in given and launcher != "slurm":
                raise UserError(f"--{name} is for --launcher slurm")
        values = {}
        for name, (default, least) in _NUMBERS.items():
            values[name] = configs.coerce(given.get(name, default), int, f"--{name}")
            if values[name] < least:
                raise UserError(f"--{name} must be at least {least}, not {values[name]}")
        nodes, gpus, cores, retries, minutes = values.values()
        words = [
            sys.executable,
            "-u",
            "-m",
            program,
            "train",
            *_without(argv, (*OPTIONS, "logdir")),
        ]
        if gpus > 1 and not any(word.partition("=")[0].endswith("devices") for word in argv):
            words += ["--run.devices", str(gpus)]
        words += ["--logdir", str(logdir.absolute())]
        partition = given.get("partition", "")
        return cls(
            launcher, words, logdir.absolute(), nodes, gpus, cores, retries, partition, minutes
        )

    def log(self, index: int) -> pathlib.Path:
        """The file that process ``index`` writes to."""
        return self.logdir / run_folder.PROCESSES / f"{index}.log"

    def environment(self) -> dict[str, str]:
        """Returns what each process takes from this one's variables."""
        return {name: value for name, value in os.environ.items() if name.startswith(HANDED_ON)}

    def fault(self) -> str:
        """Returns what went wrong by the last words of the process that failed by itself."""
        for index in range(self.nodes):
            path = self.log(index)
            lines = path.read_text(errors="replace").splitlines() if path.exists() else []
            words = lines[-1].removeprefix("error: ") if lines else ""
            if words and words != lines[-1] and GONE not in words:
                return words
        return f"see {self.log(0).parent}"

    def __str__(self) -> str:
        """Says how many processes of what."""
        gpus = f" and {self.gpus} GPU(s)" if self.gpus else ""
        return f"{self.nodes} process(es) of {self.cores} core(s){gpus}"


def _without(argv: Sequence[str], names: Sequence[str]) -> list[str]:
    """Returns the words without some options and their values."""
    kept: list[str] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        name, equals, _ = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name not in names:
            kept.append(word)
        elif not equals:
            words.pop(0)
    return kept
