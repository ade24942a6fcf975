"""Whole runs timed: what counts, and what a user is told."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks.speed import __main__ as speed
from benchmarks.speed import environments, measure_gpu, runs
from benchmarks.speed.runs import Run, summary
from common.errors import UserError


def line(frames: int, updates: int, **seconds: float) -> dict:
    """One line of a log."""
    parts = {f"time/seconds/{name}": value for name, value in seconds.items()}
    return {"frames": frames, "time/updates": updates, "time/updates_per_s": updates, **parts}


def test_only_the_time_in_which_it_learned_counts():
    lines = [
        {"frames": 0, "random/return_mean": 3.0},
        line(100, 0, rest=1, environment=2),
        line(200, 5, rest=1, compiling=50, update=4),
        line(300, 15, rest=1, update=6, environment=3),
        line(400, 25, rest=2, update=6, log=2),
        {"frames": 400, "eval/return_mean": 3.0},
    ]
    found = summary(lines)
    assert found["seconds"] == 20 and found["frames_per_second"] == 10
    assert found["updates_per_second"] == 1
    assert found["shares"] == {"environment": 0.15, "log": 0.1, "rest": 0.15, "update": 0.6}


def test_too_short_a_run():
    with pytest.raises(UserError, match="fewer than three lines"):
        summary([line(100, 5, rest=1), line(200, 9, rest=1)])


@pytest.mark.parametrize(
    ("more", "several"),
    [("--env.amount 2", {"processes": 2}), ("--seeds 1,2", {"folder": "seed-1"})],
)
def test_a_whole_run(more, several, tmp_path, monkeypatch, capsys):
    """The tiny agent's, by the command: by two processes, of two seeds."""
    run = Run(f"tests.fake_agent train {more}", 400, 40, **several)
    monkeypatch.setitem(runs.RUNS, "tiny", run)
    assert runs.main(["tiny", "--results", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "run-tiny.json").read_text())
    assert sum(record["shares"].values()) == pytest.approx(1) and record["frames_per_second"] > 0
    assert {"update", "acting", "environment", "replay", "log", "rest"} <= record["shares"].keys()
    assert "compiling" not in record["shares"]
    assert capsys.readouterr().out.startswith("tiny ")


def test_mistakes(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="unknown run 'quick'; did you mean 'quickstart'"):
        runs.main(["quick"])
    monkeypatch.setitem(runs.RUNS, "bad", Run("tests.fake_agent train --no.such 1", 400, 40))
    with pytest.raises(UserError, match="tests.fake_agent failed: error: unknown option --no.such"):
        runs.main(["bad", "--results", str(tmp_path)])


def test_results_that_have_no_place_are_refused_before_anything_is_measured(
    tmp_path, monkeypatch, capsys
):
    taken = tmp_path / "file"
    taken.touch()
    results = ["--results", str(taken)]
    with pytest.raises(UserError, match="--results .*file is a file; choose a folder"):
        runs.main(["quickstart", *results])
    with pytest.raises(UserError, match="cannot write .*below: Not a directory"):
        runs.main(["quickstart", "--results", str(taken / "below")])
    assert environments.main(["idle-8", *results]) == 2
    monkeypatch.setattr(sys, "argv", ["measure_gpu", "--out", str(taken)])
    assert measure_gpu.main() == 2
    monkeypatch.setattr(speed, "restart_with_memory_settings", lambda: None)
    monkeypatch.setattr(sys, "argv", ["speed", "quickstart/policy-1", *results])
    assert speed.main() == 2
    assert capsys.readouterr().err.count("is a file; choose a folder") == 3
