"""Records of learning curves: what is read from run folders, and what is refused."""

from __future__ import annotations

import csv
import json
import sys

import numpy as np
import pytest

from benchmarks.learning import __main__ as command
from benchmarks.learning.record import read_recorded, read_run, write_record
from common.config import update
from common.errors import UserError
from common.logging import JsonlSink
from common.run import folder as run_folder
from common.run.sinks import open_logger
from tests.fake_agent import Config


@pytest.fixture
def make_run(tmp_path):
    """Writes a run folder with given evaluations."""

    def make(seed, task="dmc_cartpole_balance", evaluations=((500, 10.0), (1000, 20.0))):
        logdir = tmp_path / f"{task}-{seed}"
        run_folder.write(logdir, "fake", update(Config(), {"seed": seed, "task": task}))
        logger = open_logger(logdir, JsonlSink(logdir / "metrics.jsonl"))
        logger.write(0, {"random/return_mean": 3.0 + seed})
        for frames in (250, 750):
            logger.score(frames, {"return": frames / 100, "length": 9})
        for frames, mean in evaluations:
            values = {"mean": mean + seed, "std": 1.0, "min": mean - 2, "max": mean + 2}
            logger.write(frames, {f"eval/return_{name}": x for name, x in values.items()})
        logger.close()
        return logdir

    return make


def test_reads_what_a_run_left(make_run):
    run = read_run(make_run(2))
    assert (run.seed, run.task, run.random) == (2, "dmc_cartpole_balance", 5.0)
    np.testing.assert_array_equal(run.evaluations, [[500, 12, 1, 8, 12], [1000, 22, 1, 18, 22]])
    np.testing.assert_array_equal(run.episodes, [[250, 2.5], [750, 7.5]])
    assert run.seconds > 0 and run.config["run"]["frames"] == 100
    assert any(line.startswith("jax ") for line in run.versions)


def test_short_names_are_the_same_task(make_run, tmp_path):
    runs = [read_run(make_run(0, "dmc_cup_catch")), read_run(make_run(1, "dmc_ball_in_cup_catch"))]
    write_record(tmp_path / "results", "cup", runs)
    record = json.loads((tmp_path / "results" / "cup.json").read_text())
    assert record["task"] == record["config"]["task"] == "dmc_ball_in_cup_catch"


def test_writes_json_csv_and_plot(make_run, tmp_path):
    runs = [read_run(make_run(seed)) for seed in (0, 1)]
    paths = write_record(tmp_path / "results", "balance", runs)
    assert [path.name for path in paths] == ["balance.json", "balance.csv", "balance.png"]
    record = json.loads(paths[0].read_text())
    assert record["seeds"] == [0, 1] and record["random_return"] == [3.0, 4.0]
    assert record["final_evaluation_return"] == [20.0, 21.0]
    assert record["final_evaluation_return_mean"] == 20.5
    assert record["frames"] == [1000, 1000] and record["evaluation_episodes"] == 2
    assert "seed" not in record["config"] and record["versions"]
    assert record["curves"][1]["evaluations"][0] == [500, 11, 1, 8, 12]
    with paths[1].open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert (rows[3]["seed"], rows[3]["frames"], rows[3]["return"]) == ("1", "1000", "21.0")
    assert paths[2].read_bytes().startswith(b"\x89PNG")


def test_runs_that_do_not_belong_together_are_refused(make_run, tmp_path):
    runs = [read_run(make_run(0)), read_run(make_run(1, task="dmc_walker_walk"))]
    with pytest.raises(UserError, match="different tasks: dmc_cartpole_balance, dmc_walker_walk"):
        write_record(tmp_path / "results", "x", runs)
    with pytest.raises(UserError, match="share a seed"):
        write_record(tmp_path / "results", "x", [runs[0], runs[0]])
    assert not (tmp_path / "results").exists()


def test_a_seed_is_added_to_a_record_whose_runs_are_gone(make_run, tmp_path):
    results = tmp_path / "results"
    exact = ((500, 10.123456), (1000, 20.0))
    runs = [read_run(make_run(seed, evaluations=exact)) for seed in (3, 1)]
    write_record(results, "together", runs)
    write_record(results, "later", runs[:1])
    again = [*read_recorded(results, "later"), runs[1]]
    write_record(results, "later", again)
    files = [(results / f"{name}.csv").read_text() for name in ("together", "later")]
    assert files[0] == files[1] and "13.123456" in files[1]
    records = [json.loads((results / f"{name}.json").read_text()) for name in ("together", "later")]
    assert records[0] == {**records[1], "name": "together"}
    with pytest.raises(UserError, match="no record .*none.json to add to; leave --add away"):
        read_recorded(results, "none")


def test_runs_of_other_options_are_refused(make_run, tmp_path):
    one, other = (read_run(make_run(seed)) for seed in (0, 1))
    del other.config["replay"]["batch"]  # As an older version that did not have it.
    write_record(tmp_path / "results", "x", [one, other])
    other.config["run"]["frames"] = 99
    with pytest.raises(UserError, match="seeds 0 and 1 differ in run.frames; record them apart"):
        write_record(tmp_path / "results", "x", [one, other])


def test_command(make_run, tmp_path, monkeypatch, capsys):
    results = tmp_path / "results"

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["learning", *map(str, words), "--results", str(results)])
        return command.main(), capsys.readouterr()

    code, printed = run("balance", make_run(0))
    assert code == 0 and printed.out.splitlines()[0] == str(results / "balance.json")
    code, printed = run("balance", make_run(4), "--add")
    assert code == 0
    assert json.loads((results / "balance.json").read_text())["seeds"] == [0, 4]
    code, printed = run("none", make_run(7, evaluations=()))
    assert code == 2 and printed.err.endswith("holds no evaluation yet; let the run reach "
                                              "run.eval_every\n")  # fmt: skip
    code, printed = run("none", tmp_path / "nowhere")
    assert code == 2 and printed.err.startswith("error: there is no run in")
