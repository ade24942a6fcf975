"""Starts the processes of a training on this machine.

``python -m tests.run.several FOLDER AGENT train ...`` is one of them that keeps the rows of every
update in ``FOLDER/<index>-<update>.npz``.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import numpy as np

from common.run.learner import AgentLearner
from common.run.processes import Place, free_port

HERE = "127.0.0.1"
FAKE = ("tests.fake_agent", "train")


def start(logdir: pathlib.Path, *words: str, amount: int = 2, program: tuple[str, ...] = FAKE):
    """Starts all processes of one training in a folder."""
    there = f"{HERE}:{free_port(HERE)},{amount}"
    return [one(logdir, f"{there},{index}", *words, program=program) for index in range(amount)]


def one(logdir: pathlib.Path, coordinator: str, *words: str, program: tuple[str, ...] = FAKE):
    """Starts one process."""
    command = [sys.executable, "-m", *program, "--logdir", str(logdir), *words]
    return subprocess.Popen(
        [*command, "--run.coordinator", coordinator],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def end(processes, timeout: float = 300) -> list[tuple[int, str, str]]:
    """Waits for them; returns code, output and errors of each."""
    try:
        texts = [process.communicate(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(one.returncode, *text) for one, text in zip(processes, texts, strict=True)]


def _keep_rows(folder: pathlib.Path, index: int) -> None:
    place, made = AgentLearner.place, iter(range(10**6))

    def keep(self: AgentLearner, rows):
        np.savez(folder / f"{index}-{next(made):03d}.npz", **rows)
        return place(self, rows)

    AgentLearner.place = keep


if __name__ == "__main__":
    from dreamer.program import main

    folder, *rest = sys.argv[1:]
    _keep_rows(pathlib.Path(folder), Place.parse(rest[rest.index("--run.coordinator") + 1]).index)
    sys.exit(main(rest))
