"""Episodes that others recorded: one check for every way in.

Whatever comes from elsewhere, a folder of ``.npz`` files or a dataset of another program, is
held against the rows of the task before anything learns from it. All that differs is said
at once, each difference with the conversion that would mend it.
"""

from __future__ import annotations

import math
import pathlib
import warnings
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from common.errors import UserError
from common.replay.chunks import FOREIGN, ChunkFile, bounded
from common.rows import FLAGS, Specs, given
from common.spaces import ActionSpec

Arrays = Mapping[str, np.ndarray]

ROUNDING = 1e-5
"""How far beyond [-1, 1], or beside 0 and 1, rounding may put an action."""

_NUMBERS = "biuf"
_LATE = "numpy.concatenate([numpy.zeros_like({0}[:1]), {0}])"
_FLAG_HELP = {
    "is_first": "numpy.arange(T) == 0 for an episode of T rows",
    "is_last": "numpy.arange(T) == T - 1 for a whole episode of T rows",
    "is_terminal": "is_last where the task itself ended, and not a limit of time",
}


def check_episode(
    episode: Arrays,
    specs: Specs,
    source: str | pathlib.Path,
    *,
    actions: ActionSpec | None = None,
    starts: bool = True,
    leave_out: bool = True,
) -> dict[str, np.ndarray]:
    """Checks rows of others against those of a task.

    Args:
        episode: Arrays ``[T, ...]`` by the keys of a row, and any others.
        specs: Shape and type of every entry of one row of the task.
        source: The file, or the dataset and the episode in it, for the message.
        actions: The flat action vector of the task, whose choices have to be one-hot; None
            where it is not known.
        starts: Whether the first row must be that of a reset.
        leave_out: Whether further arrays are left out, and are not a difference.

    Returns:
        The arrays that the task has.

    Raises:
        UserError: Arrays are missing, or have other shapes, types, or values than the task's;
            the one line says all that differs, with rows where values are wrong.
    """
    found = {key: np.asarray(episode[key]) for key in specs if key in episode}
    faults = [*_key_faults(episode, specs), *_length_faults(found)]
    further = [] if leave_out else [key for key in episode if key not in specs]
    faults += [f"the rows of the task have no {key!r} (leave it out)" for key in further]
    shaped = {}
    for key, value in found.items():
        shape, dtype = specs[key]
        fault = _shape_fault(key, value, tuple(shape))
        faults += filter(None, [fault, _type_fault(key, value, np.dtype(dtype))])
        if value.dtype.kind in _NUMBERS and not fault:
            shaped[key] = value
            faults += filter(None, [_finite_fault(key, value)])
    faults += [*_action_faults(shaped, actions), *_flag_faults(shaped, starts)]
    if faults:
        several = f" in {len(faults)} ways: " if len(faults) > 1 else ": "
        raise UserError(f"{source} differs from the rows of this task{several}{'; '.join(faults)}")
    return found


def check_episodes(
    found: Sequence[tuple[ChunkFile, Arrays]],
    specs: Specs,
    folder: pathlib.Path,
    actions: ActionSpec | None = None,
    leave_out: bool = True,
) -> list[tuple[ChunkFile, dict[str, np.ndarray]]]:
    """Checks all files of a folder; says once what is left out or looks odd.

    Args:
        found: Every file that could be read, and its arrays.
        specs: Shape and type of every entry of one row of the task.
        folder: Where the files lie.
        actions: As of ``check_episode``.
        leave_out: As of ``check_episode``.

    Returns:
        The files, each with those arrays that the task has.

    Raises:
        UserError: No file could be read, or as of ``check_episode``.
    """
    if not found:
        raise UserError(f"no readable file in {folder}; the warnings above say what is wrong")
    checked = []
    for file, arrays in found:
        starts = file.stream == FOREIGN  # The replay's own files are pieces of streams.
        taken = check_episode(
            bounded(file, arrays),
            specs,
            file.path,
            actions=actions,
            starts=starts,
            leave_out=leave_out,
        )
        checked.append((file, taken))
    # What an agent made of its own rows is nothing that those of a task might have.
    taken = [given(arrays) if file.stream != FOREIGN else arrays for file, arrays in found]
    further = sorted({key for arrays in taken for key in arrays} - set(specs))
    if further:
        warnings.warn(
            f"the rows of this task have no {', '.join(map(repr, further))}, which files of "
            f"{folder} hold; they are left out",
            stacklevel=2,
        )
    odd = ((file.path, _odd_start(arrays)) for file, arrays in checked)
    if first := next(((path, words) for path, words in odd if words), None):
        warnings.warn(": ".join(map(str, first)), stacklevel=2)
    return checked


def _key_faults(episode: Arrays, specs: Specs) -> Iterator[str]:
    spare = [key for key in episode if key not in specs]
    for key in specs:
        if key not in episode:
            yield f"there is no {key!r} ({_missing_help(key, spare, episode, specs)})"


def _missing_help(key: str, spare: Sequence[str], episode: Arrays, specs: Specs) -> str:
    if key in FLAGS:
        return f"make it: {_FLAG_HELP[key]}"
    shape = tuple(specs[key][0])
    alike = [one for one in spare if np.shape(episode[one])[1:] == shape]
    named = [one for one in spare if one.rstrip("s") == key or one.endswith(f"/{key}")]
    if guess := (named or alike):
        return f"rename {guess[0]!r}, if that is it"
    there = f"; what else is there: {', '.join(map(repr, spare))}" if spare else ""
    return f"record it, or choose environment options under which the task has none{there}"


