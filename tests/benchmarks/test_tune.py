"""A search over options: its space, areas, page, and what goes on after a stop."""

from __future__ import annotations

import importlib
import json
import math
import os
import pathlib
import re
import signal
import sys
import threading
import time

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.tune import page, trial
from benchmarks.tune.progress import Watch
from benchmarks.tune.record import Question, Record, Trial, ranked
from benchmarks.tune.search import Request, search
from benchmarks.tune.space import Dimension, decode, encode, outside, own_values, read_space, words
from common.cluster import connected
from common.command.presets import resolve
from common.errors import UserError
from tests.test_documents import fenced

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "tuning.md"
LR = Dimension("model_opt.lr", "log", (1e-4, 1e-2))
CONFIGS, TASK = ("dmc_proprio", "debug"), "dmc_cartpole_swingup"
SCRIPT = """
import json, pathlib, signal, sys, time
folder, best, hold = pathlib.Path(sys.argv[1]), float(sys.argv[2]), pathlib.Path(sys.argv[3])
folder.mkdir(parents=True, exist_ok=True)
state = folder / "at"
at = int(state.read_text()) if state.exists() else 0
print("from", at)
def stop(*_):
    print("stopped at", at)
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
while at < 900:
    while at == 300 and hold.exists():
        time.sleep(0.02)
    at += 100
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"frames": at, "eval/return_mean": best * at}) + chr(10))
    state.write_text(str(at))
    time.sleep(0.02)
"""


@pytest.fixture(scope="module")
def program():
    """The Dreamer."""
    return importlib.import_module("dreamer.program").load_program()


def question(space=(LR,), **changes):
    """A search of runs of 900 frames."""
    values = {
        "agent": "dreamer", "configs": CONFIGS, "task": TASK, "seed": 0, "options": (),
        "space": tuple(space), "frames": 900, "grace": 100,
    }  # fmt: skip
    return Question(**{**values, **changes})


def read(tmp_path, program, text, fixed=None):
    """The dimensions of a file."""
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return read_space(path, program, CONFIGS, {"task": TASK, **(fixed or {})})


def test_a_space_names_options_by_any_unique_ending(tmp_path, program):
    text = (
        "model_opt.lr: {log: [1e-4, 1e-2]}\nrssm.deter: {choice: [8, 16]}\n"
        "behavior.horizon: {integer: [3, 6]}\nkl.scale: {uniform: [0, 2]}\n"
        "actor_opt.lr_schedule: {choice: ['linear(1,0.5,100)', 'linear(1,0.1,100)']}"
    )
    lr, deter, horizon, scale, schedule = read(tmp_path, program, text)
    assert lr == LR
    assert deter == Dimension("world_model.rssm.deter", "choice", (8, 16))
    assert horizon == Dimension("behavior.horizon", "integer", (3, 6))
    assert scale.path == "world_model.kl.scale"
    assert schedule.values[1] == "linear(1,0.1,100)"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("[1, 2]", "must hold a mapping"),
        ("model_opt.lt: {log: [1e-4, 1e-2]}", "did you mean '?model_opt.lr"),
        ("model_opt: {log: [1e-4, 1e-2]}", "group of options"),
        ("model_opt.lr: 3", "expected {choice"),
        ("model_opt.lr: {lug: [1e-4, 1e-2]}", "expected {choice"),
        ("model_opt.lr: {log: [1e-2, 1e-4]}", "a < b"),
        ("model_opt.lr: {log: [0, 1]}", "above 0"),
        ("model_opt.lr: {uniform: [.nan, 1]}", "two numbers"),
        ("model_opt.lr: {uniform: 1}", "must be a list"),
        ("model_opt.lr: {uniform: [-1, 1]}", "model_opt.lr is -1.0; expected"),
        ("model_opt.lr: {choice: [1, 1.0]}", "2 to 1000 different values"),
        ("model_opt.lr: {choice: [1e-3, fast]}", "must be a number"),
        ("rssm.deter: {uniform: [8, 16]}", "whole numbers"),
        ("rssm.deter: {integer: [8.5, 16]}", "whole ends"),
        ("rssm.deter: {integer: [0, 16]}", "expected"),
        ("dynamics: {choice: [rssm, s6]}", "cannot be 's6'"),
        ("run.frames: {integer: [100, 200]}", "same in every trial"),
        ("env.kwargs.size: {integer: [1, 2]}", "inside of a mapping"),
        ("model_opt.lr: {log: [1e-4, 1]}\nlr: {log: [1e-4, 1]}", "ambiguous"),
        ("a: !!python/object/apply:os.system ['true']", "YAML"),
    ],
)
def test_what_is_no_space_is_refused(tmp_path, program, text, said):
    with pytest.raises(UserError, match=said) as caught:
        read(tmp_path, program, text)
    assert "space.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_an_option_stands_in_one_place(tmp_path, program):
    with pytest.raises(UserError, match="on the command line too"):
        read(tmp_path, program, "model_opt.lr: {log: [1e-4, 1]}", {"model_opt.lr": 1e-3})


