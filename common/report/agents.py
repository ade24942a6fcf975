"""Who was run, by what a run's configuration says: names of agents, and which options tell them
apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common.envs import EnvConfig
from common.errors import UserError

_NAMES = {"tdm": "Token-level model", "tdmpc2": "TD-MPC2", "world_model": "PlaNet"}
"""Of the program "planet", by the model that it plans in."""
NOT_THE_AGENT = (
    "seed", "logdir", "run.frames", "run.eval_every", "run.eval_episodes", "run.log_every",
    "run.report_every", "run.checkpoint_every", "run.checkpoints", "run.random_episodes",
    "run.devices", "run.coordinator", "run.video", "run.loggers", "env.workers",
    "env.per_worker", "env.timeout",
)  # fmt: skip
"""Options in which seeds of one curve may differ: they change nothing of what is learned."""
_MOST = 3
"""Options of a difference that are said."""


def agent_name(settings: Mapping[str, Any]) -> str:
    """Names the agent of a recorded configuration as its users know it, with its challenges.

    Args:
        settings: A configuration as a run's file holds it, or what could be read of it.

    Returns:
        Such as "TD-MPC2" or "Dreamer with delay.actions 3"; "" where no agent is named.
    """
    word, env = str(settings.get("agent", "")), settings.get("env")
    name = word[:1].upper() + word[1:]
    if word == "planet":
        name = _NAMES.get(str(settings.get("model", "world_model")), name)
    try:
        challenges = EnvConfig.recorded_challenges(env if isinstance(env, Mapping) else {})
    except UserError:  # A folder of another version, or a damaged one.
        challenges = ()
    return name + (f" with {', '.join(challenges)}" if name and challenges else "")


def same_options(settings: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Returns the places of configurations that are of one agent, in groups, the first first.

    Those of a group differ in nothing but ``NOT_THE_AGENT``.
    """
    groups: list[list[int]] = []
    for place, one in enumerate(settings):
        for group in groups:
            if not any(differing_options(settings[i], one, NOT_THE_AGENT) for i in group):
                group.append(place)
                break
        else:
            groups.append([place])
    return groups


def in_words(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Says of each of several configurations shortly what tells it from the others.

    Returns:
        For each such as "joint true, replay.batch 16 and 52 more"; "" where there is one alone,
        or all are alike.
    """
    paths = sorted(
        {
            path
            for one in settings[1:]
            for path in differing_options(settings[0], one, NOT_THE_AGENT)
        },
        key=lambda path: (path.count("."), path),
    )
    more = f" and {len(paths) - _MOST} more" if len(paths) > _MOST else ""
    return [
        ", ".join(f"{path} {_word(_at(one, path))}" for path in paths[:_MOST]) + more
        for one in settings
    ]


def _at(settings: Any, path: str) -> Any:
    for name in path.split("."):
        settings = settings.get(name) if isinstance(settings, Mapping) else None
    return settings


def _word(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def differing_options(one: Any, other: Any, but: Sequence[str], path: str = "") -> list[str]:
    """Returns the paths of the options whose values differ, without some of them.

    Args:
        one: A configuration as a run's file holds it.
        other: Another one; an option that one of them lacks is of a newer version, and no
            difference.
        but: Paths that make no difference.
        path: Where they sit.
    """
    if path in but or one == other:
        return []
    if not (isinstance(one, Mapping) and isinstance(other, Mapping)):
        return [path]
    return [
        found
        for name in one
        if name in other
        for found in differing_options(one[name], other[name], but, f"{path}.{name}".lstrip("."))
    ]
