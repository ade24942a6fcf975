"""Runs that learn from a folder of episodes: what they read, count and write."""

from __future__ import annotations

import json
import shutil
import signal

import numpy as np
import pytest

from common.config import update
from common.errors import UserError
from common.export import read_export
from common.logging import read_jsonl
from common.replay.episodes import write_episodes
from common.report.page import write_report
from common.run import base as base_run
from common.run import folder as run_folder
from common.run import train as training
from common.run.offline import episode_folders
from dreamer.program import main as dreamer
from planet.program import main as planet
from tests import fake_agent
from tests.fake_agent import EVAL_ACTION

ROWS = 9
FAST = {"run.updates": 12, "run.eval_every": 5, "run.log_every": 4, "run.eval_episodes": 1}


def episode(seed=0, rows=ROWS, size=1):
    """One whole episode as rows of the environment that the tiny agent plays."""
    rng = np.random.default_rng(seed)
    flags = {key: np.zeros(rows, bool) for key in ("is_first", "is_last", "is_terminal")}
    flags["is_first"][0] = flags["is_last"][-1] = True
    return {
        "count": np.arange(rows, dtype=np.float32)[:, None].repeat(size, 1),
        "action": rng.uniform(-1, 1, (rows, 1)).astype(np.float32),
        "reward": rng.normal(size=rows).astype(np.float32),
        **flags,
    }


@pytest.fixture
def data(tmp_path):
    """A flat folder of three episodes."""
    write_episodes(tmp_path / "data", [episode(seed) for seed in range(3)])
    return tmp_path / "data"


def run(logdir, data, progress=None, **options):
    """Trains the tiny agent on the folder; underscores in the names stand for dots."""
    program = fake_agent.load_program()
    names = FAST | {key.replace("__", "."): value for key, value in options.items()}
    config = update(program.default_config, names | {"run.data": str(data)})
    return training.train(program, config, logdir, progress=progress)


def weight(logdir):
    """What the run learned."""
    return read_export(logdir).params["model"]["w"]


