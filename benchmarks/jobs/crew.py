"""Works on several jobs of a benchmark in one program; a launcher starts it.

    python -m benchmarks.jobs.crew LOGDIR GAME SEED

trains the job of that game and seed with those beside which it runs (``Plan.crew``).
"""

from __future__ import annotations

import importlib
import pathlib
import sys
from collections.abc import Sequence

from benchmarks.jobs import plan as plans
from common.command import flags
from common.command.line import prepare
from common.command.memory import restart_with_memory_settings
from common.command.presets import resolve
from common.command.training import train_members
from common.errors import UserError, exit_code


def run(argv: Sequence[str]) -> int:
    """Trains; returns the exit code, as ``common.command.training.train_members``.

    Args:
        argv: Folder of the benchmark, game and seed of the first job.

    Raises:
        UserError: The folder has no such job, or a run cannot begin.
    """
    from common.run.members import Member

    folder, game, seed = argv
    plan = plans.read(pathlib.Path(folder))
    first = [job for job in plan.jobs if (job.game, str(job.seed)) == (game, seed)]
    if not first:
        raise UserError(f"{folder} lists no job {game} seed {seed}")
    program = importlib.import_module(f"{plan.agent}.program").load_program()
    members = []
    for job in plan.crew(first[0]):
        words = (*job.options, *plan.options)
        given = flags.parse_flags(words, program.default_config)
        own = {"task": job.task, "seed": job.seed}
        config = resolve(program, (*plan.configs, *given.configs), given.values | own)
        members.append(Member(str(job), config, plan.folder(job)))
    return train_members(program, members)


if __name__ == "__main__":
    restart_with_memory_settings()
    prepare()
    sys.exit(exit_code(lambda: run(sys.argv[1:])))
