"""Keeps the processes of the suite small, and fails a suite that has grown.

A plugin of pytest, which ``conftest.py`` loads. Where a process holds much after a test or a
module, all programs that JAX compiled are dropped, with what the tests' own caches hold. At the
end every process says how much memory it took at most; one that took more than the limit fails
the suite. Processes that tests start are not counted.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import pathlib
import resource
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
OWN = ("tests", *(path.parent.name for path in ROOT.glob("*/__init__.py")))
HEAVIEST = 5  # Modules that the summary names.
GIBIBYTE = 2**30
LARGE = 1.2  # GiB, above which a clean-up follows: what is dropped is compiled again.
_peaks = pytest.StashKey[dict[str, float]]()
_reports = pytest.StashKey[dict[str, dict[str, float]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the limit."""
    parser.addoption(
        "--most-memory",
        type=float,
        default=3.0,
        metavar="GIB",
        help="what a process of the suite may take; 3 unless told",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Begins the records."""
    config.stash[_peaks] = {}
    config.stash[_reports] = {}


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """Drops what was compiled in the middle of a module that has grown large."""
    if held() > LARGE:
        drop_programs()


@pytest.fixture(scope="module", autouse=True)
def _small_process(request: pytest.FixtureRequest) -> Iterator[None]:
    """Drops what is compiled, after all other fixtures of a module, and notes its peak."""
    yield
    if held() > LARGE:
        drop_programs()
    request.config.stash[_peaks][request.node.nodeid] = peak()


def drop_programs() -> None:
    """Forgets what was compiled, and gives the memory back to the system."""
    clear_own_caches()
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
    gc.collect()
    if hasattr(ctypes.CDLL(None), "malloc_trim"):  # Of glibc: it keeps what was freed otherwise.
        ctypes.CDLL(None).malloc_trim(0)


def clear_own_caches() -> None:
    """Empties the caches of functions of this repository: they hold programs and parameters."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in OWN and isinstance(module, types.ModuleType):
            for value in list(vars(module).values()):
                if isinstance(value, functools._lru_cache_wrapper):
                    value.cache_clear()


def held() -> float:
    """Returns the memory in GiB that the process has now; 0 where the system does not say."""
    statistics = pathlib.Path("/proc/self/statm")
    if not statistics.exists():
        return 0.0
    return int(statistics.read_text().split()[1]) * resource.getpagesize() / GIBIBYTE


def peak() -> float:
    """Returns the most memory in GiB since the last call; 0 where the system does not say."""
    status = pathlib.Path("/proc/self/status")
    if not status.exists():
        return 0.0
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    with contextlib.suppress(OSError):  # Where that may not be written, peaks only grow.
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # The mark begins anew.
    return int(line.split()[1]) * 1024 / GIBIBYTE


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hands the peaks to where they are printed; fails the suite where one is too large."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["peaks"] = config.stash[_peaks]
        return
    if config.stash[_peaks]:
        config.stash[_reports]["this process"] = config.stash[_peaks]
    if _too_large(config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Takes the peaks of a worker of pytest-xdist."""
    del error  # A worker that died has no output.
    peaks = getattr(node, "workeroutput", {}).get("peaks", {})
    if peaks:
        node.config.stash[_reports][f"worker {node.gateway.id}"] = peaks


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Says what every process took, and the heaviest modules."""
    reports = config.stash[_reports]
    if not reports:
        return
    terminalreporter.section("memory")
    for name, peaks in sorted(reports.items()):
        terminalreporter.line(f"{name}: {max(peaks.values()):.2f} GiB at most")
    found = sorted(((x, name) for one in reports.values() for name, x in one.items()), reverse=True)
    for amount, name in found[:HEAVIEST]:
        terminalreporter.line(f"  {amount:.2f} GiB  {name}")
    for name in _too_large(config):
        limit = config.getoption("--most-memory")
        terminalreporter.line(f"FAILED: {name} took more than {limit:g} GiB", red=True)


def _too_large(config: pytest.Config) -> list[str]:
    limit = config.getoption("--most-memory")
    reports = config.stash[_reports]
    return sorted(name for name, peaks in reports.items() if max(peaks.values()) > limit)
