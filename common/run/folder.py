"""A run's folder: the names in it, and which configuration and which versions made it.

``config.yaml`` holds the agent's name and every option, ``versions.txt`` what the run
was made with. A folder belongs to one configuration: only what changes neither the
agent nor its data may differ when a run goes on.

Whoever reads or writes a run takes the names below from here; the log, the replay and the
checkpoints are given the paths of their own files.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from common import export
from common.config import difference, read_mapping, to_yaml, update
from common.errors import UserError, nearest
from common.files import replacing
from common.run.processes import Processes
from common.run.versions import describe

Config = TypeVar("Config")

CONFIG = "config.yaml"
VERSIONS = "versions.txt"
METRICS = "metrics.jsonl"
SCORES = "scores.jsonl"
VIDEOS = "videos"
TENSORBOARD = "tensorboard"
CHECKPOINTS = "checkpoints"
REPLAY = "replay"
EXPORT = export.EXPORT
REPORT = "report.html"
PROCESSES = "processes"
WANDB = "wandb"  # The package names it.
PATIENCE = 60.0
"""Seconds after which a file that another host has written must be seen."""
MAY_CHANGE = (
    "env.per_worker",
    "env.workers",
    "replay.memory",
    "replay.prefetch",
    "run.checkpoint_every",
    "run.checkpoints",
    "run.coordinator",
    "run.devices",
    "run.eval_episodes",
    "run.eval_every",
    "run.frames",
    "run.log_every",
    "run.loggers",
    "run.random_episodes",
    "run.report_every",
    "run.updates",
    "run.video",
)
"""Options that may differ when a run is resumed."""


def check(logdir: pathlib.Path, agent: str, config: Any) -> bool:
    """Finds out whether a run would start or go on; touches nothing.

    Args:
        logdir: Folder of the run; need not exist.
        agent: Name of the agent.
        config: The configuration of the run.

    Returns:
        Whether the folder holds this very run already.

    Raises:
        UserError: The folder holds a run of another agent or of other options, is a
            file, has one where a folder belongs, or cannot be written.
    """
    if logdir.exists() and not logdir.is_dir():
        raise UserError(f"{logdir} is a file; choose another --logdir")
    existing = next(path for path in (logdir, *logdir.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise UserError(f"{existing} is a file, not a folder; choose another --logdir")
    if not os.access(existing, os.W_OK):
        raise UserError(f"you may not write to {existing}; choose another --logdir")
    for folder in (logdir / CHECKPOINTS, logdir / REPLAY):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file where a folder belongs; choose another --logdir")
    if not (logdir / CONFIG).exists():
        return False
    changes = difference(read(logdir, agent, config), config)
    changes = [change for change in changes if change.path not in MAY_CHANGE]
    if changes:
        listed = ", ".join(map(str, changes[:4])) + (", ..." if len(changes) > 4 else "")
        raise UserError(
            f"{logdir} holds a run of another configuration: {listed}; repeat the options of "
            "that run to go on with it, or choose another --logdir"
        )
    return True


class Lock:
    """Keeps a second process away from a run's folder while the first one works in it.

    The kernel drops the lock with the process, however that ends, and nothing is written.
    Where the file system cannot lock a folder, nobody is kept away.
    """

    def __init__(self, logdir: pathlib.Path):
        """Holds nothing yet."""
        self._logdir = logdir
        self._descriptor: int | None = None
        self._came_first = False
        self.taken = False
        """Whether ``acquire`` was ever let in."""

    def acquire(self) -> None:
        """Takes the lock where the folder exists and the lock is not held already.

        Raises:
            UserError: Another process has it, or had it since a call for which there was no
                folder yet: what is there now is a run that the caller does not know.
        """
        if self.taken:
            return
        if not self._logdir.is_dir():
            self._came_first = True
            return
        descriptor = os.open(self._logdir, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise UserError(
                f"another process trains in {self._logdir}; wait for it, or choose another --logdir"
            ) from None
        except OSError:  # A file system, often one over the network, that locks no folders.
            os.close(descriptor)
        else:
            self._descriptor = descriptor
        if self._came_first and (self._logdir / CONFIG).exists():
            self.release()
            raise UserError(
                f"another process has begun a run in {self._logdir} meanwhile; repeat the "
                "command to go on with it, or choose another --logdir"
            )
        self.taken = True

    def release(self) -> None:
        """Gives the lock back where it is held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def make(logdir: pathlib.Path) -> None:
    """Makes the folder.

    Raises:
        UserError: It cannot be made.
    """
    try:
        logdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make {logdir}: {error.strerror}; choose another --logdir"
        ) from error


