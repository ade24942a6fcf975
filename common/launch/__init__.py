"""Several machines make one training: ``train --launcher ray`` or ``slurm``.

Each machine runs the train command itself, told by ``run.coordinator`` where the others are, and
writes what it says to a file of its own in the run's folder. Where one is lost the others end by
themselves, and all start again from the newest checkpoint.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

from common.launch.request import OPTIONS, Request
from common.run.config import Settings, environments_each

__all__ = ["OPTIONS", "launch"]


def launch(
    program: str,
    argv: Sequence[str],
    given: Mapping[str, str],
    config: Settings,
    logdir: pathlib.Path,
) -> int:
    """Starts a training on several machines.

    Args:
        program: Name of the agent, which is that of its package.
        argv: The words after ``train``.
        given: Those of ``OPTIONS`` that are among them, with their values.
        config: What the words give.
        logdir: The run's folder, on a disk that all machines share.

    Returns:
        The exit code: 0 where it is complete, or in Slurm's queue; 75 where it was stopped, 1 where
        it failed too often, 2 after a mistake that one of the processes found.

    Raises:
        UserError: Something in the options is wrong, or the cluster is not there.
    """
    wanted = Request.read(program, argv, given, logdir)
    environments_each(config, wanted.nodes)  # A mistake that no machine is needed for.
    if wanted.launcher == "slurm":
        from common.launch.on_slurm import submit

        number = submit(wanted).job_id
        print(f"submitted as {number}: {wanted}; its words: {wanted.log(0)}", flush=True)
        return 0
    from common.launch.on_ray import train

    return train(wanted)
