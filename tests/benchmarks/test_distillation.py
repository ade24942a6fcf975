"""Runs with and without a small actor side by side: what is measured, shown and refused."""

from __future__ import annotations

import dataclasses
import json

import pytest

from benchmarks import distillation
from common.agent import SMALL_ACTOR
from common.errors import UserError
from common.export import export
from dreamer.agent import make_agent
from tests.dreamer.distillation.test_small_actor import distilling
from tests.dreamer.test_agent import CONFIG
from tests.tiny import VECTOR, choice, random_params


def write_run(logdir, config):
    logdir.mkdir()
    agent = make_agent(config, VECTOR, choice(3))
    params = random_params(lambda key: agent.params(agent.init(key)))
    export(logdir / "export.npz", "dreamer", config, VECTOR, choice(3), params)
    lines = [{"frames": 100, "actor/loss": 1.0}, {"frames": 100, "eval/return_mean": 3.0},
             {"frames": 200, "eval/return_mean": 5.0}]  # fmt: skip
    logdir.joinpath("metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    return params


def test_runs_are_measured_recorded_and_shown(tmp_path, capsys):
    config = dataclasses.replace(distilling(CONFIG), task="mine", seed=3)
    params = write_run(tmp_path / "taught", config)
    words = ["--results", str(tmp_path / "results"), "--distilled", str(tmp_path / "taught")]
    assert distillation.main([*words, "--calls", "3"]) == 0
    record = json.loads((tmp_path / "results" / distillation.RECORD).read_text())
    (run,) = record["runs"]
    assert run["evaluations"] == [[100, 3.0], [200, 5.0]] and run["seed"] == 3
    small = sum(x.size for part in params[SMALL_ACTOR].values() for x in part.values())
    assert run["parameters"] == small and run["microseconds"] > 1
    assert run["processor_microseconds"] > 1
    assert any(line.startswith("processor ") for line in record["versions"])
    shown = capsys.readouterr().out
    assert distillation.main([*words[:2], "--table"]) == 0
    assert capsys.readouterr().out == shown
    row = f"| small, taught by the large one | 1 | **5** | 5 at 200 | {small} | "
    assert row in shown and "| large, acts itself | none |" in shown
    assert (tmp_path / "results" / distillation.PICTURE).stat().st_size > 5_000


@pytest.mark.slow
def test_presets_are_timed(tmp_path, capsys):
    words = ["--results", str(tmp_path), "--acting", "dmc_vision", "debug", "--calls", "2"]
    assert distillation.main(words) == 0
    large, small = json.loads((tmp_path / distillation.RECORD).read_text())["acting"]
    assert large["parameters"] > small["parameters"] > 1000
    rows = capsys.readouterr().out.splitlines()[2:]
    assert rows[0].startswith(f"| dmc_vision debug | large | {large['parameters']:,} | ")
    assert rows[1].startswith("| dmc_vision debug | small, gru | ")


def test_mistakes_are_one_line(tmp_path, capsys):
    write_run(tmp_path / "large", CONFIG)
    with pytest.raises(UserError, match="has --distill.kind none; name it by --large or --alone"):
        distillation.measure("distilled", tmp_path / "large")
    (tmp_path / "large" / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match="was never evaluated"):
        distillation.measure("large", tmp_path / "large")
    assert distillation.main(["--results", str(tmp_path)]) == 2
    assert "name finished runs by --large and --distilled" in capsys.readouterr().err
    assert distillation.main(["--results", str(tmp_path), "--calls", "0"]) == 2
    assert "--calls is 0; expected at least 1" in capsys.readouterr().err
