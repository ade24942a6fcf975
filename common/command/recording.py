"""Who plays the episodes of ``record``: a human, chance, or a trained agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.command import presets, trust
from common.command.flags import Flags
from common.config import update
from common.errors import UserError
from common.run.program import Program, find_program
from common.trained import located

if TYPE_CHECKING:
    from common.run.config import Settings
    from common.run.evaluation import MakePolicy

HUMAN, RANDOM = "human", "random"
"""Who plays, if it is no trained agent."""
_MAY_CHANGE = ("task", "seed", "env.")


def record_as(program: Program, who: str, parsed: Flags, episodes: int, rate: float) -> str:
    """Records episodes; see ``common.run.recording.record``.

    Args:
        program: The agent whose command it is, for its options.
        who: ``HUMAN``, ``RANDOM``, or a run, exported file or ``zoo:NAME`` of any agent.
        parsed: The command line.
        episodes: How many.
        rate: Of a human: steps per second; 0 for one step for each key.

    Raises:
        UserError: There is no such policy, no terminal, or as of ``record``.
    """
    from common.run.driver import RandomPolicy
    from common.run.recording import record

    if who not in (HUMAN, RANDOM):
        config, make_policy = _trained(who, parsed)
    else:
        config = presets.resolve(program, parsed.configs, parsed.values)
        trust.check_presets(program, parsed.configs, parsed.values, config)
        make_policy = lambda envs: RandomPolicy(envs.action_spec, config.seed)  # noqa: E731
    options = config.task, config.env, episodes, config.seed
    if who != HUMAN:
        return record(parsed.extra["out"], *options, make_policy, who)
    from common.command.keyboard import Terminal, player

    terminal = Terminal()
    with terminal.taken():
        make_policy = player(terminal, rate)
        return record(parsed.extra["out"], *options, make_policy, who, tell=lambda line: None)


def _trained(who: str, parsed: Flags) -> tuple[Settings, MakePolicy]:
    from common.export import read_export
    from common.run.evaluation import trained_policy
    from common.run.loading import LoadedAgent

    path = located(who).expanduser()
    if not path.exists():
        raise UserError(
            f"unknown --policy {who!r}; expected {HUMAN}, {RANDOM}, the path of a run, or zoo:NAME"
        )
    if parsed.configs:
        raise UserError("--configs is for other policies; a trained run has its own options")
    for name in parsed.values:
        if not name.startswith(_MAY_CHANGE):
            raise UserError(f"--{name} cannot change once an agent is trained; only --env.* may")
    agent = LoadedAgent(find_program(read_export(path).agent), path)
    config = update(agent.config, parsed.values)
    word = parsed.values.get("task")
    trust.check_task(agent.config.task, config.env.kwargs, word, path)
    return config, trained_policy(agent, config.seed)