def _length_faults(found: Arrays) -> Iterator[str]:
    lengths = {key: len(value) for key, value in found.items() if value.ndim}
    most = max(lengths.values(), default=0)
    if short := [key for key, length in lengths.items() if length != most]:
        named = ", ".join(f"{key!r} has {length}" for key, length in lengths.items())
        words = f"the arrays have different numbers of rows ({named})"
        if all(lengths[key] == most - 1 for key in short):
            words += (
                ": a row holds the action that led to its observation, so put a row of zeros "
                f"in front: {_LATE.format(short[0])}, is_first True there"
            )
        yield words
    elif lengths and not most:
        yield "there are no rows"


def _shape_fault(key: str, value: np.ndarray, shape: tuple[int, ...]) -> str:
    if not value.ndim:
        return f"{key!r} is a single number, expected one entry for each row"
    if value.shape[1:] == shape:
        return ""
    found = value.shape[1:]
    words = f"{key!r} has the shape {found} in a row, expected {shape} "
    if key == "action" and not found and value.dtype.kind in _NUMBERS and shape[0] > 1:
        return words + f"(one-hot: numpy.eye({shape[0]}, dtype=numpy.float32)[action])"
    if len(shape) == 3 and found == (shape[2], *shape[:2]):
        return words + f"(channels last: {key}.transpose(0, 2, 3, 1))"
    if math.prod(found) == math.prod(shape):
        return words + f"({key}.reshape({', '.join(map(str, ('len(' + key + ')', *shape)))}))"
    if len(shape) == len(found) == 3 and found[2] == shape[2]:
        return words + f"(resize every picture to {shape[0]}x{shape[1]})"
    return words + "(it is of another task, or of other environment options)"


def _type_fault(key: str, value: np.ndarray, dtype: np.dtype) -> str:
    if value.dtype == dtype:
        return ""
    words = f"{key!r} is {value.dtype}, expected {dtype} "
    if value.dtype.kind not in _NUMBERS:
        return words + "(numbers only)"
    kind = "bool" if dtype.kind == "b" else f"numpy.{dtype}"
    if dtype == np.uint8 and value.dtype.kind == "f":
        scaled = key if (value > 1).any() else f"(255 * {key})"
        return words + f"({scaled}.round().astype({kind}))"
    return words + f"({key}.astype({kind}))"


def _finite_fault(key: str, value: np.ndarray) -> str:
    if value.dtype.kind != "f":
        return ""
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(value.astype(np.float32))
    if not bad.any():
        return ""
    first = tuple(map(int, np.argwhere(bad)[0]))
    rows = len(np.unique(np.argwhere(bad)[:, 0]))
    more = f" and {rows - 1} rows more" if rows > 1 else ""
    return f"{key!r} is {value[first]} in row {first[0]}{more} (leave such rows out, or mend them)"


def _action_faults(shaped: Arrays, actions: ActionSpec | None) -> Iterator[str]:
    action = shaped.get("action")
    finite = np.zeros(0) if action is None else action[np.isfinite(action)]
    if not finite.size:
        return
    low, high = finite.min(), finite.max()
    if low < -1 - ROUNDING or high > 1 + ROUNDING:
        yield (
            f"'action' reaches from {low:g} to {high:g}, expected -1 to 1 (scale it by the bounds "
            "of the action space: 2 * (action - low) / (high - low) - 1)"
        )
        return
    if actions is None or len(shaped.get("is_first", ())) != len(action):
        return
    # The row of a reset holds no action.
    rows = action[~shaped["is_first"].astype(bool)]
    for part, entries in actions.blocks:
        block = rows[:, entries]
        choice = block.argmax(1)[:, None] == np.arange(part.size)
        if part.kind == "categorical" and np.abs(block - choice).max(initial=0) > ROUNDING:
            yield (
                f"'action' is not one-hot over {part.size} choices "
                f"(numpy.eye({part.size}, dtype=numpy.float32)[choice])"
            )
            return


def _flag_faults(shaped: Arrays, starts: bool) -> Iterator[str]:
    if len({len(shaped.get(flag, ())) for flag in FLAGS}) > 1 or not len(
        shaped.get("is_first", ())
    ):
        return
    first, last, terminal = (shaped[flag].astype(bool) for flag in FLAGS)
    if starts and not first[0]:
        marked = "does not mark row 0" if first.any() else "marks no row"
        help_text = _FLAG_HELP["is_first"]
        yield f"'is_first' {marked}, expected the first row of every episode ({help_text})"
    if (wrong := np.flatnonzero(terminal & ~last)).size:
        yield f"'is_terminal' marks row {wrong[0]} and 'is_last' does not (is_last | is_terminal)"
    if (wrong := np.flatnonzero(last[:-1] & ~first[1:])).size:
        yield (
            f"'is_last' marks row {wrong[0]}, and 'is_first' not the next one (mark the first row "
            "of every episode)"
        )


def _odd_start(arrays: Arrays) -> str:
    first = arrays.get("is_first", np.zeros(0, bool))
    for key in ("action", "reward"):
        if key in arrays and arrays[key][first].any():
            return (
                f"{key!r} is not 0 in the row of a reset, where nothing has led to the "
                "observation; if it is what followed the observation of its own row, put a row "
                f"of zeros in front: {_LATE.format(key)}"
            )
    return ""
