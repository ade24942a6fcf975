"""Pictures of environments, as films take them."""

from __future__ import annotations

from typing import Any

import numpy as np


class NoPicture(Exception):
    """An environment's picture cannot be filmed; the message says why."""


def to_frame(picture: Any) -> np.ndarray:
    """Returns a picture as uint8 ``[H, W, 3]``, a copy; an alpha channel is dropped.

    Args:
        picture: uint8 ``[H, W]``, ``[H, W, 1]``, ``[H, W, 3]`` or ``[H, W, 4]``.

    Raises:
        NoPicture: It is something else.
    """
    try:
        array = np.asarray(picture)
    except Exception as error:  # Whatever the conversion of somebody's type raises.
        raise NoPicture(f"its picture is no array ({error})") from error
    if array.ndim == 2:
        array = array[..., None]
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] not in (1, 3, 4):
        raise NoPicture(
            f"its picture is {array.dtype} {array.shape}; expected uint8 (height, width, 3)"
        )
    if not array.size:
        raise NoPicture(f"its picture is empty, {array.shape}")
    colours = array[..., :3]
    return np.broadcast_to(colours, (*colours.shape[:2], 3)).copy()
