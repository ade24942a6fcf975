"""What the arrays of an observation seem to be, and how to turn them into what agents read.

Agents read images, uint8 ``[height, width, channels]``, by convolutions and everything else as
vectors. Much that is meant to be a picture comes in another form, and some that is no picture
comes in that one.
"""

from __future__ import annotations

from collections.abc import Mapping

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from common.errors import UserError
from common.spaces import MIN_IMAGE_SIZE

STACK = 31
"""Channels that an image has at most, as far as guesses go: several pictures are stacked."""


def check_images(spaces: Mapping[str, gymnasium.Space]) -> None:
    """Raises a UserError where a uint8 space is no image as agents read it, and says what to do.

    Args:
        spaces: Spaces that are no Dict, by the name of the entry.
    """
    for key, space in spaces.items():
        if not _is_bytes(space) or len(space.shape) not in (2, 3):
            continue
        shape = (*space.shape, 1)[:3]
        if min(shape[:2]) >= MIN_IMAGE_SIZE:
            continue
        if _channels_first(shape):
            raise UserError(
                f"image {key!r} has the shape {space.shape}, with its channels first; set "
                "--env.channels first (EnvConfig.channels), or transpose it to "
                f"{_last(shape)} in a wrapper"
            )
        raise UserError(
            f"image {key!r} is {shape[0]}x{shape[1]}, the convolutions need at least "
            f"{MIN_IMAGE_SIZE}x{MIN_IMAGE_SIZE}: resize it in a wrapper if it is a picture; if it "
            "is a grid of codes, flatten it into a vector, best of one-hot entries (such as "
            "gymnasium.wrappers.FlattenObservation)"
        )


def doubts(spaces: Mapping[str, gymnasium.Space]) -> dict[str, str]:
    """Says of every entry that may be meant as something else what it is taken for, and the cure.

    Args:
        spaces: As of ``check_images``.

    Returns:
        Words by the name of the entry, of those that are in doubt only.
    """
    found = {k: _doubt(space) for k, space in spaces.items() if isinstance(space, Box)}
    return {key: words for key, words in found.items() if words}


def _doubt(space: Box) -> str:
    shape, numbers = space.shape, f"the {int(np.prod(space.shape)):,} numbers of a vector"
    if _is_bytes(space) and len(shape) == 3 and shape[-1] > STACK:
        return (
            f"is taken as an image of {shape[-1]} channels; if its channels come first, set "
            "--env.channels first"
        )
    if len(shape) in (2, 3) and not _is_bytes(space):
        full = (*shape, 1)[:3]
        if min(full[:2]) >= MIN_IMAGE_SIZE and full[-1] <= STACK:
            right, form = full, ""
        elif _channels_first(full):
            right, form = _last(full), ", with its channels first,"
        else:
            return ""
        return (
            f"looks like an image{form} but is {space.dtype}, so that it is taken as {numbers}; "
            f"for an image return uint8 {right}, from 0 to 255"
        )
    if len(shape) > 3 and sorted(shape)[-2] >= MIN_IMAGE_SIZE:
        return (
            f"looks like a stack of images, but is taken as {numbers}; for an image return uint8 "
            "(height, width, channels): the newest alone, since the model remembers, or the stack "
            "in its channels"
        )
    return ""


def _is_bytes(space: gymnasium.Space) -> bool:
    return isinstance(space, Box) and space.dtype == np.uint8


def _channels_first(shape: tuple[int, ...]) -> bool:
    """Whether ``[C, H, W]`` can only be read in this order."""
    return shape[0] <= STACK and min(shape[1:]) >= MIN_IMAGE_SIZE


def _last(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[1:], shape[0])
