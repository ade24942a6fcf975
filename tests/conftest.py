"""Set-up of the whole suite, before JAX or MuJoCo is imported."""

from __future__ import annotations

import gc
import os
import pathlib
import shutil
import sys

import hypothesis
import pytest

pytest_plugins = ["tests.memory"]
ROOT = pathlib.Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

# Compiling takes most of the suite's time: keep the results, for subprocesses too. Small programs
# are kept as well: every process needs the same hundreds of them.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ["XDG_CACHE_HOME"] = str(ROOT / ".cache" / "home")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])
)
if "PYTEST_XDIST_WORKER" not in os.environ:
    from tests.compiling import compile_fast

    compile_fast()
    # Folders of pytest get the same names again: no run of them was begun before.
    for marks in (ROOT / ".cache" / "home").glob("*/runs"):
        shutil.rmtree(marks, ignore_errors=True)


def _stay_on_one_core() -> None:
    """Gives each parallel worker of pytest a core of its own.

    Two processes whose XLA threads spread over the same two cores wait for each other.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if not worker or not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


_stay_on_one_core()
# Tracing makes many objects that stay: to look through them less often saves a tenth of it.
gc.set_threshold(50_000, 20, 20)
# No test may depend on how fast the machine is.
hypothesis.settings.register_profile("any speed", deadline=None)
hypothesis.settings.load_profile("any speed")
LONGEST = (
    "test_run_end_to_end",
    "test_token_model",
    "test_tdm_experiments",
    "test_command_line",
    "test_known_optimum",
    "test_token_agent",
)
"""Modules that take a minute or more on one core."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the longest modules, so that no worker is left with one at the end."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))
