"""The episode format: experience as a folder of plain ``.npz`` files.

A folder holds any number of ``.npz`` files (ZIP archives of NumPy arrays, readable by
``numpy.load(path, allow_pickle=False)`` and written without pickle). Every file holds
the same arrays, one per key of a row, all with the same leading axis ``T``:

===============  ============================  =========================================
array            shape and type                meaning
===============  ============================  =========================================
observations     uint8 [T, height, width, C]   one array per image key
observations     float32 [T, D]                one array per vector key
``action``       float32 [T, A]                the action that led to this row, see below
``reward``       float32 [T]                   the reward that arrived with this row
``is_first``     bool [T]                      row of a reset; its action and reward are 0
``is_last``      bool [T]                      last row of an episode
``is_terminal``  bool [T]                      last row after which the task really ended
``latent_...``   uint8 or uint16 [T, D]        what a run with ``replay.latents`` keeps
``note/...``     float32 [T, D]                what a run with episodic curiosity keeps
===============  ============================  =========================================

Actions are numbers in [-1, 1] (-1 and 1 are the bounds of the environment's action space,
``2 * (action - low) / (high - low) - 1``), and choices are one-hot, those of several spaces
side by side; ``common.spaces`` says in which order. In a run's own files they are what its policy
drew, and a normal's lie beyond the bounds as well: environments cut them off, as ``bounded`` does.
Latent states, ``latent_state/...``, and notes are an agent's own (see ``common.model.context``,
``dreamer.exploration.memory``); a file holds those of when it was written, ``common.replay.beside``
says where newer ones lie, and all readers but that agent's run pass both over.

An episode starts at a row with ``is_first`` and ends before the next such row; a file
may hold a part of an episode, one episode or many. An episode without ``is_last`` was
cut when its run stopped.

Files named ``<serial>-env<stream>-<row>.npz`` (decimal numbers, as the replay writes
them) are pieces of the endless stream of one environment: ``row`` counts the stream's
rows before the file, and ``serial`` counts the files in the order in which they were
begun. Where two pieces do not join, the stream is cut there. Every other name is read
in alphabetical order before those, as one stream in which each file starts an episode:
a tool of your own writes one episode per file under names such as ``0001.npz``.

A file that cannot be read is left out with a warning that names it; the other files
are used as they are. Files appear by renaming, so a reader never sees half of one.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np

from common.errors import UserError
from common.files import replacing
from common.npz import read_npz
from common.rows import LATENT_PREFIX, Specs, given

FOREIGN = -1
"""Stream number of files that the replay did not name."""

_NAME = re.compile(r"(\d+)-env(\d+)-(\d+)\.npz")


@dataclasses.dataclass(frozen=True, order=True)
class ChunkFile:
    """Where a file belongs; sorts from the oldest to the newest.

    Attributes:
        serial: Position among all files in the order in which they were begun.
        stream: Environment stream, or ``FOREIGN``.
        start: Rows of the stream before this file.
        path: The file.
    """

    serial: int
    stream: int
    start: int
    path: pathlib.Path

    @staticmethod
    def named(directory: pathlib.Path, serial: int, stream: int, start: int) -> ChunkFile:
        """Returns the file of this position in a folder."""
        name = f"{serial:08d}-env{stream:03d}-{start:010d}.npz"
        return ChunkFile(serial, stream, start, directory / name)


def bounded(file: ChunkFile, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Cuts off the actions of a replay's own rows at -1 and 1, as the environment did with them.

    Rows of other tools stay as they are: what lies beyond there may be in other units.
    """
    action = arrays.get("action")
    if file.stream == FOREIGN or action is None or action.dtype.kind != "f":
        return dict(arrays)
    return {**arrays, "action": np.clip(action, -1, 1)}


def list_chunks(directory: pathlib.Path) -> list[ChunkFile]:
    """Lists the ``.npz`` files of a folder from the oldest to the newest."""
    files = []
    for path in pathlib.Path(directory).glob("*.npz"):
        match = _NAME.fullmatch(path.name)
        numbers = map(int, match.groups()) if match else (FOREIGN, FOREIGN, 0)
        files.append(ChunkFile(*numbers, path))
    return sorted(files)


def write_chunk(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays ``[T, ...]`` as one uncompressed ``.npz`` file, all or nothing.

    Raises:
        common.files.WriteError: The disk is full, or the folder may not be written.
    """
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for key, value in arrays.items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, value, allow_pickle=False)


def read_chunk(path: pathlib.Path) -> dict[str, np.ndarray] | None:
    """Reads one file; warns and returns None where it is damaged or holds no rows."""
    try:
        arrays = read_npz(path)
        lengths = {key: value.shape[:1] for key, value in arrays.items()}
        if len(set(lengths.values())) != 1 or not all(sum(length) for length in lengths.values()):
            raise ValueError(f"its arrays have no common number of rows: {_listed(lengths)}")
    except ValueError as error:
        warnings.warn(
            f"replay file {path} is damaged ({error}) and is left out; the other files "
            "are used; delete it to silence this warning",
            stacklevel=2,
        )
        return None
    return arrays


def read_newest(
    files: Sequence[ChunkFile], most: int, specs: Specs
) -> list[tuple[ChunkFile, dict[str, np.ndarray]]]:
    """Reads files from the newest on while they fit.

    Args:
        files: From the oldest to the newest.
        most: Rows that fit.
        specs: What a row holds; what agents made is passed over where none of it is among it.

    Returns:
        The files that were read, the oldest first.

    Raises:
        UserError: Not even the newest fits, or one is of another task.
    """
    loaded: list[tuple[ChunkFile, dict[str, np.ndarray]]] = []
    rows, own = 0, specs.keys() != given(specs).keys()
    for file in reversed(files):
        arrays = read_chunk(file.path)
        if arrays is None:
            continue
        if not own:
            arrays = given(arrays)
        check_chunk(file.path, arrays, specs)
        rows += len(arrays["is_first"])
        if rows > most:
            if not loaded:
                raise UserError(
                    f"replay file {file.path} holds {rows} rows, {most} fit; raise "
                    "replay.capacity or replay.memory"
                )
            break
        loaded.append((file, arrays))
    return loaded[::-1]


def _listed(lengths: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{key} {length[0] if length else 'none'}" for key, length in lengths.items())


def check_chunk(
    path: pathlib.Path,
    arrays: Mapping[str, np.ndarray],
    specs: Specs,
    remedy: str = "choose another logdir, or the task and environment options that wrote it",
) -> None:
    """Compares the arrays of a file with the rows of a task.

    Args:
        path: The file.
        arrays: What it holds.
        specs: What the rows of the task hold.
        remedy: End of the message where they differ.

    Raises:
        UserError: A key is missing or too many, or has another shape or type.
    """
    if different := set(arrays) ^ set(specs):
        key = sorted(different)[0]
        if key in specs and key.startswith(LATENT_PREFIX):
            raise UserError(
                f"replay file {path} was written without latent states; set replay.latents false, "
                "or replay.burn_in"
            )
        fault = "has no" if key in specs else "has an unknown"
        raise UserError(f"replay file {path} {fault} array {key!r}; {remedy}")
    for key, (shape, dtype) in specs.items():
        found = arrays[key]
        if found.shape[1:] != tuple(shape) or found.dtype != np.dtype(dtype):
            raise UserError(
                f"replay file {path} holds {key!r} as {found.dtype} {found.shape[1:]}, this "
                f"task has {np.dtype(dtype)} {tuple(shape)}; {remedy}"
            )
