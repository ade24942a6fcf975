"""The suite's own plugin: it drops what was compiled, and fails a suite that has grown."""

from __future__ import annotations

import functools
import os
import pathlib
import subprocess
import sys

import jax
import pytest

from tests import memory

ROOT = pathlib.Path(__file__).resolve().parent.parent
MEBIBYTES = 300
TESTS = f"""
def test_that_takes_memory():
    assert len(b"x" * ({MEBIBYTES} << 20))  # Zeros would take nothing.
"""


@functools.cache
def remembered():
    """What a module of tests might keep."""
    return object()


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("limit", [0.1, 4])
def test_a_process_that_takes_more_fails_the_suite(tmp_path, workers, limit):
    (tmp_path / "test_large.py").write_text(TESTS)
    (tmp_path / "test_small.py").write_text("def test_nothing(): pass")
    words = ["-m", "pytest", "-p", "tests.memory", "--rootdir", str(tmp_path), "-n", str(workers)]
    words += ["--most-memory", str(limit), "test_large.py", "test_small.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    del environment["PYTEST_CURRENT_TEST"]
    environment.pop("PYTEST_XDIST_WORKER", None)
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == (limit < 1)
    process = "worker gw0" if workers else "this process"
    assert (f"FAILED: {process} took more than 0.1 GiB" in done.stdout) == (limit < 1)
    line = next(line for line in done.stdout.splitlines() if line.endswith("test_large.py"))
    assert MEBIBYTES / 1024 < float(line.split()[0]) < 2 * MEBIBYTES / 1024
    assert "GiB  test_small.py" in done.stdout


def test_programs_and_what_modules_remember_are_dropped():
    twice, first = jax.jit(lambda x: 2 * x), remembered()
    twice(1.0)
    assert twice._cache_size() == 1 and remembered() is first
    memory.drop_programs()
    assert twice._cache_size() == 0 and remembered() is not first
    assert twice(2.0) == 4