def test_values_are_coded_for_the_searcher_and_back(program):
    space = [
        LR,
        Dimension("world_model.rssm.deter", "choice", (8, 16, 32)),
        Dimension("behavior.horizon", "integer", (3, 6)),
        Dimension("video", "choice", ([1, 2], None, True)),
    ]
    values = {
        "model_opt.lr": 1e-3, "world_model.rssm.deter": 16, "behavior.horizon": 5, "video": [1, 2],
    }  # fmt: skip
    assert list(encode(space, values).values()) == [1e-3, 1, 5, 0]
    assert decode(space, encode(space, values)) == values
    assert space[0].place(1e-3) == pytest.approx(0.5)
    assert [space[1].place(value) for value in (8, 16, 32)] == [0, 0.5, 1]
    assert [words(value) for value in space[3].values] == ["1,2", "none", "true"]
    config = resolve(program, CONFIGS, {"task": TASK})
    found = own_values(space[:3], config)
    assert found["world_model.rssm.deter"] == 16 and found["behavior.horizon"] == 5
    wrong = [*space[:2], Dimension("behavior.horizon", "integer", (6, 9))]
    assert own_values(wrong, config) is None
    assert outside(wrong, config) == "behavior.horizon 5 lies outside"
    assert outside(space[:3], config) == ""


def test_the_example_of_the_page_holds_the_presets_own_values(tmp_path, program):
    path = tmp_path / "space.yaml"
    path.write_text(fenced(PAGE.read_text(), "yaml")[0])
    fixed = {"task": TASK}
    space = read_space(path, program, ["dmc_state_cpu"], fixed)
    assert len(space) == 4
    assert outside(space, resolve(program, ["dmc_state_cpu"], fixed)) == ""


def test_the_area_is_that_of_a_slow_loop():
    rng = np.random.default_rng(0)
    frames = np.cumsum(rng.integers(1, 50, 20))
    scores = rng.normal(size=20)
    fine = np.arange(frames[0], frames[-1], 1e-2)
    total = sum(float(np.interp(x + 5e-3, frames, scores)) * 1e-2 for x in fine)
    points = list(zip(frames.tolist(), scores.tolist(), strict=True))
    assert trial.area_so_far(points) == pytest.approx(total / (frames[-1] - frames[0]), abs=1e-3)
    assert trial.area_so_far(points[:1]) == scores[0]
    assert math.isnan(trial.area_so_far([]))


