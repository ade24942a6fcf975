"""Lets the C library back large arrays by pages of 2 MiB.

XLA allocates the scratch memory of a computation anew at every call, so that every update
touches fresh memory: with pages of 4 KiB a quarter of an update's time on CPU goes into page
faults. glibc asks the kernel for huge pages only if a variable says so when the process
starts, hence one restart.
"""

from __future__ import annotations

import os
import pathlib
import sys

_SETTING = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
_TUNABLE = "glibc.malloc.hugetlb"


def restart_with_huge_pages() -> None:
    """Replaces this process by the same command with huge pages; to be called first of all.

    Does nothing where the kernel gives them always or never, with another C library, or
    where ``GLIBC_TUNABLES`` mentions them already: ``glibc.malloc.hugetlb=0`` declines.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if _TUNABLE in tunables or not sys.executable or not _given_on_request():
        return
    os.environ["GLIBC_TUNABLES"] = ":".join(filter(None, [tunables, f"{_TUNABLE}=1"]))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _given_on_request() -> bool:
    try:
        return "[madvise]" in _SETTING.read_text() and "glibc" in os.confstr("CS_GNU_LIBC_VERSION")
    except (OSError, ValueError):
        return False
