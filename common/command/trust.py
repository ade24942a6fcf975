"""What a file may make a command do: nothing that was not named on the command line too.

A task may be a function of any module, which is imported and called, and environments take
keyword arguments. Whoever writes such a task on the command line wants that; a file of somebody
else's, an export, a run folder or a preset, may only ask for it. Of a run that this user began,
the word was given to ``train``; a mark outside of the run's folder, which no file of others can
make, remembers it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from common.command.cache import cache_folder
from common.command.presets import is_own, load_presets
from common.envs.registry import OWN
from common.errors import UserError
from common.run.config import Settings
from common.run.program import Program


def check_task(
    task: str, kwargs: Mapping[str, Any], word: str | None, source: str | pathlib.Path
) -> None:
    """Refuses a task of a file that runs code of others, unless it was repeated.

    Args:
        task: The task that the file names.
        kwargs: What the file hands to its environment.
        word: ``--task`` of the command line; None where it was not given.
        source: The file.

    Raises:
        UserError: The task names a module, or its environment takes arguments, and it was not
            repeated on the command line, nor is the file that of a run which was begun with
            it; or another task was repeated.
    """
    if word is not None and word != task:
        raise UserError(f"{source} names the task {task!r}, not {word!r}; leave --task out")
    if word is None and _runs_code(task, kwargs) and not _mark(source, task, kwargs).exists():
        what = "with code of that module" if ":" in task else "with these arguments"
        given = f" and hands env.kwargs {dict(kwargs)} to it" if kwargs else ""
        raise UserError(
            f"{source} names the task {task!r}{given}; to build its environment {what}, repeat "
            f"it on the command line: --task {shlex.quote(task)}"
        )


def remember_run(logdir: str | pathlib.Path, config: Settings) -> None:
    """Notes that a run in this folder is begun with a task that runs code of others.

    Where nothing can be noted, ``check_task`` asks for the word.
    """
    task, kwargs = config.task, config.env.kwargs
    if _runs_code(task, kwargs):
        mark = _mark(logdir, task, kwargs)
        with contextlib.suppress(OSError):
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()


def _runs_code(task: str, kwargs: Mapping[str, Any]) -> bool:
    return ":" in task or (bool(kwargs) and not task.startswith(OWN))


def _mark(path: str | pathlib.Path, task: str, kwargs: Mapping[str, Any]) -> pathlib.Path:
    """Where ``remember_run`` notes a run: by its folder, its task and all arguments."""
    place = pathlib.Path(path).expanduser().resolve()
    folder = place.parent if place.is_file() else place
    words = json.dumps([str(folder), task, dict(kwargs)], sort_keys=True, default=repr)
    return cache_folder() / "runs" / hashlib.sha256(words.encode()).hexdigest()


def check_presets(
    program: Program, names: Sequence[str], values: Mapping[str, Any], config: Settings
) -> None:
    """Refuses what presets that are files of the user's may not decide alone.

    Args:
        program: The agent.
        names: The presets.
        values: Options by their full path, as they were given beside the presets.
        config: What all that gave.

    Raises:
        UserError: As of ``check_task``.
    """
    files = [name for name in names if not is_own(name)]
    if "task" in values or not files:
        return
    found = load_presets(files, program.name, config.task)
    task = config.task if "task" in found else ""
    kwargs = found.get("env", {}).get("kwargs") or {}
    check_task(task or (config.task if kwargs else ""), kwargs, None, " and ".join(files))
