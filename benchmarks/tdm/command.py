"""The commands ``python -m benchmarks tdm <command>``."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence

from benchmarks.options import Parser
from common.command.table import HELP, Command, find, listing

PROGRAM = "python -m benchmarks tdm"
EPILOG = """\
policies, separated by commas:
  random           uniform random actions
  simulator        a planner with MuJoCo itself as its model
  simulator:0.3    the same with Gaussian noise of that deviation on its actions
  10e3             an agent trained for that many frames with --configs; one training gives
                   all levels, and its run is kept under DATA/agents
  runs/walker      a trained agent: its run folder or exported file
What follows -- goes to every training: -- --run.train_every 2
"""


def run_command(argv: Sequence[str]) -> int:
    """Runs one command line.

    Args:
        argv: The words after "tdm".

    Raises:
        UserError: The command is unknown, or whatever it raises.
    """
    if not argv or argv[0] in HELP:
        print(_overview())
        return 0
    word, *words = argv
    command = find(word, COMMANDS)
    from common.command.line import prepare

    prepare()
    return command.run(words)


def _overview() -> str:
    lines = [
        f"usage: {PROGRAM} <command> [--option VALUE ...]",
        "",
        *listing(COMMANDS),
        "",
        f"'{PROGRAM} <command> --help' explains the options of a command.",
        "",
        "for example:",
        f"  {PROGRAM} collect --tasks dmc_cartpole_swingup,dmc_cartpole_swingup@1 \\",
        "    --policies random,simulator,simulator:0.3,10e3,40e3 --episodes 5 --data data/tdm",
        f"  {PROGRAM} experiments --preset small --data data/tdm --results results/tdm",
    ]
    return "\n".join(lines)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _collect(argv: Sequence[str]) -> int:
    own, training = list(argv), []
    if "--" in own:
        end = own.index("--")
        own, training = own[:end], own[end + 1 :]
    parser = Parser(
        f"{PROGRAM} collect",
        description="Plays episodes of several bodies with policies of several skills and writes "
        "them as\nDATA/<task>/<policy>/*.npz. The same command goes on where it stopped.",
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("--tasks", type=_words, required=True, help="separated by commas; dmc_walker_walk@12 too")
    add("--policies", type=_words, default=("random",), help="see below (random)")
    add("--episodes", type=int, default=5, help="episodes of each task and policy (5)")
    add("--seed", type=int, default=0, help="seed of episodes, policies and trainings (0)")
    add("--data", type=pathlib.Path, default=pathlib.Path("data/tdm"), help="where to (data/tdm)")
    add("--action-repeat", type=int, default=-1, help="-1 for PlaNet's of each task (-1)")
    add("--time-limit", type=int, default=0, help="longest episode in frames; 0: the task's own")
    add("--candidates", type=int, default=40, help="planner: sequences; a tenth is kept (40)")
    add("--iterations", type=int, default=3, help="planner: rounds of CEM (3)")
    add("--horizon", type=int, default=12, help="planner: steps of a plan (12)")
    add("--configs", nargs="+", default=["quickstart"], help="presets of trainings (quickstart)")
    values = parser.parse(own)

    from benchmarks.tdm.collect import collect, table
    from benchmarks.tdm.options import Options
    from common.envs.config import EnvConfig
    from common.planner import PlannerConfig

    env = EnvConfig(
        pixels=False, state=True, action_repeat=values.action_repeat, time_limit=values.time_limit
    )
    top = max(values.candidates // 10, 1)
    planner = PlannerConfig(
        horizon=values.horizon, iterations=values.iterations, candidates=values.candidates, top=top
    )
    options = Options(
        values.tasks, values.policies, values.episodes, values.seed, values.data, env, planner,
        ("--configs", *values.configs, *training),
    )  # fmt: skip
    print(table(collect(options)))
    return 0


def _export(argv: Sequence[str]) -> int:
    parser = Parser(
        f"{PROGRAM} export",
        description="Writes the episodes of one body as a local Minari dataset; Minari keeps it\n"
        "in ~/.minari, or in $MINARI_DATASETS_PATH.",
    )
    add = parser.add_argument
    add("--data", type=pathlib.Path, required=True, help="such as data/tdm/dmc_cartpole_swingup")
    add("--minari", required=True, help="name of the new dataset, such as cartpole/swingup-v0")
    add("--task", help="the task that was played, if it is a module's function")
    values = parser.parse(argv)
    from benchmarks.tdm.exchange import export_minari

    print(export_minari(values.data, values.minari, values.task))
    return 0


def _import(argv: Sequence[str]) -> int:
    parser = Parser(
        f"{PROGRAM} import",
        description="Writes the episodes of a local Minari dataset as DATA/<task>/<policy>/*.npz.",
    )
    add = parser.add_argument
    add("--minari", required=True, help="name of the dataset; minari list local")
    add("--data", type=pathlib.Path, default=pathlib.Path("data/tdm"), help="where to (data/tdm)")
    add("--task", required=True, help="what to call the body, such as gym_Pendulum-v1")
    add("--policy", help="what to call its policy (the name of the dataset)")
    values = parser.parse(argv)
    from benchmarks.tdm.exchange import import_minari

    print(import_minari(values.minari, values.data, values.task, values.policy))
    return 0


def _experiment(name: str) -> Callable[[Sequence[str]], int]:
    def call(argv: Sequence[str]) -> int:
        from benchmarks.tdm.experiments import experiment_command

        return experiment_command(name, argv)

    return call


def _report(argv: Sequence[str]) -> int:
    from benchmarks.tdm.experiments import report_command

    return report_command(argv)


COMMANDS = {
    "collect": Command(_collect, "Plays episodes of several bodies at several levels of skill."),
    "export": Command(_export, "Writes the episodes of one body as a Minari dataset."),
    "import": Command(_import, "Takes over the episodes of a Minari dataset."),
    "specialist": Command(_experiment("specialist"), "Compares models that learned one body."),
    "few-shot": Command(_experiment("few-shot"), "Fine-tunes a generalist on a few episodes."),
    "zero-shot": Command(_experiment("zero-shot"), "Plans for bodies that were never seen."),
    "experiments": Command(_experiment("experiments"), "Runs all three, data included."),
    "choices": Command(_experiment("choices"), "Tries the switches of the TDM, on seed 0."),
    "report": Command(_report, "Writes one page of what was found."),
}
"""Every command; each runs ``(words after the command) -> exit code``."""
