"""Times a workload in a process of its own, so that its peak memory is its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def time_apart(
    name: str, repeats: int, timeout: float | None = None, environment: Mapping[str, str] = {}
) -> dict[str, Any]:
    """Returns the record of a workload, or an "error".

    Args:
        name: ``shape/piece``.
        repeats: Timed calls.
        timeout: Seconds that it may take; None for as many as it likes.
        environment: Variables of the process besides those of this one.
    """
    command = [sys.executable, "-m", "benchmarks.speed", name, "--here", "--repeats", str(repeats)]
    # A compilation cache would hide the time to compile.
    return result_of(command, timeout, {**environment, "JAX_COMPILATION_CACHE_DIR": ""})


def result_of(
    command: Sequence[str], timeout: float | None = None, environment: Mapping[str, str] = {}
) -> dict[str, Any]:
    """Returns the JSON that a command prints last, or the end of its complaint as "error"."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return {"error": "no time was left for it"}
    if done.returncode:
        return {"error": done.stderr[-1500:]}
    return json.loads(done.stdout.splitlines()[-1])
