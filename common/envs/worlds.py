"""Worlds of this package, by the name of their task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium

from common.envs.mazes import Maze
from common.envs.memory import Recall, Repeat
from common.errors import UserError, nearest

WORLDS: dict[str, Callable[..., gymnasium.Env]] = {
    "memory_recall": Recall,
    "memory_repeat": Repeat,
    "maze_goal": Maze,
}


def find(task: str) -> Callable[..., gymnasium.Env]:
    """Returns the world that a task such as "memory_recall" names.

    Raises:
        UserError: There is none.
    """
    if task not in WORLDS:
        raise UserError(f"unknown task {task!r}{nearest(task, WORLDS)}")
    return WORLDS[task]


def episode_steps(task: str, kwargs: Mapping[str, Any]) -> int:
    """Returns the actions of an episode of a task; 0 where it has no end of its own.

    So too where the arguments do not fit, which is said where the world is built.
    """
    try:
        return getattr(find(task)(**kwargs), "steps", 0)
    except (TypeError, UserError):
        return 0
