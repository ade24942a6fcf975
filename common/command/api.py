"""What the train command does, for callers from Python."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from common.command.commands import LoadProgram
from common.command.line import prepare
from common.command.presets import resolve
from common.command.trust import check_presets, remember_run

if TYPE_CHECKING:
    from common.run.progress import Result


def train(
    load_program: LoadProgram,
    logdir: str | pathlib.Path,
    presets: str | Sequence[str],
    options: Mapping[str, Any],
    **handed: Any,
) -> Result:
    """Trains an agent as the train command does, and writes no report.

    Args:
        load_program: Imports and returns the agent.
        logdir: The run folder.
        presets: Names of presets, composed from left to right; or one.
        options: Options by their dotted path, over those of the presets.
        handed: ``envs``, ``loggers`` and ``progress`` as of ``common.run.train.train``.

    Raises:
        UserError: As of ``common.run.train.train``; or an unknown preset or option.
    """
    prepare()
    program = load_program()
    names = (presets,) if isinstance(presets, str) else tuple(presets)
    config = resolve(program, names, options)
    check_presets(program, names, options, config)
    remember_run(logdir, config)
    from common.run.train import train as run

    return run(program, config, logdir, **handed)