def content(folder):
    """Every file and folder below a folder, with content and time of change."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [folder, *folder.rglob("*")]
    }


def metrics(logdir, name):
    """``[(updates, value)]`` of one metric."""
    records = read_jsonl(logdir / "metrics.jsonl", "updates")
    return [(record["updates"], record[name]) for record in records if name in record]


def test_everything_is_counted_in_updates_and_the_data_stay_as_they_are(tmp_path, data, capsys):
    (data / ".half.npz.tmp").write_text("of a collection that still goes on")
    before, told = content(data), []
    assert run(tmp_path / "run", data, told.append) == (True, 0, 12, tmp_path / "run")
    assert [now.now for now in told if now.kind == "evaluation"] == [5, 10, 12]
    assert {(now.clock, now.total, now.frames) for now in told} == {("updates", 12, 0)}
    assert content(data) == before
    assert [at for at, _ in metrics(tmp_path / "run", "model/loss")] == [4, 8, 12]
    returns = [(at, 5 * EVAL_ACTION) for at in (5, 10, 12)]
    assert metrics(tmp_path / "run", "eval/return_mean") == returns
    assert metrics(tmp_path / "run", "random/return_mean")[0][0] == 0
    assert not list(read_jsonl(tmp_path / "run" / "metrics.jsonl", "frames"))
    assert not (tmp_path / "run" / "replay").exists()
    page = write_report(tmp_path / "run").read_text()
    assert "Evaluation return at 12 updates" in page and "of 12 planned" in page
    assert "no training episode" not in page
    out = capsys.readouterr().out
    assert f"12 updates of 2x4 rows from 3 episodes, {3 * ROWS} rows, of {data}" in out
    assert "updates 8 (66.7%)" in out


def test_resuming_equals_a_run_that_was_never_stopped(tmp_path, data, capsys, monkeypatch):
    run(tmp_path / "whole", data)
    learn = base_run.BaseRun._learn

    def interrupted(self):
        learn(self)
        if self.updates == 7:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(base_run.BaseRun, "_learn", interrupted)
    run(tmp_path / "parts", data)
    assert "stopped at update 7; the same command goes on" in capsys.readouterr().out
    run(tmp_path / "parts", data)
    assert "resumed at update 7\n" in capsys.readouterr().out
    np.testing.assert_array_equal(weight(tmp_path / "parts"), weight(tmp_path / "whole"))
    run(tmp_path / "parts", data)
    assert "complete at update 12; raise --run.updates to go on" in capsys.readouterr().out
    run(tmp_path / "parts", data, run__updates=14)
    assert metrics(tmp_path / "parts", "eval/return_mean")[-1][0] == 14


def test_long_silence_is_broken_with_the_time_left(tmp_path, data, capsys, monkeypatch):
    monkeypatch.setattr(base_run.Silence, "too_long", lambda self: True)
    run(tmp_path / "run", data)
    assert "at update 6 of 12, 0:00:0" in capsys.readouterr().out


def test_other_data_are_another_run(tmp_path, data):
    run(tmp_path / "run", data)
    shutil.copytree(data, tmp_path / "other")
    with pytest.raises(UserError, match="another configuration: run.data"):
        run(tmp_path / "run", tmp_path / "other")


def test_episodes_are_found_in_runs_folders_and_collections(tmp_path):
    task = "dmc_cartpole_swingup@7"
    for name in ("run/replay", "flat", f"many/{task}/random", f"many/{task}/expert", "many/x/y"):
        write_episodes(tmp_path / name, [episode()])
    (tmp_path / "many" / task / "empty").mkdir()

    def found(name, task=task):
        folders = episode_folders(tmp_path / name, task)
        return [str(folder.relative_to(tmp_path)) for folder in folders]

    assert found("run") == ["run/replay"] and found("flat") == ["flat"]
    assert found("many") == [f"many/{task}/expert", f"many/{task}/random"]
    with pytest.raises(UserError, match=f"no episodes of other, but of {task}, x"):
        found("many", "other")
    with pytest.raises(UserError, match="no episodes in .*nowhere; expected a run folder"):
        found("nowhere")


def test_all_policies_of_a_collection_are_read(tmp_path, capsys):
    task = fake_agent.Config().task
    for policy, seeds in (("random", [0, 1]), ("expert", [2])):
        write_episodes(tmp_path / "data" / task / policy, map(episode, seeds))
    run(tmp_path / "run", tmp_path / "data")
    assert f"from 3 episodes, {3 * ROWS} rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    "episodes, options, message",
    [
        (
            [episode(size=2)],
            {},
            r"0000.npz differs .*: 'count' has the shape \(2,\) in a row, expected \(1,\)",
        ),
        ([{**episode(), "reward": np.full(ROWS, np.nan, np.float32)}], {}, "nan in row 0 and 8"),
        ([episode(rows=3)], {}, "holds no 4 rows in sequence; lower replay.length"),
        ([episode()], {"replay__minimum": 7}, "4 rows in sequence fewer than 7 times; .*minimum"),
        (map(episode, range(20)), {"replay__capacity": 90}, "hold 180 rows, 90 fit; raise replay"),
    ],
)
def test_what_does_not_fit_is_one_line_and_leaves_nothing(episodes, options, message, tmp_path):
    write_episodes(tmp_path / "data", episodes)
    with pytest.raises(UserError, match=message) as error:
        run(tmp_path / "run", tmp_path / "data", **options)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_further_arrays_are_left_out_with_one_note(tmp_path, capsys):
    episodes = [episode(seed) | {"speed": np.zeros(ROWS)} for seed in range(2)]
    write_episodes(tmp_path / "data", episodes)
    with pytest.warns(UserWarning, match="left out") as caught:
        assert run(tmp_path / "run", tmp_path / "data").finished
    assert sum("have no 'speed'" in str(one.message) for one in caught) == 1


def test_files_that_cannot_be_read_are_named_where_nothing_is_left(tmp_path):
    arrays = episode()
    short = {key: value[1:] for key, value in arrays.items() if key != "count"}
    for number, broken in enumerate((arrays | short, arrays | {"info": np.array([{}] * ROWS)})):
        (tmp_path / "data").mkdir(exist_ok=True)
        np.savez(tmp_path / "data" / f"{number}.npz", **broken)
    with (
        pytest.warns(UserWarning, match="of rows: count 9, action 8") as caught,
        pytest.raises(UserError, match="no readable file in .*data; the warnings above"),
    ):
        run(tmp_path / "run", tmp_path / "data")
    assert any("'info.npy' holds object, not numbers" in str(one.message) for one in caught)


@pytest.mark.parametrize("repeat", [1, 8])
def test_another_action_repeat_is_refused_naming_both(repeat, data, tmp_path, capsys):
    (data / "collection.json").write_text(json.dumps({"action_repeat": repeat}))
    if repeat == 1:
        assert run(tmp_path / "run", data).finished
        assert "nothing says which action repeat" not in capsys.readouterr().out
        return
    message = "data was recorded with an action repeat of 8, this task has 1; set --env.action_re"
    with pytest.raises(UserError, match=message):
        run(tmp_path / "run", data)
    assert not (tmp_path / "run").exists()


def test_data_that_do_not_say_their_action_repeat_are_said_to(data, tmp_path, capsys):
    run(tmp_path / "run", data)
    said = f"nothing says which action repeat {data} was recorded with; taken to be that of this"
    assert said in capsys.readouterr().out


WIND = "--task tests.envs.known:Wind --run.random_episodes 1 --run.video false"


@pytest.mark.parametrize("words", ["planet --configs tdm gym debug", "dreamer --configs gym debug"])
def test_agents_learn_from_the_replay_of_another_run(words, tmp_path, capsys):
    """Trained on what the tiny agent collected, resumed, and evaluated from its folder."""
    name, *rest = words.split()
    main = {"planet": planet, "dreamer": dreamer}[name]
    program = fake_agent.load_program()
    config = update(program.default_config, {"task": "tests.envs.known:Wind"})
    training.train(program, config, tmp_path / "other")
    before = content(tmp_path / "other")
    options = f"{WIND} --data {tmp_path / 'other'} --run.eval_every 2 --run.eval_episodes 1"
    for updates in (3, 5):
        line = f"train {' '.join(rest)} {options} --run.updates {updates} --logdir {tmp_path}/run"
        assert main(line.split()) == 0
    assert content(tmp_path / "other") == before
    assert [at for at, _ in metrics(tmp_path / "run", "eval/return_mean")] == [2, 3, 4, 5]
    assert run_folder.agent_name(tmp_path / "run") == name
    words = f"eval --logdir {tmp_path / 'run'} --episodes 1 --task tests.envs.known:Wind"
    assert main(words.split()) == 0
    assert "over 1 episodes" in capsys.readouterr().out
