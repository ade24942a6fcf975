"""Which logs there are, and how each is opened."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from common.errors import UserError
from common.replay.episodes import Episode
from common.replay.lerobot.layout import is_dataset
from common.replay.lerobot.read import SIZE, open_lerobot
from common.replay.logs.d4rl import D4RL
from common.replay.logs.rlds import read_rlds
from common.replay.logs.transitions import checked_episode
from common.replay.minari import open_minari
from common.spaces import ActionSpec, ObservationSpec

MINARI = "minari:"
"""What stands before the name of a Minari dataset, which lies where Minari keeps it."""
_HDF5 = (".hdf5", ".h5", ".hdf")
_RECORDS = "*tfrecord*"


class Log(NamedTuple):
    """A log that is being read.

    Attributes:
        kind: Its format, for people.
        amount: Episodes that it holds; 0 where that shows only at its end.
        observations: What is read of it.
        actions: The flat action vector that its actions become.
        episodes: Reads them one by one. It raises a UserError where one does not fit the task.
    """

    kind: str
    amount: int
    observations: Mapping[str, ObservationSpec]
    actions: ActionSpec
    episodes: Iterator[Episode]


def open_log(
    source: str,
    observations: Mapping[str, ObservationSpec] | None = None,
    actions: ActionSpec | None = None,
    size: int = SIZE,
) -> Log:
    """Opens a log of another program.

    Args:
        source: "minari:" and the name of a local Minari dataset; the folder of a LeRobot dataset;
            an HDF5 file as D4RL has them; a TFRecord file, or a folder of such files, as RLDS or
            RL Unplugged have them.
        observations: What the task shows that is to be learned; None for all that is there, of
            datasets that say what they hold: Minari's and LeRobot's.
        actions: The flat action vector of the task; None for that of such a dataset.
        size: Height and width of a LeRobot dataset's pictures, where no task says it.

    Raises:
        UserError: There is no such log, or it is of an unknown format, or a library is missing, or
            the log says nothing of spaces and there is no task.
    """
    if source.startswith(MINARI):
        amount, *specs, episodes = open_minari(source.removeprefix(MINARI), observations, actions)
        return Log("Minari", amount, *specs, episodes)
    path = pathlib.Path(source).expanduser()
    if not path.exists():
        raise UserError(f"there is no file or folder {path}; {_EXPECTED}")
    if path.is_dir() and is_dataset(path):
        amount, *specs, found = open_lerobot(path, observations, actions, size)
        return Log("LeRobot", amount, *specs, _checked(found, *specs))
    hdf5 = path.suffix in _HDF5
    paths = sorted(path.rglob(_RECORDS)) if path.is_dir() else [path] * path.match(_RECORDS)
    if not paths and not hdf5:
        raise UserError(f"{path} is a log of an unknown format; {_EXPECTED}")
    if observations is None or actions is None:
        raise UserError(f"{path} does not say what its numbers mean; name what was played: --task")
    specs = observations, actions
    if hdf5:
        log = D4RL(path)
        return Log("D4RL", log.amount, *specs, _checked(log.episodes(), *specs))
    return Log("TFRecords", 0, *specs, _checked(read_rlds(paths), *specs))


_EXPECTED = (
    "expected an .hdf5 file (D4RL), the folder of a LeRobot dataset, one of TFRecord files (RLDS, "
    "RL Unplugged), or minari:NAME"
)


def _checked(
    found: Iterator, observations: Mapping[str, ObservationSpec], actions: ActionSpec
) -> Iterator[Episode]:
    return (checked_episode(name, read, observations, actions) for name, read in found)
