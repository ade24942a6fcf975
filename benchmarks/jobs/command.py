"""The run and status commands of a benchmark."""

from __future__ import annotations

import argparse
import os
import pathlib
import shlex
from collections.abc import Callable, Sequence

from benchmarks.jobs import plan as plans
from benchmarks.jobs import record as records
from benchmarks.jobs import states
from benchmarks.jobs.plan import Job, Plan
from benchmarks.options import Parser
from benchmarks.suites import suite
from common.errors import UserError, nearest

FEW = 20
"""Failed jobs whose last lines are shown."""


def run(suite_name: str, argv: Sequence[str]) -> int:
    """Trains an agent on a suite, or goes on with that.

    Args:
        suite_name: One of ``SUITES``.
        argv: The words after the command.

    Returns:
        0 when all jobs are done or submitted, 1 where some failed, 130 after a stop.

    Raises:
        UserError: Something in the options is wrong.
    """
    own, options = _split(argv)
    given = _run_parser(suite_name).parse(own)
    wanted = plans.make(
        suite(suite_name),
        pathlib.Path(given.logdir),
        given.agent,
        given.configs,
        given.games,
        given.seeds,
        options,
        given.fleet,
    )
    plan = plans.extend(wanted)
    left = [job for job in wanted.jobs if not states.finished(plan, job)]
    jobs = list(dict.fromkeys(plan.crew(job)[0] for job in left))
    if given.print_commands:
        for job in jobs:
            print(shlex.join(plan.command(job)))
        return 0
    launch = _launcher(given)
    plans.write(plan)
    print(f"{len(wanted.jobs)} jobs in {plan.logdir}, {len(wanted.jobs) - len(left)} done before")
    for job in jobs:
        records.renew(plan.record(job), plan.log(job))
    complete = launch(plan, jobs) if jobs else True
    return _conclude(plan, wanted.jobs, complete, submitted=given.launcher == "slurm")


