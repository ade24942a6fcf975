"""``import``: a log of others becomes a folder that ``--data`` takes, or nothing at all."""

from __future__ import annotations

import json

import numpy as np
import pytest

from common.command import line as cli
from common.replay import read_episodes
from tests import fake_agent

h5py = pytest.importorskip("h5py")
TASK = ["--task", "gym_Pendulum-v1", "--env.time_limit", "6"]
ROWS = 20


def write(path, **changes):
    """A file of two episodes of the pendulum, or what should be one."""
    rng = np.random.default_rng(0)
    found = {
        "observations": rng.normal(size=(ROWS, 3)).astype(np.float32),
        "next_observations": rng.normal(size=(ROWS, 3)).astype(np.float32),
        "actions": rng.uniform(-2, 2, (ROWS, 1)).astype(np.float32),
        "rewards": rng.normal(size=ROWS).astype(np.float32),
        "terminals": np.zeros(ROWS, bool),
        "timeouts": np.arange(ROWS) % 10 == 9,
    } | changes
    with h5py.File(path, "w") as file:
        for key, value in found.items():
            file[key] = value
    return found


def run(*words):
    """The command line of the tiny agent."""
    return cli.main("fake", fake_agent.load_program, list(map(str, words)))


def test_what_was_imported_is_learned_from(tmp_path, capsys):
    made = write(tmp_path / "a.hdf5")
    out = tmp_path / "data" / "pendulum"
    assert run("import", *TASK, "--log", tmp_path / "a.hdf5", "--out", out) == 0
    said = capsys.readouterr().out
    assert "2 episodes of D4RL, 20 transitions, returns" in said and f"--data {out}\n" in said
    first, second = read_episodes(out)
    np.testing.assert_allclose(first["action"][1:], made["actions"][:10] / 2, rtol=1e-6)
    np.testing.assert_array_equal(second["vector"][:10], made["observations"][10:])
    record = json.loads((out / "collection.json").read_text())
    assert record["action_repeat"] == 1 and record["agent_steps"] == [10, 10]
    assert record["log"] == str(tmp_path / "a.hdf5") and record["task"] == "gym_Pendulum-v1"
    assert record["returns"][0] == pytest.approx(made["rewards"][:10].sum(), abs=1e-3)
    train = ("--data", out, "--run.updates", 3, "--logdir", tmp_path / "run")
    assert run("train", *TASK, *train) == 0
    assert "from 2 episodes, 22 rows" in capsys.readouterr().out
    other = (*train[:-1], tmp_path / "other", "--env.action_repeat", 2)
    assert run("train", *TASK, *other) == 2
    assert "with an action repeat of 1, this task has 2" in capsys.readouterr().err
    assert run("import", *TASK, "--log", tmp_path / "a.hdf5", "--out", out) == 2
    assert "is there already; delete it, or choose another --out" in capsys.readouterr().err
    again = ("--log", tmp_path / "a.hdf5", "--out", tmp_path / "again", "--repeat", 2)
    assert run("import", *TASK, *again) == 0
    assert json.loads((tmp_path / "again/collection.json").read_text())["action_repeat"] == 2


LATE = np.where(np.arange(ROWS) == 15, np.nan, 0)


@pytest.mark.parametrize(
    ("words", "changes", "message"),
    [
        (("--out", "x"), {}, "name the log: --log ..."),
        (("--log", "a.hdf5"), {}, "name the new folder: --out ..."),
        (("--log", "b.hdf5", "--out", "x"), {}, "there is no file or folder b.hdf5"),
        (("--log", "minari:b-v0", "--out", "x"), {}, "there is no Minari dataset 'b-v0' here"),
        (("--log", "a.hdf5", "--out", "a.hdf5"), {}, "a.hdf5 is there already"),
        (("--log", "a.hdf5", "--out", "a.hdf5/x"), {}, "choose another"),
        (("--log", "a.hdf5", "--out", "x", "--repeat", "0"), {}, "--repeat must be at least 1"),
        (("--log", "a.hdf5", "--out", "x"), {"rewards": LATE}, "episode 1 of a.hdf5 differs"),
        (("--log", "a.hdf5", "--out", "x", "--task", "gym_CartPole-v1"), {}, "none of the choices"),
        (
            ("--log", "a.hdf5", "--out", "x"),
            {"next_observations": np.zeros(ROWS)},
            "expected the same",
        ),
    ],
)
def test_mistakes_leave_nothing(words, changes, message, tmp_path, monkeypatch, capsys):
    """Not even where the second of two episodes is at fault."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    write("a.hdf5", **changes)
    assert run("import", *TASK, *words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert {path.name for path in tmp_path.iterdir()} - {"minari"} == {"a.hdf5"}


def test_data_that_are_a_log_are_told_the_way(tmp_path, capsys):
    write(tmp_path / "a.hdf5")
    assert run("train", *TASK, "--data", tmp_path / "a.hdf5", "--logdir", tmp_path / "run") == 2
    assert "logs of other programs become such a folder by 'import'" in capsys.readouterr().err
