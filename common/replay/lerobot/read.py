"""Episodes of a LeRobot dataset as transitions.

Frame t holds what was seen, and the action that was taken *then*: it leads to frame t + 1.
``next.reward`` and ``next.done`` of frame t came with that, so that

    a[t] = action[t],  r[t] = next.reward[t],  o[t] = observation[t]

and what the action of an episode's last frame led to was not recorded. That transition is left
out, unless ``next.done`` says that the task ended there: then it is kept, since its reward and the
end count, with the last frame once more. Frames behind the first that ``next.done`` or
``next.truncated`` marks show what the marked action led to, and what lies beyond them is left out.

``next.done`` is taken for an end of the task, after which nothing follows, as LeRobot's own replay
buffer takes it; where ``next.truncated`` marks the same frame it is not. Every episode ends with
its last frame, unless both are recorded and mark none.
"""

from __future__ import annotations

import json
import pathlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from common.errors import UserError
from common.replay.lerobot import layout as names
from common.replay.lerobot.films import CHANNELS, Film, decode
from common.replay.lerobot.layout import Entry, Feature, Layout, read_layout
from common.replay.lerobot.tables import numbers, read_table
from common.replay.logs.transitions import Transitions
from common.replay.spaces import recorded_actions
from common.spaces import MIN_IMAGE_SIZE, ActionPart, ActionSpec, ObservationSpec

RECORD = "collection.json"
"""Beside a dataset that was exported from here: among other things, its action space."""
SIZE = 64
"""Height and width of pictures, where no task says it."""


class Opened(NamedTuple):
    """A dataset that is being read.

    Attributes:
        amount: Its episodes.
        observations: What is read of a frame.
        actions: The flat action vector.
        episodes: The name of every episode and what reads it.
    """

    amount: int
    observations: dict[str, ObservationSpec]
    actions: ActionSpec
    episodes: Iterator[tuple[str, Callable[[], Transitions]]]


def open_lerobot(
    folder: pathlib.Path,
    observations: Mapping[str, ObservationSpec] | None = None,
    actions: ActionSpec | None = None,
    size: int = SIZE,
) -> Opened:
    """Opens a dataset.

    Args:
        folder: Of the dataset.
        observations: What the task shows; None for all that a frame holds. Pictures are resized to
            those of the task.
        actions: The task's flat action vector; None for numbers between the smallest and the
            largest that were taken, or choices where the actions are whole numbers.
        size: Height and width of pictures, where no task says it.

    Raises:
        UserError: As of ``read_layout``; or the frames lack what the task shows.
    """
    found = read_layout(folder)
    if names.ACTION not in found.features:
        raise UserError(f"{folder} has no feature 'action', but {', '.join(found.features)}")
    wanted = _all(found, size) if observations is None else _chosen(found, observations)
    actions = actions or _recorded_actions(folder) or _taken_actions(found)
    reader = _Reader(found, wanted, actions)
    specs = {key: spec for key, spec in wanted.values()}
    return Opened(len(found.episodes), specs, actions, reader.episodes())


Wanted = dict[str, tuple[str, ObservationSpec]]
"""By the name of a feature: our name for it, and what is to become of it."""


def _short(name: str) -> str:
    """Our name of a feature."""
    return name.removeprefix(names.OBSERVATION + ".").replace(".", "/")


def _seen(found: Layout) -> dict[str, Feature]:
    """The features that are observations: pictures and numbers."""
    return {
        key: feature
        for key, feature in found.features.items()
        if key.split(".")[0] == names.OBSERVATION and feature.dtype != "string"
    }


def _all(found: Layout, size: int) -> Wanted:
    if size < MIN_IMAGE_SIZE:
        raise UserError(f"pictures of {size}x{size} are too small; expected {MIN_IMAGE_SIZE} up")
    wanted = {}
    for name, feature in _seen(found).items():
        picture = feature.dtype in names.PICTURES
        shape = (size, size, 3) if picture else (feature.size,)
        wanted[name] = _short(name), ObservationSpec(shape, "image" if picture else "vector")
    if not wanted:
        raise UserError(f"{found.folder} has no observations, but {', '.join(found.features)}")
    return wanted