def test_evaluations_come_from_the_log_alone(tmp_path):
    rows = [
        {"frames": 100, "a": 1.0},
        {"frames": 200, trial.SCORE: 3.0},
        {"frames": 300, trial.SCORE: None},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert trial.evaluations(tmp_path) == [(200, 3.0)]
    assert trial.evaluations(tmp_path / "missing") == []


def test_trials_that_went_farther_rank_before_larger_areas():
    trials = [
        Trial(0, {}, "done", 900, 5.0), Trial(1, {}, "stopped", 300, 9.0),
        Trial(2, {}, "done", 900, 7.0), Trial(3, {}, "failed", 900, 99.0), Trial(4, {}),
        Trial(5, {}, "stopped", 100, 20.0),
    ]  # fmt: skip
    assert [one.number for one in ranked(dict(enumerate(trials)))] == [2, 0, 1, 5]


def test_a_record_goes_on_where_it_was_and_belongs_to_one_question(tmp_path):
    first = Record(tmp_path / "s", question())
    first.begin(0, {LR.path: 1e-3})
    first.end(Trial(0, {LR.path: 1e-3}, "stopped", 300, 2.0, 4.0))
    first.begin(1, {LR.path: 2e-3})
    with pytest.raises(UserError, match="another process"):
        Record(tmp_path / "s", question())
    first.close()
    with (tmp_path / "s/trials.jsonl").open("a") as file:
        file.write('{"trial": 2, "va')
    again = Record(tmp_path / "s", question())
    assert again.trials[0] == Trial(0, {LR.path: 1e-3}, "stopped", 300, 2.0, 4.0)
    assert again.trials[1].state == "running" and len(again.trials) == 2
    again.close()
    with pytest.raises(UserError, match="with seed 0, not 1"):
        Record(tmp_path / "s", question(seed=1))
    (tmp_path / "s/trials.jsonl").write_text('{"trial": "x"}\n')
    with pytest.raises(UserError, match="damaged"):
        Record(tmp_path / "s", question())
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").touch()
    with pytest.raises(UserError, match="something else"):
        Record(tmp_path / "other", question())
    with pytest.raises(UserError, match="is a file"):
        Record(tmp_path / "other/file", question())


def test_the_page_shows_every_trial_and_the_best_is_a_preset(tmp_path, program):
    space = (LR, Dimension("world_model.rssm.deter", "choice", (8, 16)))
    asked = question(space)
    record = Record(tmp_path / "s", asked)
    page.write_report(record, asked, 3, "command")
    assert not (tmp_path / "s" / page.BEST).exists()
    for number, (lr, area) in enumerate([(1e-3, 4.0), (1.5e-05 * 100, 8.0), (5e-3, math.nan)]):
        values = {LR.path: lr, "world_model.rssm.deter": 8}
        record.begin(number, values)
        folder = record.folder(number)
        folder.mkdir()
        rows = ({"frames": x, trial.SCORE: area} for x in (300, 900) if area == area)
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        state = "failed" if math.isnan(area) else "done"
        record.end(Trial(number, values, state, 900, area, area, "no <room>" * (state == "failed")))
    page.write_best(record, asked)
    page.write_report(record, asked, 3, "command")
    record.close()
    text = (tmp_path / "s" / page.PAGE).read_text()
    assert text.count('class="line rank') == 2 * 2  # A curve and a line across the poles.
    assert (
        "no &lt;room&gt;" in text and "http://" not in text and "3 of 3 trials ended, 1 of" in text
    )
    assert '<td class="fault">failed: no &lt;room&gt;' in text and text.count('"fault"') == 1
    config = resolve(program, [str(tmp_path / "s" / page.BEST)], {"task": TASK})
    assert config.model_opt.lr == 1.5e-3 and config.world_model.rssm.deter == 8
    assert config.run.frames == resolve(program, CONFIGS, {"task": TASK}).run.frames


def test_bands_of_ranks():
    assert [page.band(place, 8) for place in range(8)] == [0, 1, 2, 2, 3, 3, 4, 4]


def test_time_left_follows_from_the_work_that_was_done(tmp_path, capsys, monkeypatch):
    record = Record(tmp_path / "s", question())
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    watch = Watch(record, question(), 4, lambda: None)
    record.begin(0, {LR.path: 1e-3})
    record.trials[0].state = "done"
    now[0] += 60
    watch.end(record.trials[0])
    assert "1 of 4 trials ended, 0:03:00 left" in capsys.readouterr().out
    record.close()


BASE = ["tune", "--configs", *CONFIGS, "--task", TASK]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--trials", "0"], "--trials is 0"),
        (["--grace", "0"], "--grace is 0"),
        (["--jobs", "x"], "invalid int"),
        (["--trails", "3"], "did you mean '--trials'"),
        (["--agent", "dremer"], "did you mean 'dreamer'|dreamer"),
        (["--", "--seed", "3"], "the search sets --seed"),
        (["--", "--run.eval_episodes", "0"], "curve of their evaluations"),
        (["--", "--run.frames", "500"], "at most half"),
        (
            ["--", "--run.frames", "600", "--run.eval_every", "300", "--run.prefill", "700"],
            "run.frames is 600, but learning starts after 1,400 frames",
        ),
        (["--", "--data", "somewhere"], "leave --data out"),
        (["--", "--model_opt.lr", "1e-3"], "on the command line too"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(tmp_path, capsys, more, said):
    space = tmp_path / "space.yaml"
    space.write_text("model_opt.lr: {log: [1e-4, 1e-2]}")
    folder = tmp_path / "search"
    assert main([*BASE, "--space", str(space), "--logdir", str(folder), *more]) == 2
    error = capsys.readouterr().err.strip()
    assert re.search(said, error) and "\n" not in error
    assert not folder.exists()


def scripted(monkeypatch, hold):
    """Has trials run the script, whose returns grow as its learning rate says."""
    from benchmarks.tune import on_ray

    def command(question, values, folder):
        return [sys.executable, "-c", SCRIPT, str(folder), str(values[LR.path]), str(hold)]

    monkeypatch.setattr(on_ray, "command", command)


def starts(logdir, number):
    """Where each start of a trial began."""
    lines = (logdir / f"logs/{number:03d}.log").read_text().splitlines()
    return [int(line.split()[1]) for line in lines if line.startswith("from")]


@pytest.mark.slow
def test_a_search_stops_what_is_worse_and_goes_on_after_a_stop(tmp_path, monkeypatch, capsys):
    pytest.importorskip("optuna")
    pytest.importorskip("pandas")
    logdir, hold, asked = tmp_path / "s", tmp_path / "hold", question()
    first = {LR.path: 1e-2}  # As good as it gets: what comes later is worse.
    with connected("test", [str(pathlib.Path(__file__).resolve().parents[2])]):
        scripted(monkeypatch, hold)
        hold.touch()

        def interrupt():
            while not (logdir / "trials/000/at").exists() or starts(logdir, 0) != [0]:
                time.sleep(0.05)
            while (logdir / "trials/000/at").read_text() != "300":
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=interrupt)
        thread.start()
        record = Record(logdir, asked)
        assert not search(record, asked, Request(3), first, lambda: None)
        record.close()
        thread.join()
        assert "stopped at 300" in (logdir / "logs/000.log").read_text()
        hold.unlink()

        record = Record(logdir, asked)
        assert record.trials[0].state == "running" and record.trials[0].values == first
        assert search(record, asked, Request(3), first, lambda: None)
        assert starts(logdir, 0) == [0, 300]
        best = record.trials[0]
        assert (best.state, best.frames) == ("done", 900)
        assert best.area == pytest.approx(1e-2 * 500)
        assert {record.trials[number].state for number in (1, 2)} == {"stopped"}
        assert all(record.trials[number].frames < 900 for number in (1, 2))
        record.close()

        record = Record(logdir, asked)
        before = {number: one.values for number, one in record.trials.items()}
        assert search(record, asked, Request(5, jobs=2), first, lambda: None)
        assert {number: record.trials[number].values for number in before} == before
        assert len({one.values[LR.path] for one in record.trials.values()}) == 5
        assert [len(starts(logdir, number)) for number in range(5)] == [2, 1, 1, 1, 1]
        record.close()
    assert not list(logdir.glob(".ray-*"))
    assert "trial 1 stopped at" in capsys.readouterr().out
