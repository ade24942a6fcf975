"""Keeps freed memory inside the process, where the C library would return it at once.

XLA allocates the scratch memory of a computation anew at every call. glibc maps large
blocks from the kernel and unmaps them on release, so that every update touches fresh
pages: a third of the time of a small update on CPU went into page faults.
"""

from __future__ import annotations

import ctypes
import os
import sys

_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8
_LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """Sets glibc's allocator to hold on to memory; call before threads start.

    Does nothing with another C library, or where the user has set ``MALLOC_ARENA_MAX``.
    """
    if not sys.platform.startswith("linux") or "MALLOC_ARENA_MAX" in os.environ:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    # A thread's own arena cannot grow beyond 64 MiB: with one arena all blocks may stay.
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, _LARGEST)
