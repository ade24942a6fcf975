"""Learning from mixed logs: what the logs are, the runs' options, the record and its table."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import logs
from common.command import presets
from common.errors import UserError
from common.replay import read_episodes, write_episodes
from common.run.recorded import recorded_repeat
from dreamer.program import load_program

TASK = "gym_CartPole-v1"


@pytest.fixture
def source(tmp_path, monkeypatch):
    """What a finished run of three episodes leaves, of which some are logs."""
    few = {"first": logs.Logs(TASK, 0, 2, 1.0), "last": logs.Logs(TASK, -1, 1, 1.0)}
    few["many"] = logs.Logs(TASK, 0, 9, 1.0)
    monkeypatch.setattr(logs, "LOGS", few | {"other": logs.Logs("dmc_walker_walk", 0, 2, 1.0)})
    monkeypatch.setattr(logs, "PRESETS", ("gym", "debug"))
    run, rng, rows = tmp_path / "source", np.random.default_rng(0), np.arange(12)
    episodes = [
        {
            "vector": rng.normal(size=(12, 4)).astype(np.float32),
            "action": np.eye(2, dtype=np.float32)[rng.integers(2, size=12)]
            * (rows > 0)[:, None].astype(np.float32),
            "reward": np.float32(number * (rows > 0)),
            "is_first": rows == 0,
            "is_last": rows == 11,
            "is_terminal": rows == 11,
        }
        for number in range(3)
    ]
    write_episodes(run / "replay", episodes)
    (run / "config.yaml").write_text(f"task: {TASK}\nenv: {{action_repeat: 0}}\n")
    return run


def test_the_logs_are_some_episodes_of_a_run(source, tmp_path):
    folder = tmp_path / "data" / "first"
    assert logs.take_logs("first", [source], folder) == [0, 11]
    assert len(read_episodes(folder)) == 2 and recorded_repeat(folder) == 1
    assert logs.take_logs("first", [], folder) == [0, 11]  # They are there already.
    assert logs.take_logs("last", [source], tmp_path / "data" / "last") == [22]
    for name, message in [("many", "has 3 episodes; expected 9"), ("other", "names no run of")]:
        with pytest.raises(UserError, match=message):
            logs.take_logs(name, [source], tmp_path / "data" / name)


@pytest.mark.parametrize("name", logs.LOGS)
@pytest.mark.parametrize("method", logs.METHODS)
def test_methods_differ_in_what_they_are_called_after(method, name):
    options = logs.options(method, name, 400) | {"run.data": "logs", "task": logs.LOGS[name].task}
    config = presets.resolve(load_program(), list(logs.PRESETS), options)
    assert config.run.updates == 400 and config.run.eval_every == 100
    assert (config.behavior.method == "cloning") == (method == "cloning")
    assert (config.behavior.penalty > 0) == (method == "conservative")


def line(method, seed, name="walker mixed"):
    curve = [[100, 1.0, 0.0, 2.0], [200, 40.0 + seed, 30.0, 50.0]]
    options = logs.options(method, name, 200)
    return {
        "method": method, "logs": name, "seed": seed, "options": options, "returns": [10.0, 20.0],
        "curve": curve, "random": 5.0, "seconds": 120,
    }  # fmt: skip


def test_the_table_shows_every_seed(tmp_path, capsys):
    lines = [line("imagination", 1), line("imagination", 2), line("cloning", 1)]
    lines.append(line("cloning", 2) | {"options": {}})  # Of other options.
    record = tmp_path / logs.RECORD
    record.write_text("".join(f"{json.dumps(one)}\n" for one in lines))
    assert logs.main(["--results", str(tmp_path), "--table", "--updates", "200"]) == 0
    shown = capsys.readouterr().out.splitlines()[2:]
    begin = "| walker mixed | 15; 20 | 5 |"
    assert shown == [
        f"{begin} imagination | 41, 42 | 21, 22 | 2 |", f"{begin} cloning | 41 | 21 | 2 |",
    ]  # fmt: skip
    assert (tmp_path / logs.PICTURE).stat().st_size > 10_000
    assert logs.main(["--results", str(tmp_path), "--table", "--updates", "300"]) == 2
    assert "holds no run of 300 updates" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("method", logs.METHODS)
def test_a_run_is_recorded(method, source, tmp_path):
    found = logs.train(method, "first", 1, 40, [source], tmp_path / "runs" / "x")
    assert [updates for updates, *_ in found["curve"]] == [10, 20, 30, 40]
    assert found["returns"] == [0, 11] and found["random"] > 0 and len(found["imagined"]) == 20
