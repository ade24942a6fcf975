"""Searches over options: trials are runs, stopped early where others learned faster.

    python -m benchmarks tune --configs dmc_state_cpu --task dmc_cartpole_swingup
        --space space.yaml --trials 32 --logdir runs/tune

space.yaml names options, each with one of {choice: [...]}, {uniform: [a, b]}, {log: [a, b]} and
{integer: [a, b]}. Every trial is a run of the train command in <logdir>/trials/<number>. The same
command on the same folder goes on with the search; more --trials may be asked for later.
"""

from __future__ import annotations

import argparse
import importlib
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

from benchmarks.jobs.plan import AGENTS
from benchmarks.options import Parser
from benchmarks.tune import search as searching
from benchmarks.tune.page import BEST, PAGE, write_best, write_report
from benchmarks.tune.progress import describe
from benchmarks.tune.record import Question, Record, ranked
from benchmarks.tune.space import outside, own_values, read_space
from common.command import flags
from common.command.line import prepare
from common.command.presets import preset_names, resolve
from common.envs.registry import action_repeat
from common.errors import UserError, nearest

OWN = ("configs", "task", "seed", "logdir")
_OF_LENGTH = ("run.", "replay.", "env.")
"""Options that say when a run begins to learn, which nobody knows where they are searched over."""


def run_command(argv: Sequence[str]) -> int:
    """Runs ``tune`` with the words after it.

    Returns:
        0 where some trial has an area, 1 where none has, 130 after a stop.
    """
    words = list(argv)
    cut = words.index("--") if "--" in words else len(words)
    given = _parser().parse(words[:cut])
    prepare()
    for name, least in (("trials", 1), ("jobs", 1), ("seed", 0), ("cores", 1), ("gpus", 0)):
        if not getattr(given, name) >= least:
            raise UserError(f"--{name} is {getattr(given, name)}; expected at least {least}")
    if not 0 < given.grace <= 1:
        raise UserError(f"--grace is {given.grace:g}; expected a share of a run, above 0 to 1")
    question, config = _question(given, words[cut + 1 :])
    searching.check()
    record = Record(given.logdir.expanduser().absolute(), question)
    try:
        return _search(record, question, given, config, argv)
    finally:
        record.close()


def _parser() -> Parser:
    parser = Parser(
        "python -m benchmarks tune",
        description=__doc__,
        epilog="What follows -- goes to every train command: -- --run.frames 5e4",
    )
    add = parser.add_argument
    add("--configs", nargs="+", required=True, metavar="PRESET", help="presets of every trial")
    add("--task", required=True, help="task of every trial")
    add("--space", type=pathlib.Path, required=True, help="YAML file of what is searched over")
    add("--logdir", type=pathlib.Path, required=True, help="folder of the search")
    add("--agent", default="dreamer", help=f"{' or '.join(AGENTS)} [default: dreamer]")
    add("--trials", type=int, default=32, help="their number in the end [default: 32]")
    add("--seed", type=int, default=0, help="of every run, and of the searcher [default: 0]")
    add("--grace", type=float, default=1 / 9, help="share of a run's frames before which none is "
        "stopped; 1 stops none [default: 1/9]")  # fmt: skip
    add("--jobs", type=int, default=1, help="trials at a time [default: 1]")
    add("--cores", type=float, default=1, help="CPUs that Ray reserves for one [default: 1]")
    add("--gpus", type=float, default=0, help="GPUs of one, or the part of one, such as 0.5 "
        "[default: 0]")  # fmt: skip
    return parser


def _question(given: argparse.Namespace, options: Sequence[str]) -> tuple[Question, Any]:
    """Returns what is asked and the configuration of the presets, after a look at all of it."""
    if given.agent not in AGENTS:
        raise UserError(f"unknown agent {given.agent!r}{nearest(given.agent, AGENTS)}")
    program = importlib.import_module(f"{given.agent}.program").load_program()
    parsed = flags.parse_flags(options, program.default_config, ("logdir",))
    for name in (*parsed.extra, *parsed.values, *(["configs"] if parsed.configs else [])):
        if name in OWN:
            raise UserError(f"the search sets --{name} of every run; give it before the --")
    known = preset_names()
    # A trial may run on another machine: a preset's file is named by its whole path.
    configs = [
        name if name in known or not pathlib.Path(name).expanduser().exists()
        else str(pathlib.Path(name).expanduser().absolute())
        for name in given.configs
    ]  # fmt: skip
    fixed = {**parsed.values, "task": given.task, "seed": given.seed}
    config = resolve(program, configs, fixed)
    run = config.run
    if run.data:
        raise UserError("tune searches over runs that collect; leave --data out")
    if not run.eval_episodes or not 0 < run.eval_every <= run.frames / 2:
        raise UserError(
            f"trials are compared by the curve of their evaluations: --run.eval_every is "
            f"{run.eval_every:,}, --run.eval_episodes {run.eval_episodes}; expected at most half "
            f"of --run.frames ({run.frames:,}), and an episode or more"
        )
    space = read_space(given.space, program, configs, fixed)
    if not any(one.path.startswith(_OF_LENGTH) for one in space):
        from common.run.online import check_length  # It loads JAX, after ``prepare``.

        check_length(
            config, action_repeat(config.task, config.env.action_repeat), config.env.amount
        )
    grace = max(1, round(run.frames * given.grace))
    chosen = given.task, given.seed, tuple(options), tuple(space)
    return Question(given.agent, tuple(configs), *chosen, run.frames, grace), config


def _search(
    record: Record,
    question: Question,
    given: argparse.Namespace,
    config: Any,
    argv: Sequence[str],
) -> int:
    before = sum(one.state in ("done", "stopped") for one in record.trials.values())
    trials = max(given.trials, len(record.trials))
    print(
        f"{trials} trials of {question.frames:,} frames in {record.logdir}, {before} ended before"
    )
    made = shlex.join(["python", "-m", "benchmarks", "tune", *argv])

    def report() -> None:
        write_best(record, question)
        write_report(record, question, trials, made)

    complete = True
    if before < trials:
        request = searching.Request(trials, given.jobs, given.cores, given.gpus)
        first = own_values(question.space, config)
        if first is None and not record.trials:
            print(f"no trial has the presets' own values: {outside(question.space, config)} "
                  "of the space")  # fmt: skip
        complete = searching.search(record, question, request, first, report)
    report()
    best = ranked(record.trials)
    if best:
        print(f"best: trial {best[0].number}, {describe(best[0].values)}, in "
              f"{record.logdir / BEST}")  # fmt: skip
    print(f"report: {record.logdir / PAGE}")
    if not complete:
        print("stopped; the same command goes on from here")
        return 130
    failed = sum(one.state == "failed" for one in record.trials.values())
    if failed:
        print(f"{failed} failed; the same command tries them again")
    return 0 if best else 1