def write(logdir: pathlib.Path, agent: str, config: Any) -> None:
    """Writes ``config.yaml`` and, for a new run, ``versions.txt``; makes the folder.

    Raises:
        UserError: The folder cannot be made, or a file cannot be written.
    """
    make(logdir)
    with replacing(logdir / CONFIG) as temporary:
        temporary.write_text(f"agent: {agent}\n{to_yaml(config)}", encoding="utf-8")
    if not (logdir / VERSIONS).exists():
        with replacing(logdir / VERSIONS) as temporary:
            temporary.write_text(describe(), encoding="utf-8")


def check_shared(logdir: pathlib.Path, processes: Processes) -> None:
    """Has all processes look for what the first one has written.

    Folders over a network show what is new after a while, so it is looked for some time.

    Raises:
        UserError: One of them does not see it; in all, as none of them will mend it.
    """
    end = time.monotonic() + PATIENCE
    while not (seen := (logdir / CONFIG).exists()) and time.monotonic() < end:
        time.sleep(0.1)
    blind = [str(index) for index, sees in enumerate(processes.gather(seen)) if not sees]
    if blind:
        raise UserError(
            f"{logdir} is not one folder for all: process(es) {', '.join(blind)} do not see the "
            f"{CONFIG} that process 0 wrote; all processes need one --logdir on a disk that they "
            "share"
        )


@contextlib.contextmanager
def undone_on_error(logdir: pathlib.Path, lock: Lock, keep: Callable[[], bool]) -> Iterator[None]:
    """Leaves the folder as it was where a run fails by a user's mistake.

    Args:
        logdir: Folder of the run; need not exist.
        lock: Of the folder. Whoever did not get it wrote nothing, and what is there is another
            run's.
        keep: Asked after the failure: whether the folder holds what is worth keeping.
    """
    before = set(logdir.iterdir()) if logdir.exists() else set()
    missing = [path for path in (logdir, *logdir.parents) if not path.exists()]
    try:
        yield
    except UserError:
        if lock.taken and not keep():
            for path in set(logdir.iterdir() if logdir.exists() else ()) - before:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            for path in missing:
                with contextlib.suppress(OSError):  # Somebody else has put something there.
                    path.rmdir()
        raise


def agent_name(logdir: pathlib.Path) -> str:
    """Returns the name of the agent that a run trained.

    Raises:
        UserError: The folder holds no run.
    """
    return str(_read(logdir)["agent"])


def read(logdir: pathlib.Path, agent: str, default: Config) -> Config:
    """Reads the configuration of a run.

    Args:
        logdir: Folder of the run.
        agent: Name of the agent that the caller knows how to build.
        default: A configuration of that agent.

    Raises:
        UserError: The folder holds no run, or one of another agent or version.
    """
    values = _read(logdir)
    name = values.pop("agent")
    if name != agent:
        raise UserError(f"{logdir} holds a run of {name}, not of {agent}; use the {name} command")
    return update(default, values)


def _read(logdir: pathlib.Path) -> dict[str, Any]:
    path = pathlib.Path(logdir) / CONFIG
    if not path.exists():
        raise UserError(f"there is no run in {logdir}{_nearby(pathlib.Path(logdir))}")
    values = read_mapping(path)
    if "agent" not in values:
        raise UserError(f"{path} does not name its agent; it was not written by this package")
    return values


def _nearby(logdir: pathlib.Path) -> str:
    """Completes "there is no run in ..." with a run that lies inside or beside it."""
    inside = sorted(logdir.glob(f"*/{CONFIG}"))
    if inside:
        return f"; did you mean {str(inside[0].parent)!r}?"
    beside = {path.parent.name for path in logdir.parent.glob(f"*/{CONFIG}")}
    if beside:
        return nearest(logdir.name, beside)
    return f"; expected a folder with {CONFIG}, made by the train command"
