"""Collections as Minari datasets and back."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

import gymnasium

from benchmarks.tdm.collect import COLLECTION, write_record
from common.envs import EnvConfig, make_one
from common.errors import UserError
from common.replay.episodes import Episode, read_episodes, write_episodes
from common.replay.minari import read_minari, write_minari
from common.run.clocks import Silence


def export_minari(folder: pathlib.Path, name: str) -> str:
    """Writes the episodes of one body as a Minari dataset.

    Args:
        folder: ``<data>/<task>`` with a folder for each policy, or one such folder, or any
            other folder in the episode format.
        name: Of the new dataset.

    Returns:
        What was done, in one line.

    Raises:
        UserError: There are no episodes, or of several bodies, or as ``write_minari``.
    """
    folders = [folder] if any(folder.glob("*.npz")) else [p.parent for p in folder.glob("*/*.npz")]
    folders = sorted(set(folders))
    if not folders and any(folder.glob("*/*/*.npz")):
        raise UserError(f"{folder} holds a collection of bodies; name the folder of one of them")
    episodes = [one for part in folders or [folder] for one in read_episodes(part)]
    described = [path for part in folders if (path := part / COLLECTION).exists()]
    records = [json.loads(path.read_text()) for path in described]
    write_minari(name, episodes, _action_space(records))
    return f"{len(episodes)} episodes of {folder} are the Minari dataset {name}"


def _action_space(records: list[dict[str, Any]]) -> gymnasium.spaces.Box | None:
    """The action space of the task that was played; None where that is not known."""
    played = [one for one in records if one.get("env")]
    if not played:
        return None
    env = make_one(played[0]["task"], EnvConfig(**played[0]["env"]), 0)
    env.close()
    return env.action_space if isinstance(env.action_space, gymnasium.spaces.Box) else None


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
    returns: list[float] = []
    lengths: list[int] = []

    def counted() -> Iterator[Episode]:
        silence = Silence()
        for episode in episodes:
            yield episode
            returns.append(round(float(episode["reward"].sum()), 4))
            lengths.append(len(episode["reward"]) - 1)
            if silence.too_long():
                print(f"{len(returns):,} of {amount:,} episodes", flush=True)

    try:
        write_episodes(folder, counted())
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    record = {"task": task, "policy": policy, "minari": name, "returns": returns}
    write_record(folder, record | {"agent_steps": lengths})
    return f"{len(returns)} episodes of the Minari dataset {name} are in {folder}"
