"""Which logs there are, and how each is opened."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from common.errors import UserError
from common.replay.episodes import Episode
from common.replay.logs.d4rl import D4RL
from common.replay.logs.rlds import read_rlds
from common.replay.logs.transitions import checked_episode
from common.replay.minari import read_minari
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
        episodes: Reads them one by one. It raises a UserError where one does not fit the task.
    """

    kind: str
    amount: int
    episodes: Iterator[Episode]


def open_log(source: str, observations: Mapping[str, ObservationSpec], actions: ActionSpec) -> Log:
    """Opens a log of another program.

    Args:
        source: "minari:" and the name of a local Minari dataset; an HDF5 file as D4RL has
            them; a TFRecord file, or a folder of such files, as RLDS or RL Unplugged have them.
        observations: What the task shows that is to be learned.
        actions: Its flat action vector.

    Raises:
        UserError: There is no such log, or it is of an unknown format, or a library is missing.
    """
    if source.startswith(MINARI):
        amount, episodes = read_minari(source.removeprefix(MINARI), observations, actions)
        return Log("Minari", amount, episodes)
    path = pathlib.Path(source).expanduser()
    if not path.exists():
        raise UserError(f"there is no file or folder {path}; {_EXPECTED}")
    if path.suffix in _HDF5:
        log = D4RL(path)
        return Log("D4RL", log.amount, _checked(log.episodes(), observations, actions))
    paths = sorted(path.rglob(_RECORDS)) if path.is_dir() else [path] * path.match(_RECORDS)
    if not paths:
        raise UserError(f"{path} is a log of an unknown format; {_EXPECTED}")
    return Log("TFRecords", 0, _checked(read_rlds(paths), observations, actions))


_EXPECTED = (
    "expected an .hdf5 file (D4RL), a folder of TFRecord files (RLDS, RL Unplugged), or minari:NAME"
)


def _checked(
    found: Iterator, observations: Mapping[str, ObservationSpec], actions: ActionSpec
) -> Iterator[Episode]:
    return (checked_episode(name, read, observations, actions) for name, read in found)
