"""What is known of how the episodes of a folder were recorded, beside the episodes themselves.

A collection has a ``collection.json`` beside its files, a run its configuration beside the
folder of its replay. Other folders say nothing.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from common.config import read_mapping
from common.envs.base import adapted_space
from common.envs.challenges import ChallengeConfig
from common.envs.config import EnvConfig
from common.envs.registry import action_repeat
from common.errors import UserError, warn_once
from common.files import cannot_write
from common.logging import format_seconds
from common.replay.episodes import Episode, read_episodes, write_episodes
from common.replay.spaces import action_space, recorded_actions
from common.rows import ROW_KEYS
from common.run import versions
from common.run.clocks import Silence
from common.run.folder import CONFIG, REPLAY
from common.spaces import ObservationSpec

COLLECTION = "collection.json"


def read_collection(folder: pathlib.Path) -> dict[str, Any] | None:
    """Reads the record of a collection; None where there is none.

    Raises:
        UserError: It is damaged.
    """
    path = folder / COLLECTION
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}); restore it, or delete it") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} is no record of a collection; restore it, or delete it")
    return found


def recorded_spaces(
    folder: str | pathlib.Path,
) -> tuple[gymnasium.spaces.Dict, gymnasium.Space]:
    """Returns the spaces of what a folder of episodes holds, as a world model takes them.

    Args:
        folder: Of ``.npz`` files.

    Returns:
        The observations of the rows, uint8 images and float32 vectors; and the action space of
        what was recorded, or, where no record says it, a Box of [-1, 1].

    Raises:
        UserError: There are no episodes, or the record of the collection is damaged.
    """
    folder = pathlib.Path(folder).expanduser()
    first = read_episodes(folder)[0]
    specs = {}
    for key, value in first.items():
        if key not in ROW_KEYS:
            kind = "image" if value.dtype == np.uint8 else "vector"
            specs[key] = ObservationSpec(value.shape[1:], kind)
    record = read_collection(folder) or {}
    if "actions" in record:
        space = action_space(recorded_actions(record, folder / COLLECTION))
    else:
        space = gymnasium.spaces.Box(-1, 1, first["action"].shape[1:], np.float32)
    return adapted_space(specs), space


def recorded_repeat(folder: pathlib.Path) -> int | None:
    """Returns how often every action was repeated when a folder was recorded.

    Args:
        folder: Of ``.npz`` files.

    Returns:
        Simulator steps per action; None where nothing says so.

    Raises:
        UserError: The record of a collection is damaged.
    """
    record = read_collection(folder)
    if record is not None:
        found = record.get("action_repeat")
        return found if type(found) is int and found > 0 else None
    values = _run_options(folder)
    try:
        return action_repeat(str(values["task"]), int(values["env"]["action_repeat"]))
    except (LookupError, TypeError, ValueError):  # Of another program, or of a version without it.
        return None


def _run_options(folder: pathlib.Path) -> Mapping[str, Any]:
    """The configuration of the run whose replay a folder is; nothing where it is none."""
    path = folder.parent / CONFIG
    return read_mapping(path) if folder.name == REPLAY and path.exists() else {}


def warn_of_challenges(folders: Sequence[pathlib.Path], here: ChallengeConfig) -> None:
    """Warns of episodes that were recorded with other challenges, where something says with which.

    Args:
        folders: Of episodes.
        here: The challenges of the environments that are played in.

    Raises:
        UserError: The record of a collection is damaged.
    """
    for folder in folders:
        said = read_collection(folder) or _run_options(folder)
        try:
            found = EnvConfig.recorded_challenges(said["env"])
        except (LookupError, TypeError, AttributeError, UserError):  # As above.
            continue
        if found != here.named():
            there, now = (", ".join(names) or "none" for names in (found, here.named()))
            warn_once(f"{folder} was recorded with env.challenge: {there}; evaluations have {now}")


def check_repeats(folders: Sequence[pathlib.Path], repeat: int) -> None:
    """Refuses episodes in which actions were repeated another number of times; prints a note
    where nothing says how often.

    Args:
        folders: Of episodes.
        repeat: Simulator steps per action of the task that is to be learned.

    Raises:
        UserError: A folder was recorded with another number.
    """
    silent = []
    for folder in folders:
        found = recorded_repeat(folder)
        if found is None:
            silent.append(str(folder))
        elif found != repeat:
            raise UserError(
                f"{folder} was recorded with an action repeat of {found}, this task has {repeat}; "
                f"set --env.action_repeat {found}, or choose other data"
            )
    if silent:
        print(
            f"nothing says which action repeat {', '.join(silent)} was recorded with; taken to be "
            f"that of this task, {repeat}",
            flush=True,
        )


def write_record(folder: pathlib.Path, record: Mapping[str, Any]) -> None:
    """Writes ``collection.json`` into a folder, made where it is missing, all or nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / f".{COLLECTION}"
    lines = versions.describe().splitlines()
    new.write_text(json.dumps({**record, "versions": lines}, indent=1) + "\n")
    os.replace(new, folder / COLLECTION)


def write_collection(
    folder: pathlib.Path, episodes: Iterable[Episode], record: Mapping[str, Any], amount: int = 0
) -> tuple[list[float], list[int]]:
    """Writes episodes and their record into a new folder, all or nothing.

    Args:
        folder: It must not be there yet.
        episodes: Read one by one.
        record: What is known of them; returns and lengths are added.
        amount: How many there will be, for people; 0 where nobody knows.

    Returns:
        Return and agent steps of each.

    Raises:
        UserError: There is no episode, the disk is full, or whatever reading one raises.
    """
    returns: list[float] = []
    lengths: list[int] = []

    def counted() -> Iterator[Episode]:
        silence, begin = Silence(), time.monotonic()
        for episode in episodes:
            yield episode
            returns.append(round(float(episode["reward"].sum()), 4))
            lengths.append(len(episode["reward"]) - 1)
            if silence.too_long():
                done, of_all = len(returns), ""
                if amount:
                    seconds = (time.monotonic() - begin) / done * (amount - done)
                    of_all = f" of {amount:,}, {format_seconds(seconds)} left"
                print(f"episodes: {done:,}{of_all}", flush=True)

    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # Of one that was killed.
    try:
        write_episodes(part, counted())
        if not returns:
            raise UserError("there is no episode with a whole transition")
        write_record(part, {**record, "returns": returns, "agent_steps": lengths})
        part.rename(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return returns, lengths
