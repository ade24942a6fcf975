"""The train command: one run, a process of one, several machines, or several seeds at once."""

from __future__ import annotations

import os
import pathlib
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from common.command import trust
from common.command.flags import Flags
from common.config import update
from common.errors import MISTAKE, STOPPED, UserError, exit_code
from common.launch import OPTIONS as OF_LAUNCHERS
from common.launch import launch
from common.run import folder as run_folder
from common.run.config import Settings
from common.run.processes import leads
from common.run.program import Program
from common.trained import refuse_name

if TYPE_CHECKING:
    from common.run.members import Member

OPTIONS = {
    **OF_LAUNCHERS,
    "seeds": "Trains several seeds in one program, such as 1,2,3, each in the folder seed-<seed> "
    "of --logdir. For a GPU, which makes the updates of several in about the time of one; on a CPU "
    "one process a seed is faster. [default: none]",
}
"""What ``train`` takes beside presets and folder, and what it means."""


def run(program: Program, config: Settings, parsed: Flags) -> int:
    """Trains as a command line says.

    Args:
        program: The agent's program.
        config: What its presets and options give.
        parsed: The command line.

    Returns:
        The exit code.

    Raises:
        UserError: Something in the options is wrong.
    """
    given = parsed.extra.get("logdir")
    refuse_name(given or "")
    logdir = pathlib.Path(given).expanduser() if given else None
    asked = {name: parsed.extra[name] for name in OF_LAUNCHERS if name in parsed.extra}
    if "seeds" in parsed.extra:
        if asked:
            raise UserError("--seeds and --launcher do not go together; take one of them")
        if any(word.split("=")[0] == "--seed" for word in parsed.argv):
            raise UserError("--seeds names the seed of every run; leave --seed out")
        return _seeds(program, config, parsed.extra["seeds"], logdir)
    logdir = logdir or default_logdir(program, config)
    run_folder.check(logdir, program.name, config)
    if asked:
        if config.run.coordinator:
            raise UserError("--launcher sets run.coordinator itself; leave that out")
        trust.remember_run(logdir, config)
        return launch(program.name, parsed.argv, asked, config, logdir)
    if config.run.coordinator:
        return _ended_at_once(lambda: _one(program, config, logdir))
    return _one(program, config, logdir)


def default_logdir(program: Program, config: Settings) -> pathlib.Path:
    """Names a folder after agent, task and seed, so that the same command goes on there."""
    task = re.sub(r"[^\w.-]+", "_", config.task)
    return pathlib.Path("runs") / f"{program.name}-{task}-{config.seed}"


def _one(program: Program, config: Settings, logdir: pathlib.Path) -> int:
    trust.remember_run(logdir, config)
    from common.run import train as training

    result = training.train(program, config, logdir)
    if not result.finished:
        return STOPPED
    if leads(config.run.coordinator):
        _report([logdir])
    return 0


def _report(logdirs: Sequence[pathlib.Path]) -> None:
    from common.report.page import write_report

    for logdir in logdirs:
        print(f"report: {write_report(logdir)}", flush=True)


def _ended_at_once(command: Callable[[], int]) -> int:
    """Runs a command that several processes make together; ends this one where it fails.

    JAX would have it wait for the others, which are not going to come to the same end.
    """
    try:
        code = exit_code(command)
    except Exception:
        traceback.print_exc()
        code = 1
    if code not in (0, STOPPED):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _seeds(program: Program, config: Settings, text: str, parent: pathlib.Path | None) -> int:
    """Trains several seeds in one program; returns as ``train_members``."""
    try:
        seeds = [int(word) for word in text.split(",")]
    except ValueError as error:
        raise UserError(f"--seeds is {text!r}; expected numbers such as 1,2,3") from error
    from common.run.members import Member

    members = []
    for seed in seeds:
        own = update(config, {"seed": seed})
        logdir = parent / f"seed-{seed}" if parent else default_logdir(program, own)
        members.append(Member(f"seed {seed}", own, logdir))
    return train_members(program, members)


def train_members(program: Program, members: Sequence[Member]) -> int:
    """Trains the members of a fleet and writes their reports.

    Args:
        program: The agent's program.
        members: The runs.

    Returns:
        The exit code: 0, 2 where one of them failed by a mistake, 1 by anything else, 75 where one
        was stopped.

    Raises:
        UserError: They cannot learn together, or a folder holds another run.
    """
    from common.run.members import check_members, train_fleet

    check_members(members)
    for member in members:
        run_folder.check(member.logdir, program.name, member.config)
        trust.remember_run(member.logdir, member.config)
    ends = train_fleet(program, members)
    failed = [end for end in ends if isinstance(end, Exception)]
    finished = [end.logdir for end in ends if not isinstance(end, Exception) and end.finished]
    _report(finished)
    if failed:
        print(f"{len(failed)} of {len(ends)} runs failed, see above", file=sys.stderr)
        return MISTAKE if any(isinstance(end, UserError) for end in failed) else 1
    return 0 if len(finished) == len(ends) else STOPPED
