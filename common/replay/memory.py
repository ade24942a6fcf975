"""How much memory rows take, and how much there is."""

from __future__ import annotations

import os
import pathlib

import numpy as np

from common.rows import Specs

_GIB = 2**30


def row_bytes(specs: Specs) -> int:
    """Returns the bytes of one row."""
    return sum(
        int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        for shape, dtype in specs.values()
    )


def estimate(size: int, rows: int, bound: str) -> str:
    """Returns one line: bytes of a row, rows that fit, GiB when full, and whether that is too much.

    Args:
        size: Bytes of a row.
        rows: Rows that fit.
        bound: Name of the option that limits them.
    """
    full = rows * size / _GIB
    line = (
        f"replay: {size:,} bytes a row, {rows:,} rows fit (limited by {bound}), "
        f"{full:.2f} GiB when full"
    )
    machine = _machine_memory() / _GIB
    if full > 0.8 * machine:
        line += f"; this machine has {machine:.1f} GiB: lower replay.memory or replay.capacity"
    return line


def _machine_memory() -> int:
    """Bytes of memory that this process can have: the machine's, or the container's."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        allowed = pathlib.Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return total
    return min(total, int(allowed)) if allowed.isdigit() else total
