"""The command for a host with a GPU, on a CPU: its limits, its jobs, its training, its budget."""

from __future__ import annotations

import json
import pathlib
import sys

import pytest

from benchmarks.speed import machine, measure_gpu, workloads

RECORDED = pathlib.Path(measure_gpu.__file__).parents[1] / "results" / "gpu" / "h200.jsonl"


def test_every_job_is_a_workload():
    assert set(measure_gpu.JOBS) <= set(workloads.names())


def test_the_table_shows_what_was_recorded(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["measure_gpu", "--table", str(RECORDED)])
    assert measure_gpu.main() == 0
    rows = capsys.readouterr().out.splitlines()
    timed = [x for x in map(json.loads, RECORDED.read_text().splitlines()) if "median" in x]
    assert len(rows) == 2 + len(timed) > 10
    assert any(row.startswith("| dmc_vision/update-bfloat16 |  | 18.05 |") for row in rows)


def test_the_limits_of_a_machine_are_positive_and_rates_bounded_by_their_latencies():
    found = machine.describe(size=64, stream_mib=1, repeats=2)
    assert found.pop("device") and found.pop("jax")
    assert len(found) == 7 and all(value > 0 for value in found.values())
    # A call of a whole program cannot be quicker than one step of its loop's 16x200 product.
    assert found["loop_step_us"] * machine.LOOP > found["call_us"]


def test_neither_results_nor_a_table_is_a_mistake(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["measure_gpu"])
    assert measure_gpu.main() == 2 and "--out says" in capsys.readouterr().err


def _run(monkeypatch: pytest.MonkeyPatch, out: pathlib.Path, *options: str) -> list[dict]:
    monkeypatch.setattr(sys, "argv", ["measure_gpu", "--out", str(out), *options])
    assert measure_gpu.main() == 0
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def test_jobs_are_timed_and_failures_kept(monkeypatch, tmp_path: pathlib.Path, capsys):
    jobs = ("quickstart/policy-1", "quickstart/nothing")
    monkeypatch.setattr(measure_gpu, "JOBS", jobs)
    options = ("--part", "speed", "--jobs", "quickstart", "--repeats", "1")
    records = {record["workload"]: record for record in _run(monkeypatch, tmp_path, *options)}
    timed = records["quickstart/policy-1"]
    assert timed["median"] > 0 and timed["compile_core_seconds"] > 0
    assert "quickstart/nothing" in records["quickstart/nothing"]["error"]
    shown = capsys.readouterr().out
    assert "rows/s" in shown and "error: unknown workload" in shown


def test_a_job_that_finds_no_time_says_so(monkeypatch, tmp_path: pathlib.Path):
    monkeypatch.setattr(measure_gpu, "JOBS", ("quickstart/update",))
    options = ("--part", "speed", "--jobs", "quickstart", "--budget", "0.5")
    (record,) = _run(monkeypatch, tmp_path, *options)
    assert record["error"] == "no time was left for it"


def test_a_training_ends_and_its_curves_are_kept(monkeypatch, tmp_path: pathlib.Path):
    training = ("--train", "--configs", "gym", "debug", "--task", "gym_CartPole-v1")
    training = (*training, "--run.frames", "300", "--run.video", "false")
    options = ("--part", "learning", "--budget", "600", *training)
    (record,) = _run(monkeypatch, tmp_path, *options)
    assert record["exit"] == 0 and record["last"]["frames"] == 300
    assert {path.name for path in tmp_path.iterdir()} >= set(measure_gpu.KEPT)


def test_a_training_is_stopped_when_the_budget_is_spent(monkeypatch, tmp_path: pathlib.Path):
    monkeypatch.setattr(measure_gpu, "TO_STOP", 0.5)
    options = ("--part", "learning", "--budget", "1", "--train", "--configs", "debug")
    (record,) = _run(monkeypatch, tmp_path, *options)
    assert record["exit"] != 0 and record["last"] == {}


@pytest.mark.parametrize(
    "options, complaint",
    [
        (("--jobs", "qickstart"), "no workload has 'qickstart' in its name"),
        (("--parallel", "0"), "above zero"),
        (("--budget=-1e9",), "above zero"),
        (("--part", "sped"), "sped"),
        (("--table", "/nowhere.jsonl"), "/nowhere.jsonl is no results.jsonl"),
    ],
)
def test_mistakes_are_one_line(monkeypatch, tmp_path, capsys, options, complaint):
    monkeypatch.setattr(sys, "argv", ["measure_gpu", "--out", str(tmp_path / "out"), *options])
    assert measure_gpu.main() == 2
    error = capsys.readouterr().err.strip()
    assert complaint in error and len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()
