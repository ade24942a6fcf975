"""Collections as Minari datasets and back."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Sequence

import gymnasium

from common.command.trust import check_task
from common.config import update
from common.envs import EnvConfig, make_one
from common.errors import UserError
from common.replay.episodes import read_episodes
from common.replay.minari import read_minari, write_minari
from common.run.recorded import COLLECTION, read_collection, write_collection


def export_minari(folder: pathlib.Path, name: str, task: str | None = None) -> str:
    """Writes the episodes of one body as a Minari dataset.

    Args:
        folder: ``<data>/<task>`` with a folder for each policy, or one such folder, or any
            other folder in the episode format.
        name: Of the new dataset.
        task: The task that was played, if it is one that runs code of others: its environment
            is built to ask it for the bounds of actions.

    Returns:
        What was done, in one line.

    Raises:
        UserError: There are no episodes, or of several bodies, or the record of a collection
            is damaged or names such a task and ``task`` does not, or as ``write_minari``.
    """
    folders = [folder] if any(folder.glob("*.npz")) else [p.parent for p in folder.glob("*/*.npz")]
    folders = sorted(set(folders))
    if not folders and any(folder.glob("*/*/*.npz")):
        raise UserError(f"{folder} holds a collection of bodies; name the folder of one of them")
    episodes = [one for part in folders or [folder] for one in read_episodes(part)]
    write_minari(name, episodes, _action_space(folders, task))
    return f"{len(episodes)} episodes of {folder} are the Minari dataset {name}"


def _action_space(folders: Sequence[pathlib.Path], word: str | None) -> gymnasium.spaces.Box | None:
    """The action space of the task that was played; None where that is not known."""
    for folder in folders:
        played = read_collection(folder) or {}
        if isinstance(played.get("env"), dict) and isinstance(played.get("task"), str):
            config = update(EnvConfig(), played["env"])
            check_task(played["task"], config.kwargs, word, folder / COLLECTION)
            env = make_one(played["task"], config, 0)
            env.close()
            return env.action_space if isinstance(env.action_space, gymnasium.spaces.Box) else None
    return None


def import_minari(name: str, data: pathlib.Path, task: str, policy: str | None = None) -> str:
    """Writes the episodes of a Minari dataset into a collection.

    Args:
        name: Of the dataset.
        data: Folder of the collection.
        task: Name of the body.
        policy: Name of the folder; None for that of the dataset.

    Returns:
        What was done, in one line.

    Raises:
        UserError: The folder is there already, or as ``read_minari``.
    """
    policy = policy or re.sub(r"[^\w.-]+", "_", name)
    for word in (task, policy):
        if "/" in word:
            raise UserError(f"{word!r} cannot be the name of a folder; choose another")
    amount, episodes = read_minari(name)
    folder = data / task / policy
    if folder.exists():
        raise UserError(f"{folder} is there already; delete it, or choose another --policy")
    record = {"task": task, "policy": policy, "minari": name}
    returns, _ = write_collection(folder, episodes, record, amount)
    return f"{len(returns)} episodes of the Minari dataset {name} are in {folder}"
