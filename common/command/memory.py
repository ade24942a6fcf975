"""Lets the C library keep large arrays, and back them by pages of 2 MiB.

XLA allocates the scratch memory of a computation anew at every call. glibc gives so much memory
back to the kernel each time, which clears it before it gives it out again; with pages of 4 KiB that
is a quarter of an update's time on CPU. glibc keeps it and asks for huge pages only if variables
say so when the process starts, hence one restart. What is kept is about as much as one update
takes. Of its arenas there are two: those beyond the first give back what they don't use, and many
share little of it, while in a single one the threads that compile wait for each other.
"""

from __future__ import annotations

import os
import pathlib
import sys

_SETTING = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
_HUGE_PAGES = {"glibc.malloc.hugetlb": "1"}
_KEPT = {
    "glibc.malloc.mmap_threshold": str(2**35),
    "glibc.malloc.trim_threshold": str(2**35),
    "glibc.malloc.arena_max": "2",
    # Taken in larger pieces, it is cut up less, so that a large array finds its old place again.
    "glibc.malloc.top_pad": str(2**28),
}
ENOUGH = 8 * 2**30
"""Bytes that must be free for arrays to be kept."""


def restart_with_memory_settings() -> None:
    """Replaces this process by the same command with these settings; to be called first of all.

    What ``GLIBC_TUNABLES`` mentions already stays as it is: ``glibc.malloc.hugetlb=0`` declines
    huge pages, ``glibc.malloc.trim_threshold=131072`` gives memory back as glibc does by itself.
    Does nothing with another C library; huge pages are only asked for where the kernel gives them
    on request, and arrays kept where there is memory enough.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    known = {one.partition("=")[0] for one in tunables.split(":")}
    missing = {name: value for name, value in _wanted().items() if name not in known}
    if not missing or not sys.executable:
        return
    words = [f"{name}={value}" for name, value in missing.items()]
    os.environ["GLIBC_TUNABLES"] = ":".join(filter(None, [tunables, *words]))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _wanted() -> dict[str, str]:
    try:
        if "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""):
            return {}
    except ValueError:
        return {}
    huge = _HUGE_PAGES if _given_on_request() else {}
    return huge | (_KEPT if available_memory() >= ENOUGH else {})


def _given_on_request() -> bool:
    try:
        return "[madvise]" in _SETTING.read_text()
    except OSError:
        return False


def available_memory() -> int:
    """Returns the bytes that this process may still take, container limits included."""
    try:
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    available = sizes.get("MemAvailable", 0)
    group = pathlib.Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
    except OSError:
        return available
    return available if limit == "max" else min(available, int(limit) - used)
