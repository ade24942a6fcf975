"""The command line that every agent's package shares."""

from __future__ import annotations

import logging
import os
import sys
import types
import warnings
from collections.abc import Mapping, Sequence

from common.command import flags
from common.command.cache import cache_folder
from common.command.commands import COMMANDS, LoadProgram
from common.command.memory import restart_with_memory_settings
from common.command.table import HELP, Command, find, listing
from common.errors import exit_code
from common.run.versions import DISTRIBUTION, version_of


def main(
    name: str,
    load_program: LoadProgram,
    argv: Sequence[str] | None = None,
    own: Mapping[str, Command] = types.MappingProxyType({}),
) -> int:
    """Runs one command line.

    Args:
        name: Name of the program, such as "dreamer".
        load_program: Imports and returns the agent.
        argv: The words after the program's name; None takes the process's own.
        own: Commands that this agent has beside those of all.

    Returns:
        The exit code: 0, 1 where the doctor found a problem, 2 after a user's mistake,
        75 where training was stopped before its end, 130 after an interrupt.
    """
    if argv is None:
        restart_with_memory_settings()
    prepare()
    words = list(sys.argv[1:] if argv is None else argv)
    return exit_code(lambda: _dispatch(name, load_program, words, {**COMMANDS, **own}))


def prepare() -> None:
    """Sets what JAX should do, where the user did not: share memory, cache, keep quiet."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    cache = os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_folder() / "jax"))
    settings = sys.modules["jax"].config if "jax" in sys.modules else None
    if settings is not None and not settings.jax_compilation_cache_dir:
        settings.update("jax_compilation_cache_dir", cache or None)  # Too late for the variable.
    # Its warning is about children that go on with this program; ours run another one.
    warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
    for noisy in ("absl", "jax._src.xla_bridge", "jax._src.compilation_cache"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


def _dispatch(
    name: str, load_program: LoadProgram, argv: list[str], commands: Mapping[str, Command]
) -> int:
    if not argv or argv[0] in HELP:
        print(_overview(name, commands))
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"{name} {version_of(DISTRIBUTION) or '(not installed)'}")
        return 0
    word, *rest = argv
    command = with_program(find(word, commands), load_program)
    if "--help" in rest or "-h" in rest:
        print(_command_help(name, word, command, load_program))
        return 0
    config = load_program().default_config if command.configured else None
    parsed = flags.parse_flags(rest, config, tuple(command.options), command.lists)
    return command.run(load_program, parsed)


def with_program(command: Command, load_program: LoadProgram) -> Command:
    """Returns the command as this agent has it."""
    further = command.further(load_program()) if command.further else {}
    if not further:
        return command
    return command._replace(options={**command.options, **further}, configured=True)


def _overview(name: str, commands: Mapping[str, Command]) -> str:
    lines = [f"usage: {name} <command> [--option VALUE ...]", "", *listing(commands)]
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
