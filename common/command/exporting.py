"""Episodes for other programs: as a LeRobot dataset, or as one of Minari's."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from common.command.trust import check_task
from common.config import read_mapping, update
from common.envs import EnvConfig, make
from common.errors import UserError
from common.export import read_export, specs_to_json
from common.files import cannot_write
from common.logging import format_seconds
from common.replay.episodes import Episode, read_episodes
from common.replay.lerobot.write import write_lerobot
from common.replay.minari import write_minari
from common.replay.spaces import action_space, recorded_actions
from common.run.clocks import Silence
from common.run.folder import CONFIG, EXPORT, REPLAY
from common.run.recorded import COLLECTION, read_collection, write_record
from common.spaces import ActionPart, ActionSpec

FORMATS = ("lerobot", "minari")
PICTURES = ("video", "png")


def export_data(
    data: str | pathlib.Path,
    kind: str,
    out: str,
    task: str | None = None,
    fps: int = 20,
    pictures: str = "video",
) -> str:
    """Writes episodes in the format of another program, all or nothing.

    Args:
        data: A run's folder, a folder of ``.npz`` files, or one of those that lies in a folder for
            each policy.
        kind: One of ``FORMATS``.
        out: A new folder; or the name of a new Minari dataset, such as "cup/catch-v0".
        task: The task that was played, if the folder names one that runs code of others and does
            not say what its actions are: its environment is built to ask it.
        fps: Frames per second of a LeRobot dataset.
        pictures: One of ``PICTURES``, what those of a LeRobot dataset become.

    Returns:
        What was done, in one line.

    Raises:
        UserError: There are no episodes, or of several bodies, or their record is damaged or names
            such a task and ``task`` does not; or as ``write_minari`` or ``write_lerobot``; or the
            folder is there already or cannot be written.
    """
    data = pathlib.Path(data).expanduser()
    folders = _folders(data)
    if kind == "lerobot" and pathlib.Path(out).expanduser().exists():
        raise UserError(f"{out} is there already; delete it, or choose another --out")
    episodes = [one for folder in folders for one in read_episodes(folder)]
    actions, played = _played(folders, task)
    if kind == "minari":
        write_minari(out, episodes, action_space(actions) if actions else None)
        return f"{len(episodes)} episodes of {data} are the Minari dataset {out}"
    actions = actions or _numbers(episodes[0]["action"].shape[1])
    record = {"task": played, "log": str(data)} | specs_to_json({}, actions)
    options = {"fps": fps, "task": played or "act", "video": pictures == "video"}
    folder = pathlib.Path(out).expanduser()
    amount, frames = _whole(folder, episodes, actions, options, record)
    return f"{amount:,} episodes of {data}, {frames:,} frames, are the LeRobot dataset {folder}"


def _folders(data: pathlib.Path) -> list[pathlib.Path]:
    for folders in ([data / REPLAY], [data], sorted(data.glob("*"))):
        if found := [folder for folder in folders if any(folder.glob("*.npz"))]:
            return found
    if any(data.glob("*/*/*.npz")):
        raise UserError(f"{data} holds a collection of bodies; name the folder of one of them")
    raise UserError(f"no episodes in {data}; give a run's folder, or one with .npz files")


def _whole(
    folder: pathlib.Path,
    episodes: Sequence[Episode],
    actions: ActionSpec,
    options: Mapping[str, Any],
    record: Mapping[str, Any],
) -> tuple[int, int]:
    """Writes a LeRobot dataset beside its place, and puts it there when it is complete."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # Of one that was killed.
    try:
        part.mkdir(parents=True)
        written = write_lerobot(part, _told(episodes), actions, **options)
        write_record(part, record)
        part.rename(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return written


def _told(episodes: Sequence[Episode]) -> Iterator[Episode]:
    """The episodes, and now and then a line that says how far all is."""
    silence, begin = Silence(), time.monotonic()
    for done, episode in enumerate(episodes, 1):
        yield episode
        if silence.too_long():
            seconds = (time.monotonic() - begin) / done * (len(episodes) - done)
            left = format_seconds(seconds)
            print(f"episodes: {done:,} of {len(episodes):,}, {left} left", flush=True)


def _numbers(size: int) -> ActionSpec:
    bounds = (-1.0,) * size, (1.0,) * size
    return ActionSpec((ActionPart((), "continuous", size, *bounds, (size,)),))


def _played(
    folders: Sequence[pathlib.Path], word: str | None
) -> tuple[ActionSpec | None, str | None]:
    """The action space and the task that were played, where a folder says so."""
    for folder in folders:
        record = read_collection(folder)
        source = folder / COLLECTION
        if record is None and folder.name == REPLAY and (folder.parent / CONFIG).exists():
            record, source = read_mapping(folder.parent / CONFIG), folder.parent
            if (source / EXPORT).exists():
                return read_export(source).actions, str(record.get("task"))
        record = record or {}
        task = record["task"] if isinstance(record.get("task"), str) else None
        if "actions" in record:
            return recorded_actions(record, source), task
        if task and isinstance(record.get("env"), dict):
            config = update(EnvConfig(), record["env"])
            check_task(task, config.kwargs, word, source)
            envs = make(task, dataclasses.replace(config, amount=1, workers="none"), 0)
            envs.close()
            return envs.action_spec, task
    return None, None