def _chosen(found: Layout, specs: Mapping[str, ObservationSpec]) -> Wanted:
    """Goes by names; what is left of a kind goes together where each side has one of it."""
    seen = _seen(found)
    wanted: Wanted = {}
    for kind in ("image", "vector"):
        here = {key: spec for key, spec in specs.items() if spec.kind == kind}
        there = {
            _short(name): name
            for name, feature in seen.items()
            if (feature.dtype in names.PICTURES) == (kind == "image")
        }
        both = [key for key in here if key in there]
        pairs = {there[key]: key for key in both}
        left = [key for key in here if key not in both]
        others = [name for short, name in there.items() if short not in both]
        if len(left) == len(others) == 1:
            pairs, left = pairs | {others[0]: left[0]}, []
        if left:
            what = ", ".join(there) or f"no {'pictures' if kind == 'image' else 'numbers'}"
            raise UserError(
                f"{found.folder} has no {left[0]!r}, which the task shows, but {what}; choose "
                "environment options under which the task shows the same, or leave --task out"
            )
        wanted |= {name: (key, here[key]) for name, key in pairs.items()}
    for key, spec in wanted.values():
        if spec.kind == "image" and spec.shape[-1] not in CHANNELS:
            raise UserError(
                f"pictures of a dataset have 1 or 3 channels, {key!r} of the task has "
                f"{spec.shape[-1]}; set --env.stack 1"
            )
    return wanted


def _recorded_actions(folder: pathlib.Path) -> ActionSpec | None:
    """The action space of the task that a dataset was exported from; None where nothing says."""
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}); restore it, or delete it") from error
    return recorded_actions(record, path)


def _taken_actions(found: Layout) -> ActionSpec:
    feature = found.features[names.ACTION]
    lows, highs = [], []
    for path in dict.fromkeys(one.table for one in found.episodes):
        try:
            taken = numbers(read_table(path, [names.ACTION]), names.ACTION, feature.size)
        except ValueError as error:
            raise UserError(f"{path}: {error}") from error
        lows.append(taken.min(0))
        highs.append(taken.max(0))
    low, high = np.min(lows, 0), np.max(highs, 0)
    if low.dtype.kind in "iub" and feature.size == 1:
        return ActionSpec(
            (ActionPart((), "categorical", int(high[0] - low[0]) + 1, start=int(low[0])),)
        )
    bounds = tuple(map(float, low)), tuple(map(float, high))
    return ActionSpec((ActionPart((), "continuous", feature.size, *bounds, (feature.size,)),))


