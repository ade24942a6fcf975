"""What is known of how the episodes of a folder were recorded, beside the episodes themselves.

A collection has a ``collection.json`` beside its files, a run its configuration beside the
folder of its replay. Other folders say nothing.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from common.config import read_mapping
from common.envs.registry import action_repeat
from common.errors import UserError
from common.files import cannot_write
from common.replay.episodes import Episode, write_episodes
from common.run import versions
from common.run.clocks import Silence
from common.run.folder import CONFIG, REPLAY

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
    path = folder.parent / CONFIG
    if folder.name != REPLAY or not path.exists():
        return None
    values = read_mapping(path)
    try:
        return action_repeat(str(values["task"]), int(values["env"]["action_repeat"]))
    except (LookupError, TypeError, ValueError):  # Of another program, or of a version without it.
        return None


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
        silence = Silence()
        for episode in episodes:
            yield episode
            returns.append(round(float(episode["reward"].sum()), 4))
            lengths.append(len(episode["reward"]) - 1)
            if silence.too_long():
                of_all = f" of {amount:,}" if amount else ""
                print(f"{len(returns):,}{of_all} episodes", flush=True)

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
