"""The command line that every agent's package shares: train, eval, report, doctor, check-env.

Heavy libraries are imported inside the commands, after ``prepare`` has said what they
should do.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import pathlib
import re
import sys
import types
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from common import config as configs
from common.command import doctor, flags, presets
from common.errors import UserError, exit_code, nearest
from common.run import folder as run_folder
from common.run.program import Program
from common.run.versions import DISTRIBUTION, version_of

if TYPE_CHECKING:
    from common.run.evaluation import MakePolicy

LoadProgram = Callable[[], Program]

LEARNED = "learned"
"""The model that an agent has by itself."""


class Command(NamedTuple):
    """One command.

    Attributes:
        run: ``(load_program, parsed flags) -> exit code``.
        summary: What it does.
        options: Its own options, and what each means.
        configured: Whether it takes presets and the agent's options too.
        modelled: Options that it has where there are other models than the learned one; the
            agent's options too.
    """

    run: Callable[[LoadProgram, flags.Flags], int]
    summary: str
    options: Mapping[str, str]
    configured: bool = False
    modelled: Mapping[str, str] = types.MappingProxyType({})

    def within(self, program: Program) -> Command:
        """Returns the command as that program has it."""
        if not (self.modelled and program.models):
            return self
        return self._replace(options={**self.options, **self.modelled}, configured=True)


def main(name: str, load_program: LoadProgram, argv: Sequence[str] | None = None) -> int:
    """Runs one command line.

    Args:
        name: Name of the program, such as "dreamer".
        load_program: Imports and returns the agent.
        argv: The words after the program's name; None takes the process's own.

    Returns:
        The exit code: 0, 1 where the doctor found a problem, 2 after a user's mistake,
        130 after an interrupt.
    """
    prepare()
    words = list(sys.argv[1:] if argv is None else argv)
    return exit_code(lambda: _dispatch(name, load_program, words))


def prepare() -> None:
    """Sets what JAX should do, where the user did not: share memory, cache, keep quiet."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    home = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    cache = os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(home / DISTRIBUTION / "jax"))
    if "jax" in sys.modules:  # Too late for the variable.
        sys.modules["jax"].config.update("jax_compilation_cache_dir", cache or None)
    # Its warning is about children that go on with this program; ours run another one.
    warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
    for noisy in ("absl", "jax._src.xla_bridge", "jax._src.compilation_cache"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


def _dispatch(name: str, load_program: LoadProgram, argv: list[str]) -> int:
    if not argv or argv[0] in ("--help", "-h", "help"):
        print(_overview(name))
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"{name} {version_of(DISTRIBUTION) or '(not installed)'}")
        return 0
    word, *rest = argv
    if word not in COMMANDS:
        raise UserError(f"unknown command {word!r}{nearest(word, COMMANDS)}")
    command = COMMANDS[word]
    if command.modelled:
        command = command.within(load_program())
    if "--help" in rest or "-h" in rest:
        print(_command_help(name, word, command, load_program))
        return 0
    config = load_program().default_config if command.configured else None
    return command.run(load_program, flags.parse_flags(rest, config, tuple(command.options)))


def _overview(name: str) -> str:
    lines = [f"usage: {name} <command> [--option VALUE ...]", "", "commands:"]
    lines += [f"  {word:<12}{command.summary}" for word, command in COMMANDS.items()]
    lines += [
        "",
        f"'{name} <command> --help' explains every option of a command.",
        "",
        "presets, composed from left to right:",
        flags.preset_help(),
        "",
        "for example:",
        f"  {name} train --configs dmc_vision --task dmc_walker_walk --logdir runs/walker",
        f"  {name} train --configs atari --task atari_pong --seed 1 --rssm.deter 400",
        f"  {name} eval --logdir runs/walker --episodes 10 --video walker.mp4",
    ]
    return "\n".join(lines)


def _command_help(name: str, word: str, command: Command, load_program: LoadProgram) -> str:
    parts = [f"usage: {name} {word} [--option VALUE ...]", "", command.summary]
    if command.options:
        parts += ["", f"options of {word}:", flags.entries(command.options)]
    if command.configured:
        parts += [
            "",
            "Options may be shortened to any ending of their name that is unique: --rssm.deter.",
            "",
            flags.help_text(load_program().default_config),
            "",
            "presets for --configs, composed from left to right:",
            flags.preset_help(),
        ]
    return "\n".join(parts)


def resolve_config(program: Program, parsed: flags.Flags) -> Any:
    """Returns the agent's configuration after presets, then flags.

    Raises:
        UserError: An unknown preset or option, or a value of the wrong type.
    """
    values = presets.load_presets(parsed.configs, program.name)
    return configs.update(configs.update(program.default_config, values), parsed.values)


def default_logdir(program: Program, config: Any) -> pathlib.Path:
    """Names a folder after agent, task and seed, so that the same command goes on there."""
    task = re.sub(r"[^\w.-]+", "_", config.task)
    return pathlib.Path("runs") / f"{program.name}-{task}-{config.seed}"


def _train(load_program: LoadProgram, parsed: flags.Flags) -> int:
    program = load_program()
    config = resolve_config(program, parsed)
    given = parsed.extra.get("logdir")
    logdir = pathlib.Path(given).expanduser() if given else default_logdir(program, config)
    run_folder.check(logdir, program.name, config)
    from common.report.page import write_report
    from common.run import train as training

    if training.train(program, config, logdir).finished:
        print(f"report: {write_report(logdir)}", flush=True)
    return 0


