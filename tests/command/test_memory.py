"""The restart that lets arrays be kept: when it happens, and that it is the same command."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from common.command import memory

ROOT = pathlib.Path(__file__).resolve().parents[2]
HUGE = "glibc.malloc.hugetlb=1"
KEPT = ":".join(
    f"glibc.malloc.{name}"
    for name in (
        "mmap_threshold=34359738368",
        "trim_threshold=34359738368",
        "arena_max=2",
        "top_pad=268435456",
    )  # fmt: skip
)
ASKED = f"{HUGE}:{KEPT}"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with memory that gives huge pages on request; returns the restarts made."""
    setting = tmp_path / "enabled"
    setting.write_text("always [madvise] never\n")
    restarts = []
    monkeypatch.setattr(memory, "_SETTING", setting)
    monkeypatch.setattr(memory.os, "confstr", lambda name: "glibc 2.36")
    monkeypatch.setattr(memory, "available_memory", lambda: memory.ENOUGH)
    monkeypatch.setattr(memory.os, "execv", lambda *call: restarts.append(call))
    monkeypatch.setattr(memory.sys, "orig_argv", ["python", "-X", "dev", "-m", "dreamer", "train"])
    monkeypatch.setenv("GLIBC_TUNABLES", "")  # The code sets it; this puts it back.
    return restarts


def test_the_same_command_is_run_again_with_the_variable(machine):
    memory.restart_with_memory_settings()
    expected = sys.executable, [sys.executable, "-X", "dev", "-m", "dreamer", "train"]
    assert machine == [expected]
    assert os.environ["GLIBC_TUNABLES"] == ASKED
    memory.restart_with_memory_settings()  # The restarted process comes here again.
    assert machine == [expected]


def test_other_tunables_stay(machine, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=3")
    memory.restart_with_memory_settings()
    assert os.environ["GLIBC_TUNABLES"] == f"glibc.malloc.check=3:{ASKED}"
    assert len(machine) == 1


@pytest.mark.parametrize("setting", ["[always] madvise never", "always madvise [never]", ""])
def test_a_kernel_that_gives_pages_anyhow_is_not_asked_for_them(machine, setting):
    memory._SETTING.write_text(setting)
    memory.restart_with_memory_settings()
    assert len(machine) == 1 and os.environ["GLIBC_TUNABLES"] == KEPT


def test_a_machine_without_much_memory_keeps_nothing(machine, monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: memory.ENOUGH - 1)
    memory.restart_with_memory_settings()
    assert len(machine) == 1 and os.environ["GLIBC_TUNABLES"] == HUGE
    memory._SETTING.unlink()
    monkeypatch.setenv("GLIBC_TUNABLES", "")
    memory.restart_with_memory_settings()
    assert len(machine) == 1


def test_the_memory_that_is_free_is_what_the_machine_has_at_most():
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 2**28 < memory.available_memory() <= total


def test_a_library_of_another_kind_is_left_alone(machine, monkeypatch):
    monkeypatch.setattr(memory.os, "confstr", lambda name: "musl 1.2")
    memory.restart_with_memory_settings()

    def unknown(name):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(memory.os, "confstr", unknown)
    memory.restart_with_memory_settings()
    assert machine == []


def test_the_user_may_decline_each(machine, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0:glibc.malloc.trim_threshold=4")
    memory.restart_with_memory_settings()
    words = os.environ["GLIBC_TUNABLES"].split(":")
    assert words[:2] == ["glibc.malloc.hugetlb=0", "glibc.malloc.trim_threshold=4"]
    assert words[2:] == [one for one in KEPT.split(":") if "trim_threshold" not in one]


def test_a_process_really_restarts_once_with_its_words(tmp_path):
    setting = tmp_path / "enabled"
    setting.write_text("[madvise]")
    code = f"""
import os, pathlib, sys
from common.command import memory
memory._SETTING = pathlib.Path({str(setting)!r})
memory.os.confstr = lambda name: "glibc"
memory.available_memory = lambda: memory.ENOUGH
memory.restart_with_memory_settings()
print(os.environ["GLIBC_TUNABLES"], *sys.argv[1:])
"""
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, "-c", code, "a b", "c"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"{ASKED} a b c\n"


SCRATCH = """
import resource, statistics
import jax, jax.numpy as jnp
jax.config.update("jax_cpu_enable_async_dispatch", False)
@jax.jit
def step(x):
    rows = jnp.arange(4096)
    y = jnp.zeros((4096, 4096)).at[rows, rows].add(x)  # 64 MiB, nothing of which is returned.
    return x + y.mean()
x, faults = jnp.ones(4096), []
for _ in range(25):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    x = step(x).block_until_ready()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(statistics.median(faults))
"""


def test_scratch_memory_is_not_cleared_again_at_every_call():
    """By the main thread; what others allocate lies in the second arena, which gives it back."""

    def faults(tunables):
        environment = {**os.environ, "GLIBC_TUNABLES": tunables, "JAX_PLATFORMS": "cpu"}
        words = [sys.executable, "-c", SCRATCH]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults(KEPT) < 500 < 10_000 < faults("")