class _Reader:
    """Reads one episode after the other, each file once."""

    def __init__(self, found: Layout, wanted: Wanted, actions: ActionSpec):
        self._layout, self._wanted, self._actions = found, wanted, actions
        marks = (names.REWARD, names.DONE, names.TRUNCATED)
        self._marks = [name for name in marks if name in found.features]
        self._films: dict[pathlib.Path, Film] = {}
        self._table: tuple[pathlib.Path, Any] | None = None

    def episodes(self) -> Iterator[tuple[str, Callable[[], Transitions]]]:
        """Yields the name of every episode and what reads it; to be read in that order."""
        if names.REWARD not in self._marks:
            self._warn(f"has no {names.REWARD}: all rewards are 0")
        last = {
            frames.path: one.number
            for one in self._layout.episodes
            for name, frames in one.videos.items()
            if name in self._wanted
        }
        try:
            for entry in self._layout.episodes:
                name = f"episode {entry.number} of {self._layout.folder}"
                if entry.frames > 1:  # A lone frame holds no step.
                    yield name, lambda entry=entry: self._read(entry)
                for path in [path for path, number in last.items() if number == entry.number]:
                    if film := self._films.pop(path, None):
                        film.check_end()
                        film.close()
        finally:
            for film in self._films.values():
                film.close()

    def _read(self, entry: Entry) -> Transitions:
        table = self._rows(entry)
        if table.num_rows != entry.frames:
            raise ValueError(
                f"{entry.table.name} has {table.num_rows} frames of it, expected {entry.frames}"
            )
        if not np.array_equal(numbers(table, "frame_index", 1)[:, 0], np.arange(entry.frames)):
            raise ValueError("its frame_index does not count from 0 on; frames are missing")
        marks = {name: numbers(table, name, 1)[:, 0] for name in self._marks}
        rewards = marks.get(names.REWARD, np.zeros(entry.frames, np.float32))
        done, cut = (
            marks.get(name, np.zeros(entry.frames)) != 0 for name in (names.DONE, names.TRUNCATED)
        )
        ends = np.flatnonzero(done | cut)
        # The last frame whose action, reward and result are known, of those before the end.
        last, terminal = entry.frames - 2, False
        if ends.size:
            last, terminal = int(ends[0]), bool(done[ends[0]] and not cut[ends[0]])
            if last == entry.frames - 1 and not terminal:
                last -= 1
        marked = ends.size > 0 or not {names.DONE, names.TRUNCATED} <= marks.keys()
        seen = {
            key: self._observation(table, entry, name, spec, last)
            for name, (key, spec) in self._wanted.items()
        }
        size = self._layout.features[names.ACTION].size
        taken = numbers(table, names.ACTION, size)[: last + 1]
        return Transitions(
            seen, by_part(taken, self._actions), rewards[: last + 1], marked, terminal
        )

    def _rows(self, entry: Entry) -> Any:
        """The frames of an episode, in the columns that are needed."""
        path, table = self._table or (None, None)
        if path != entry.table:
            shown = [name for name in self._wanted if self._dtype(name) != "video"]
            columns = ["episode_index", "frame_index", names.ACTION, *self._marks, *shown]
            table = read_table(entry.table, columns)
            self._table = entry.table, table
        index = numbers(table, "episode_index", 1)[:, 0]
        return table.take(np.flatnonzero(index == entry.number))

    def _dtype(self, name: str) -> str:
        return self._layout.features[name].dtype

    def _observation(
        self, table: Any, entry: Entry, name: str, spec: ObservationSpec, last: int
    ) -> np.ndarray:
        """What was seen before each of the actions up to ``last``, and after that one."""
        if self._dtype(name) == "video":
            frames = entry.videos[name]
            film = self._films.setdefault(frames.path, Film(frames.path, spec.shape))
            found = film.take(frames.start, entry.frames)
        elif self._dtype(name) == "image":
            found = decode(table.column(name).to_pylist(), spec.shape)
        else:
            found = numbers(table, name, self._layout.features[name].size)
            found = found.astype(np.int64) if spec.choices else found
        if last == entry.frames - 1:
            self._warn(
                "has no frame after that in which the task ended: the last frame of such an "
                "episode stands twice"
            )
            found = np.concatenate([found, found[-1:]])
        return found[: last + 2]

    def _warn(self, words: str) -> None:
        warnings.warn(f"{self._layout.folder} {words}", stacklevel=2)


def by_part(taken: np.ndarray, spec: ActionSpec) -> Any:
    """Splits actions that stand side by side into those of a space.

    Args:
        taken: ``[T, n]`` in the units of the environment: the numbers of every Box, and of every
            choice its number, in the order of the spec.
        spec: The flat action vector.

    Returns:
        As ``flat_actions`` of ``common.replay.logs.transitions`` takes them.

    Raises:
        ValueError: There are more or fewer numbers, or one of a choice is not whole.
    """
    widths = [1 if part.kind == "categorical" else part.size for part in spec.parts]
    if sum(widths) != taken.shape[1]:
        raise ValueError(f"an action has {taken.shape[1]} numbers, that of the task {sum(widths)}")
    blocks: dict[tuple[str, ...], list[np.ndarray]] = {}
    for part, block in zip(spec.parts, np.split(taken, np.cumsum(widths)[:-1], 1), strict=True):
        if part.kind == "categorical":
            if (block != np.rint(block)).any():
                raise ValueError("an action is no whole number, the task has choices")
            block = block.astype(np.int64)
        blocks.setdefault(part.place, []).append(block)
    whole: dict[str, Any] = {}
    for place, some in blocks.items():
        *outer, last = ("", *place)
        inner = whole
        for key in outer:
            inner = inner.setdefault(key, {})
        inner[last] = np.concatenate(some, 1)
    return whole[""]
