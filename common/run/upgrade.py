"""What older versions of this package wrote, under the names of today."""

from __future__ import annotations

import re

_STATISTICS = re.compile(r"\.params\['world_model'\]\['vectors'\](?P<rest>.*)")
_MOMENTS_OF_STATISTICS = re.compile(r"\.optimizers?\b.*\['vectors'\]\[")


def leaf_path(path: str) -> str | None:
    """Returns today's path of a leaf of a checkpoint; None where there is none any more.

    Version 0.1 kept statistics of vectors among the world model's parameters, so that its
    optimizers held (unused) moments of them, and the magnitude of rewards by itself.
    """
    if _MOMENTS_OF_STATISTICS.search(path):
        return None
    path = _STATISTICS.sub(r".normalisers['vectors']\g<rest>", path)
    return path.replace(".reward_magnitude", ".normalisers['reward']")
