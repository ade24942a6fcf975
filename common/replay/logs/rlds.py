"""Episodes in TFRecord files: RLDS, and the files of RL Unplugged from which some RLDS was made.

Each record is one episode; two layouts are known by the names of their features.

RLDS (https://github.com/google-research/rlds), as TensorFlow Datasets writes it: ``steps/action``
and ``steps/reward`` of step t belong to the transition *out of* it, and mean nothing in the last
step, which ``steps/is_last`` marks:

    a[t] = action[t],  r[t] = reward[t],  t = 0..T−1;  action[T] and reward[T] are left out

RL Unplugged's ``rwrl`` (episodes of 1001 steps): ``action``, ``reward`` and ``discount`` of step t
belong to the transition *into* it, and mean nothing in the first. Observations are called
``observation:<name>``, and an episode is terminal where its last discount is 0:

    a[t] = action[t + 1],  r[t] = reward[t + 1],  t = 0..T−1;  action[0] and reward[0] are left out
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from common.errors import UserError
from common.replay.logs.records import Example, read_example, read_records
from common.replay.logs.transitions import Transitions

_STEPS = "steps/"
_FLAGS = ("is_first", "is_last", "is_terminal")


def read_rlds(paths: Sequence[pathlib.Path]) -> Iterator[tuple[str, Callable[[], Transitions]]]:
    """Yields the name of every episode and what reads it.

    Args:
        paths: TFRecord files.

    Raises:
        UserError: A file is damaged, or holds episodes of an unknown layout.
    """
    for path in paths:
        records = read_records(path)
        number = -1
        while True:
            try:
                record = next(records, None)
                if record is None:
                    break
                example = read_example(record)
            except (OSError, ValueError) as error:
                words = getattr(error, "strerror", None) or error
                raise UserError(f"cannot read {path}: {words}") from error
            number += 1
            read = _layout(example, path)
            yield f"episode {number} of {path}", lambda read=read, example=example: read(example)


def _layout(example: Example, path: pathlib.Path) -> Callable[[Example], Transitions]:
    if any(key.startswith(_STEPS) for key in example):
        return _out_of_step
    if any(key.startswith("observation:") for key in example):
        return _into_step
    names = ", ".join(sorted(example)[:8]) or "none"
    raise UserError(
        f"{path} holds episodes of an unknown layout; expected features steps/... (RLDS) or "
        f"observation:... (RL Unplugged), found {names}"
    )


def _out_of_step(example: Example) -> Transitions:
    steps = {key.removeprefix(_STEPS): x for key, x in example.items() if key.startswith(_STEPS)}
    first, last, terminal = (_needed(steps, key).astype(bool) for key in _FLAGS)
    rows = len(first)
    if not rows or not first[0] or first[1:].any():
        raise ValueError("is_first marks other steps than the first; expected a whole episode")
    if last[:-1].any() or (terminal & ~last).any():
        raise ValueError("is_last or is_terminal marks other steps than the last one")
    return Transitions(
        _observations(steps, "/", rows),
        _by_step(_needed(steps, "action"), "action", rows)[:-1],
        _by_step(_needed(steps, "reward"), "reward", rows)[:-1, 0],
        bool(last[-1]),
        bool(terminal[-1]),
    )


def _into_step(example: Example) -> Transitions:
    rows = len(_needed(example, "reward"))
    discount = _by_step(_needed(example, "discount"), "discount", rows)
    return Transitions(
        _observations(example, ":", rows),
        _by_step(_needed(example, "action"), "action", rows)[1:],
        _by_step(example["reward"], "reward", rows)[1:, 0],
        True,
        not discount[-1].any(),
    )


def _needed(example: Example, key: str) -> Any:
    if key not in example:
        raise ValueError(f"there is no {key!r}, but {', '.join(sorted(example))}")
    return example[key]


def _observations(example: Example, separator: str, rows: int) -> Any:
    """Observations by name, or the only one, which has none."""
    begin = f"observation{separator}"
    found = {
        key.removeprefix(begin).replace(separator, "/"): _by_step(value, key, rows)
        for key, value in example.items()
        if key.startswith(begin)
    }
    return found or _by_step(_needed(example, "observation"), "observation", rows)


def _by_step(values: Any, name: str, rows: int) -> np.ndarray:
    """Values of all steps ``[T + 1, D]``, or pictures ``[T + 1, H, W, C]``."""
    if not rows or not len(values) or len(values) % rows:
        raise ValueError(f"{name!r} has {len(values)} values in {rows} steps")
    if not isinstance(values, list):
        return values.reshape(rows, -1)
    import imageio.v3 as imageio

    try:
        pictures = [imageio.imread(picture) for picture in values]
    except Exception as error:  # Its readers raise many types.
        raise ValueError(f"{name!r} holds bytes that are no pictures") from error
    return np.stack([one if one.ndim == 3 else one[..., None] for one in pictures])
