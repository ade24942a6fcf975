"""The watch over a long run's memory sees what grows, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import endurance

HOLD = "x = bytearray({} << 20); x[::4096] = b'1' * len(x[::4096]); print(1, flush=True); input()"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLD.format(100)!r}])"


def test_memory_is_that_of_a_process_and_its_children():
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    process.stdout.readline()
    mib, files = endurance.memory(process.pid)
    assert 100 < mib < 200 and files >= 6
    process.communicate(b"\n")
    assert endurance.memory(process.pid) == (0, 0)


@pytest.mark.parametrize("slope", [0.0, 30.0])
def test_growth_is_by_the_hour_after_the_warm_up(slope):
    hours = np.linspace(0.01, 2, 200)
    warm_up = np.where(hours < 0.2, -500 * (0.2 - hours), 0)
    assert endurance.growth(hours, 900 + warm_up + slope * hours) == pytest.approx(slope, abs=1e-6)


def test_hours_must_be_positive(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("sys.argv", ["endurance", "--logdir", str(tmp_path), "--hours", "0"])
    assert endurance.main() == 2
    assert capsys.readouterr().err == "error: --hours must be above 0, not 0\n"


@pytest.mark.slow
def test_a_run_takes_no_more_memory_with_time(tmp_path, monkeypatch):
    words = f"--logdir {tmp_path / 'run'} --hours 0.2 --results {tmp_path}"
    monkeypatch.setattr("sys.argv", ["endurance", *words.split()])
    assert endurance.main() == 0
    found = json.loads((tmp_path / "memory.json").read_text())
    assert found["updates"] > 100
    assert found["mib_at_the_end"] < found["mib_at_warm_up"] + 60
