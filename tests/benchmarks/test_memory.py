"""The benchmark of dynamics in worlds of memory: sizes, times, and success by delay of runs."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from benchmarks.memory import __main__ as program
from benchmarks.memory import sizes, speed, success
from common.config import update
from common.errors import UserError
from common.run import folder as run_folder
from dreamer.config import Config


def test_the_three_have_as_many_parameters():
    found = {name: sizes.count_parameters(sizes.shape_of(name).agent()) for name in sizes.DYNAMICS}
    assert max(found.values()) <= 1.05 * min(found.values()), found


@pytest.mark.parametrize("length", [64, 1024])
def test_windows_share_the_rows_and_the_transformer_reaches_over_them(length):
    for name in sizes.DYNAMICS:
        config = sizes.shape_of(name, length).config()
        assert config.world_model.dynamics == name
        assert (config.replay.length, config.replay.batch) == (length, 1024 // length)
    assert sizes.shape_of("transformer", length).config().world_model.transformer.reach >= length
    assert sizes.shape_of("s5").config().model_opt.rates == {"ssm": 0.25}


def test_times_are_written_and_drawn(tmp_path):
    medians = {name: [0.1 * i, 0.25] for i, name in enumerate(sizes.DYNAMICS, 1)}
    record = {"rows": 1024, "cores": 2, "lengths": [64, 128], "median_core_seconds": medians}
    paths = speed.write(tmp_path / "new", record)
    assert json.loads(paths[0].read_text()) == record and paths[1].stat().st_size > 1000
    assert speed.table(record).splitlines()[2:] == [
        "| 64 | 100 | 200 | 300 |", "| 128 | 250 | 250 | 250 |"
    ]  # fmt: skip


@pytest.mark.slow
def test_updates_are_timed(tmp_path):
    words = ["speed", "--lengths", "8", "16", "--rows", "32", "--repeats", "2"]
    assert program.main([*words, "--results", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "speed.json").read_text())
    for name in sizes.DYNAMICS:
        assert np.shape(record["seconds"][name]) == (2, 2) and np.min(record["seconds"][name]) > 0
        medians = np.median(record["core_seconds"][name], 1).tolist()
        assert record["median_core_seconds"][name] == medians


def _write_run(path, dynamics, delay, seed, finals, task="memory_recall", frames=1000, **kwargs):
    values = {"task": task, "seed": seed, "world_model.dynamics": dynamics}
    values["env.kwargs"] = {"delay": delay} | kwargs if task.startswith("memory_") else {}
    values["run.frames"] = frames
    run_folder.write(path, "dreamer", update(Config(), values))
    rows = [{"frames": 0, "time/elapsed_s": 3.0, "episode/success": 0.25}]
    # A wrong answer costs one.
    rows += [{"frames": 100 * (i + 1), "eval/return_mean": 2 * x - 1} for i, x in enumerate(finals)]
    (path / run_folder.METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def runs(tmp_path):
    def write(name, *args):
        return _write_run(tmp_path / name, *args)

    return [
        write("a", "s5", 10, 1, [0.3, 1.0]),
        write("b", "s5", 10, 2, [0.2, 0.5]),
        write("c", "s5", 200, 1, [0.9]),
        write("d", "rssm", 10, 1, [0.6]),
    ]


def test_success_by_delay(runs, tmp_path, capsys):
    words = ["success", *map(str, runs), "--results", str(tmp_path / "out")]
    assert program.main(words) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[:4] == [
        "| delay | rssm | s5 |", "|---|---|---|",
        "| 10 | 0.60 | 0.75 (1.00, 0.50) |", "| 200 | not run | 0.90 |",
    ]  # fmt: skip
    record = json.loads((tmp_path / "out" / "memory_recall_state.json").read_text())
    assert record["guessing"] == 0.25 and len(record["runs"]) == 4
    first = record["runs"][1]
    assert (first["dynamics"], first["delay"], first["seed"], first["success"]) == ("s5", 10, 1, 1)
    assert first["evaluations"] == [[100, 0.3], [200, 1.0]] and first["training"] == [[0, 0.25]]
    assert first["frames"] == 200 and first["wall_clock_seconds"] == 3
    with (tmp_path / "out" / "memory_recall_state.csv").open() as file:
        rows = list(csv.DictReader(file))
    np.testing.assert_allclose(
        [float(row["success"]) for row in rows], [0.6, 0.3, 1, 0.2, 0.5, 0.9]
    )
    assert (tmp_path / "out" / "memory_recall_state.png").stat().st_size > 1000


def test_defaults_that_are_written_out_are_those_that_are_not(runs, tmp_path):
    more = _write_run(tmp_path / "e", "s5", 10, 3, [0.1], symbols=4, pixels=False)
    assert len(success.collect([success.read_run(one) for one in (runs[0], more)])) == 1


def test_pictures_have_a_record_of_their_own(tmp_path):
    run = success.read_run(_write_run(tmp_path / "a", "s5", 10, 1, [0.5], pixels=True))
    (record, *_) = success.write(tmp_path / "out", [run])
    assert record.name == "memory_recall_pixels.json"
    assert json.loads(record.read_text())["world"]["pixels"] is True


def test_runs_that_do_not_belong_together_are_refused(runs, tmp_path):
    read = lambda *paths: [success.read_run(path) for path in paths]  # noqa: E731
    same = _write_run(tmp_path / "e", "s5", 10, 1, [0.1])
    with pytest.raises(UserError, match="two runs of s5 with a delay of 10 have the seed 1"):
        success.table(read(runs[0], same))
    other = _write_run(tmp_path / "f", "s5", 10, 1, [0.1], "memory_repeat")
    with pytest.raises(UserError, match="different worlds: memory_recall .*, memory_repeat"):
        success.table(read(runs[0], other))
    with pytest.raises(UserError, match=r"pixels false, .*, memory_recall \(.*pixels true, "):
        success.table(read(runs[0], _write_run(tmp_path / "i", "s5", 10, 2, [0.1], pixels=True)))
    with pytest.raises(UserError, match=r"wrong -0.5, .*wrong -1.0, "):
        success.table(read(runs[0], _write_run(tmp_path / "j", "s5", 10, 2, [0.1], wrong=-0.5)))
    longer = _write_run(tmp_path / "k", "s5", 10, 2, [0.1], "memory_repeat", length=20)
    with pytest.raises(UserError, match=r"\(length 20, .*\(length 50, "):
        success.table(read(other, longer))
    with pytest.raises(UserError, match=r"frames 1000\), .*frames 2000\); record each alone"):
        success.table(read(runs[0], _write_run(tmp_path / "l", "s5", 10, 2, [0.1], frames=2000)))
    with pytest.raises(UserError, match="holds no evaluation yet"):
        read(_write_run(tmp_path / "g", "s5", 10, 1, []))
    with pytest.raises(UserError, match="is a run of dmc_walker_walk; expected a memory_ task"):
        read(_write_run(tmp_path / "h", "s5", 10, 1, [0.1], "dmc_walker_walk"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("speed --repeats 0", "--repeats is 0; expected at least 1"),
        ("speed --lengths 64 2048", "--lengths has 2048; expected 2 to --rows, which is 1024"),
        ("sped", "invalid choice: 'sped'"),
        ("success", "required: runs"),
        ("speed --length 3", "unknown option --length"),
    ],
)
def test_mistakes_are_one_line(words, message, capsys):
    assert program.main(words.split()) == 2
    assert message in capsys.readouterr().err