def _eval(load_program: LoadProgram, parsed: flags.Flags) -> int:
    program, model = load_program(), parsed.extra.get("model", LEARNED)
    if model not in (LEARNED, *program.models):
        raise UserError(f"unknown --model {model!r}{nearest(model, (LEARNED, *program.models))}")
    logdir = _existing(parsed) if model == LEARNED else None
    episodes = _integer(parsed, "episodes", 10, least=1)
    seed = _integer(parsed, "seed", 0)
    from common.logging.video import check_suffix, write_video
    from common.run.evaluation import play

    film = pathlib.Path(parsed.extra["video"]) if "video" in parsed.extra else None
    if film:
        check_suffix(film)
    player = _learned_player if logdir else _model_player
    config, make_policy = player(program, parsed, seed)
    results = play(config.task, config.env, episodes, seed, make_policy, film=film is not None)
    for task, result in results.tasks.items():
        name = f"{task}: " if len(results.tasks) > 1 else ""
        print(f"{name}returns:", ", ".join(f"{value:.1f}" for value in result.returns))
    print(f"{results} of {results.all.lengths.mean():.0f} agent steps on average")
    if film and not results.videos:
        print("no video: the environment gives no picture", file=sys.stderr)
    for name, video in results.videos.items() if film else ():
        path = film.with_stem(film.stem + name.removeprefix("policy"))
        write_video(path, video)
        print(f"video: {path}")
    return 0


def _learned_player(program: Program, parsed: flags.Flags, seed: int) -> tuple[Any, MakePolicy]:
    """Returns configuration and policy of a trained agent."""
    from common.run.driver import AgentPolicy
    from common.run.loading import LoadedAgent

    if parsed.configs:
        raise UserError("--configs is for --model simulator; a trained run has its own options")
    agent = LoadedAgent(program, _existing(parsed), changes=parsed.values)
    act, params = agent.act_function, agent.params
    return agent.config, lambda envs: AgentPolicy(act, params, envs.num_envs, seed, "eval")


def _model_player(program: Program, parsed: flags.Flags, seed: int) -> tuple[Any, MakePolicy]:
    """Returns configuration and policy of an agent that acts without having learned."""
    if "logdir" in parsed.extra:
        raise UserError("--model simulator needs no run; leave --logdir out, or --model")
    config = resolve_config(program, parsed)
    # Nobody looks at pictures; planning needs the simulator's state only.
    env = dataclasses.replace(config.env, pixels=False, state=True)
    make_policy = program.models[parsed.extra["model"]]
    return dataclasses.replace(config, env=env), lambda envs: make_policy(config, envs, seed)


def _report(load_program: LoadProgram, parsed: flags.Flags) -> int:
    logdir = _existing(parsed)
    from common.report.page import write_report

    print(f"report: {write_report(logdir)}")
    return 0


def _doctor(load_program: LoadProgram, parsed: flags.Flags) -> int:
    return doctor.run()


def _check_env(load_program: LoadProgram, parsed: flags.Flags) -> int:
    config = resolve_config(load_program(), parsed)
    from common import envs

    print(envs.check_env(config.task, config.env, config.seed))
    return 0


def _existing(parsed: flags.Flags) -> pathlib.Path:
    if "logdir" not in parsed.extra:
        raise UserError("name the run's folder: --logdir runs/...")
    logdir = pathlib.Path(parsed.extra["logdir"]).expanduser()
    if not logdir.is_file():  # An exported file serves as well.
        run_folder.agent_name(logdir)
    return logdir


def _integer(parsed: flags.Flags, name: str, default: int, least: int = 0) -> int:
    value = configs.coerce(parsed.extra.get(name, default), int, f"--{name}")
    if value < least:
        raise UserError(f"--{name} must be at least {least}, not {value}")
    return value


_LOGDIR = "Folder of the run."
COMMANDS = {
    "train": Command(
        _train,
        "Trains an agent; the same command on the same folder goes on with the run.",
        {
            "logdir": f"{_LOGDIR} [default: runs/<agent>-<task>-<seed>]",
            "configs": "Presets by name, or YAML files of your own; later ones win.",
        },
        configured=True,
    ),
    "eval": Command(
        _eval,
        "Plays episodes with a trained policy and prints its returns.",
        {
            "logdir": _LOGDIR,
            "episodes": "Episodes to play. [default: 10]",
            "video": "Where to film the first episode, .mp4 or .gif. [default: none]",
            "seed": "Seed of the environments. [default: 0]",
        },
        modelled={
            "model": "Model to plan with: that of the run, or simulator, which needs a --task "
            "instead of a run. [one of learned, simulator; default: learned]",
            "configs": "Presets and options are for --model simulator; of a run, only those of "
            "the planner can be changed.",
        },
    ),
    "report": Command(
        _report,
        "Writes a run's learning curves and videos as one HTML file.",
        {"logdir": _LOGDIR},
    ),
    "doctor": Command(_doctor, "Looks for what this machine lacks, and names the remedy.", {}),
    "check-env": Command(
        _check_env,
        "Steps an environment at random and says what an agent would see and do.",
        {"configs": "Presets by name, or YAML files of your own; later ones win."},
        configured=True,
    ),
}