def status(suite_name: str, argv: Sequence[str]) -> int:
    """Shows how far the jobs of a folder are.

    Args:
        suite_name: One of ``SUITES``.
        argv: The words after the command.

    Returns:
        0.

    Raises:
        UserError: There is no benchmark of that suite.
    """
    parser = Parser(f"python -m benchmarks {suite_name} status")
    parser.add_argument("--logdir", required=True, help="folder of the benchmark")
    plan = plans.read(pathlib.Path(parser.parse(argv).logdir))
    if plan.suite != suite_name:
        raise UserError(f"{plan.logdir} holds a benchmark of {plan.suite}, not of {suite_name}")
    found = {job: states.progress(plan, job) for job in plan.jobs}
    print(f"{plan.agent} on {plan.suite}, {' '.join([*plan.configs, *plan.options])}\n")
    print(states.grid(plan, found), end="\n\n")
    print(states.summary(plan, list(found.values())))
    failed = [job for job, one in found.items() if one.state == "failed"]
    for job in failed[:FEW]:
        print(states.failure(plan, job))
    return 0


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separates the words after ``--``, which are for the train command."""
    words = list(argv)
    if "--" not in words:
        return words, []
    end = words.index("--")
    return words[:end], words[end + 1 :]


def _run_parser(suite_name: str) -> Parser:
    parser = Parser(
        f"python -m benchmarks {suite_name} run",
        description="Trains an agent on every task and seed. The same command on the same "
        "folder goes on where it was; games and seeds may be added.",
        epilog="What follows -- goes to every train command: -- --run.frames 1e6",
    )
    own = ", ".join(suite(suite_name).configs)
    add = parser.add_argument
    add("--logdir", required=True, help="folder of the benchmark; shared by all machines")
    add("--agent", default="dreamer", help=f"{' or '.join(plans.AGENTS)} [default: dreamer]")
    add("--configs", nargs="+", default=[], metavar="PRESET", help=f"presets [default: {own}]")
    add("--games", nargs="+", default=["all"], metavar="NAME", help="tasks [default: all]")
    add("--seeds", type=int, default=5, help="number of seeds, from 0 on [default: 5]")
    add("--retries", type=int, default=2, help="starts after a failure [default: 2]")
    add("--fleet", type=int, default=1, help="runs that one process trains in one program, for a "
        "GPU: seeds of a game, with the suite atari also different games [default: 1]")  # fmt: skip
    add("--print-commands", action="store_true", help="print the commands of what is left to do")
    add("--launcher", default="local", help="local, slurm or ray [default: local]")
    add(
        "--jobs",
        type=int,
        help="jobs at a time: local, on each GPU or on the machine where there is none "
        "[default: 1]; slurm and ray, in all [default: what the cluster takes]",
    )
    add(
        "--cores",
        type=int,
        help="CPU cores of a job [default: local, an equal share; slurm 4; ray 1]",
    )
    add("--gpus", type=float, help="slurm and ray: GPUs of a job; ray also parts of one, such "
        "as 0.5 [default: slurm 1; ray 1 where the cluster has any]")  # fmt: skip
    add("--partition", default="", help="slurm: partition [default: the cluster's own]")
    add("--time", type=int, default=1440, help="slurm: minutes after which a job goes back to "
        "the queue with a checkpoint [default: 1440]")  # fmt: skip
    return parser


def _launcher(given: argparse.Namespace) -> Callable[[Plan, Sequence[Job]], bool]:
    """Returns what works on jobs, after a look at its options.

    Raises:
        UserError: An unknown launcher, or options that it has no use for.
    """
    for name in ("jobs", "cores", "time"):
        value = getattr(given, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} is {value}; expected at least 1")
    for name in ("retries", "gpus"):
        value = getattr(given, name)
        if value is not None and value < 0:
            raise UserError(f"--{name} is {value}; expected at least 0")
    if given.launcher not in _LAUNCHERS:
        raise UserError(f"unknown launcher {given.launcher!r}{nearest(given.launcher, _LAUNCHERS)}")
    return _LAUNCHERS[given.launcher](given)


def _local(given: argparse.Namespace) -> Callable[[Plan, Sequence[Job]], bool]:
    from benchmarks.jobs import local

    if given.gpus is not None:
        raise UserError(
            "--gpus is for slurm and ray; choose those of this machine by CUDA_VISIBLE_DEVICES"
        )
    devices, available = local.gpus(os.environ), sorted(os.sched_getaffinity(0))
    slots = local.make_slots(given.jobs or 1, given.cores, devices, available)
    return lambda plan, jobs: local.launch(plan, jobs, slots, given.retries)


def _slurm(given: argparse.Namespace) -> Callable[[Plan, Sequence[Job]], bool]:
    from benchmarks.jobs import slurm

    if given.gpus is not None and given.gpus != int(given.gpus):
        raise UserError(f"--gpus is {given.gpus:g}; slurm has whole ones only")
    gpus = 1 if given.gpus is None else int(given.gpus)
    request = slurm.Request(
        given.partition, given.time, gpus, given.cores or 4, given.jobs or slurm.MOST_AT_A_TIME
    )

    def launch(plan: Plan, jobs: Sequence[Job]) -> bool:
        slurm.launch(plan, jobs, request, given.retries)
        return True

    return launch


def _ray(given: argparse.Namespace) -> Callable[[Plan, Sequence[Job]], bool]:
    from benchmarks.jobs import ray_cluster

    request = ray_cluster.Request(
        given.cores or 1, given.gpus, given.jobs or ray_cluster.MOST_AT_A_TIME
    )
    return lambda plan, jobs: ray_cluster.launch(plan, jobs, request, given.retries)


_LAUNCHERS = {"local": _local, "slurm": _slurm, "ray": _ray}


def _conclude(plan: Plan, jobs: Sequence[Job], complete: bool, submitted: bool) -> int:
    """Says how it ended; returns the exit code."""
    found = [states.progress(plan, job) for job in jobs]
    print(states.summary(plan, found))
    if not complete:
        print("stopped; the same command goes on from here")
        return 130
    if submitted:
        print(f"python -m benchmarks {plan.suite} status --logdir {plan.logdir} shows the rest")
        return 0
    if all(one.state == "done" for one in found):
        return 0
    print("not all jobs are done; the same command tries them again, each with all its retries")
    return 1
