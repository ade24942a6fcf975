"""How the scripts that time other packages, ``peer_*.py``, time a call and print it.

They run in environments of their own, where nothing of this package is installed: this module
stands beside them and needs nothing but Python.
"""

from __future__ import annotations

import json
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

WARM_UP = 2
"""Calls before the first one that counts: they compile."""


def print_timed(call: Callable[[], Any], repeats: int, **what: Any) -> None:
    """Times a call and prints one JSON line.

    Args:
        call: Returns when its work is done.
        repeats: Calls that count.
        **what: Entries that stand before the figures: ``package``, ``workload`` and others.

    The figures are ``seconds`` of every call, their ``median``, ``core_seconds``, the median of
    the processor time of a call, ``warm_up_seconds``, which compiling is part of, and the peak
    of the process's memory, ``peak_gib``.
    """
    seconds, core_seconds = [], []
    for _ in range(WARM_UP + repeats):
        start, start_core = time.perf_counter(), time.process_time()
        call()
        seconds.append(time.perf_counter() - start)
        core_seconds.append(time.process_time() - start_core)
    figures = {
        "seconds": seconds[WARM_UP:],
        "median": statistics.median(seconds[WARM_UP:]),
        "core_seconds": statistics.median(core_seconds[WARM_UP:]),
        "warm_up_seconds": sum(seconds[:WARM_UP]),
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    print(json.dumps(what | figures), flush=True)
