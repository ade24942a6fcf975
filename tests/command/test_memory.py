"""The restart with huge pages: when it happens, and that it is the same command."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from common.command import memory

ROOT = pathlib.Path(__file__).resolve().parents[2]
ASKED = "glibc.malloc.hugetlb=1"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine that gives huge pages on request; returns the restarts that were made."""
    setting = tmp_path / "enabled"
    setting.write_text("always [madvise] never\n")
    restarts = []
    monkeypatch.setattr(memory, "_SETTING", setting)
    monkeypatch.setattr(memory.os, "confstr", lambda name: "glibc 2.36")
    monkeypatch.setattr(memory.os, "execv", lambda *call: restarts.append(call))
    monkeypatch.setattr(memory.sys, "orig_argv", ["python", "-X", "dev", "-m", "dreamer", "train"])
    monkeypatch.setenv("GLIBC_TUNABLES", "")  # The code sets it; this puts it back.
    return restarts


def test_the_same_command_is_run_again_with_the_variable(machine):
    memory.restart_with_huge_pages()
    expected = sys.executable, [sys.executable, "-X", "dev", "-m", "dreamer", "train"]
    assert machine == [expected]
    assert os.environ["GLIBC_TUNABLES"] == ASKED
    memory.restart_with_huge_pages()  # The restarted process comes here again.
    assert machine == [expected]


def test_other_tunables_stay(machine, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=3")
    memory.restart_with_huge_pages()
    assert os.environ["GLIBC_TUNABLES"] == f"glibc.malloc.check=3:{ASKED}"
    assert len(machine) == 1


@pytest.mark.parametrize("setting", ["[always] madvise never", "always madvise [never]", ""])
def test_a_kernel_that_is_not_asked_is_left_alone(machine, setting):
    memory._SETTING.write_text(setting)
    memory.restart_with_huge_pages()
    assert machine == [] and os.environ["GLIBC_TUNABLES"] == ""


def test_a_kernel_or_a_library_of_another_kind_is_left_alone(machine, monkeypatch):
    monkeypatch.setattr(memory.os, "confstr", lambda name: "musl 1.2")
    memory.restart_with_huge_pages()

    def unknown(name):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(memory.os, "confstr", unknown)
    memory.restart_with_huge_pages()
    monkeypatch.setattr(memory.os, "confstr", lambda name: "glibc 2.36")
    memory._SETTING.unlink()
    memory.restart_with_huge_pages()
    assert machine == []


def test_the_user_may_decline(machine, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")
    memory.restart_with_huge_pages()
    assert machine == [] and os.environ["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=0"


def test_a_process_really_restarts_once_with_its_words(tmp_path):
    setting = tmp_path / "enabled"
    setting.write_text("[madvise]")
    code = f"""
import os, pathlib, sys
from common.command import memory
memory._SETTING = pathlib.Path({str(setting)!r})
memory.os.confstr = lambda name: "glibc"
memory.restart_with_huge_pages()
print(os.environ["GLIBC_TUNABLES"], *sys.argv[1:])
"""
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, "-c", code, "a b", "c"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"{ASKED} a b c\n"
