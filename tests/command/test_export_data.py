"""``export-data``: episodes become a dataset of others, whole or not at all, and come back."""

from __future__ import annotations

import json

import numpy as np
import pytest

from common.command import line as cli
from common.replay import read_episodes
from tests import fake_agent

pytest.importorskip("pyarrow")
TASK = ["--task", "gym_Pendulum-v1", "--env.time_limit", "6"]


def run(*words):
    """The command line of the tiny agent."""
    return cli.main("fake", fake_agent.load_program, list(map(str, words)))


@pytest.fixture(scope="module", name="recorded")
def _recorded(tmp_path_factory):
    """Two episodes of the pendulum, whose torque is -2 to 2, recorded at random."""
    folder = tmp_path_factory.mktemp("data") / "pendulum"
    words = ("--policy", "random", "--episodes", 2, "--out", folder)
    assert run("record", *TASK, *words) == 0
    return folder


def test_a_lerobot_dataset_comes_back(recorded, tmp_path, capsys):
    """With the task, and without: then the dataset says what its actions are."""
    out = tmp_path / "new" / "set"
    words = ("--data", recorded, "--format", "lerobot", "--fps", 30)
    assert run("export-data", *words, "--out", out) == 0
    assert "2 episodes of" in (said := capsys.readouterr().out) and "14 frames" in said
    assert json.loads((out / "meta/info.json").read_text())["fps"] == 30
    for name, task in (("with", TASK), ("without", ())):
        assert run("import", *task, "--log", out, "--out", tmp_path / name) == 0
        assert "2 episodes of LeRobot, 12 transitions" in capsys.readouterr().out
    for one, other, alone in zip(
        *map(read_episodes, (recorded, tmp_path / "with", tmp_path / "without")), strict=True
    ):
        for key, value in one.items():
            np.testing.assert_allclose(other[key], value, atol=1e-6)
        np.testing.assert_allclose(alone["action"], one["action"], atol=1e-6)
        np.testing.assert_array_equal(alone["state"], one["vector"])
    assert run("export-data", *words, "--out", out) == 2
    assert "is there already; delete it, or choose another --out" in capsys.readouterr().err
    assert not list(out.parent.glob(".*"))


def test_a_minari_dataset_comes_back(recorded, tmp_path, capsys, monkeypatch):
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    words = ("--data", recorded, "--format", "minari", "--out", "pendulum/few-v0")
    assert run("export-data", *words) == 0
    assert minari.load_dataset("pendulum/few-v0").action_space.high.tolist() == [2]
    assert run("import", "--log", "minari:pendulum/few-v0", "--out", tmp_path / "back") == 0
    for one, other in zip(read_episodes(recorded), read_episodes(tmp_path / "back"), strict=True):
        for key, value in one.items():
            np.testing.assert_allclose(other[key], value, atol=1e-6)
    assert run("export-data", *words) == 2
    assert "already exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--format", "lerobot", "--out", "x"), "name the episodes: --data ..."),
        (("--data", "{}", "--out", "x"), "name the format: --format ..."),
        (("--data", "{}", "--format", "lerobot"), "name what to write: --out ..."),
        (("--data", "{}", "--format", "hdf5", "--out", "x"), "unknown --format 'hdf5'"),
        (("--data", "none", "--format", "lerobot", "--out", "x"), "no episodes in none; give"),
        (("--data", "{}", "--format", "lerobot", "--out", "x", "--fps", "0"), "--fps must be at"),
        (("--data", "{}", "--format", "lerobot", "--out", "x", "--pictures", "b"), "unknown --pic"),
        (("--data", "{}", "--format", "minari", "--out", "x"), "no name of a Minari dataset"),
        (("--data", "bad", "--format", "lerobot", "--out", "x"), "collection.json is damaged"),
        (("--data", "{}/..", "--format", "lerobot", "--out", "file/x"), "cannot write"),
    ],
)
def test_mistakes_leave_nothing(words, message, recorded, tmp_path, monkeypatch, capsys):
    pytest.importorskip("minari")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "bad").mkdir()
    for path in recorded.iterdir():
        (tmp_path / "bad" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "bad" / "collection.json").write_text('{"actions": [{"path": 3}]}')
    assert run("export-data", *(word.format(recorded) for word in words)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert {path.name for path in tmp_path.iterdir()} == {"file", "bad"}
