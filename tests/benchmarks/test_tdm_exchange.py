"""Collections as Minari datasets and back, by the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.__main__ import main
from common.replay import read_bodies, read_episodes

minari = pytest.importorskip("minari")


@pytest.fixture(autouse=True)
def datasets(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def test_out_and_in_again(tmp_path, capsys):
    """The pendulum's torque is -2 to 2 for Minari, -1 to 1 here."""
    words = ("--tasks", "gym_Pendulum-v1", "--episodes", "2", "--time-limit", "30")
    assert main(["tdm", "collect", "--data", str(tmp_path / "data"), *words]) == 0
    source = tmp_path / "data" / "gym_Pendulum-v1"
    assert main(["tdm", "export", "--data", str(source), "--minari", "pendulum/few-v0"]) == 0
    seen = minari.load_dataset("pendulum/few-v0")
    assert seen.total_episodes == 2 and seen.action_space.high.tolist() == [2]
    written = read_episodes(source / "random")
    for one, episode in zip(written, seen.iterate_episodes(), strict=True):
        np.testing.assert_allclose(episode.actions, 2 * one["action"][1:], rtol=1e-6)
    back = ("--minari", "pendulum/few-v0", "--data", str(tmp_path / "new"), "--task", "mine")
    assert main(["tdm", "import", *back]) == 0
    assert "2 episodes of the Minari dataset pendulum/few-v0" in capsys.readouterr().out
    bodies = read_bodies(tmp_path / "new")
    assert list(bodies) == ["mine"] and len(bodies["mine"]) == 2
    for one, other in zip(written, bodies["mine"], strict=True):
        for key, value in one.items():
            np.testing.assert_array_equal(value, other[key])
    folder = tmp_path / "new" / "mine" / "pendulum_few-v0"
    record = json.loads((folder / "collection.json").read_text())
    assert record["agent_steps"] == [30, 30] and record["minari"] == "pendulum/few-v0"
    assert record["returns"] == pytest.approx([one["reward"].sum() for one in written], abs=1e-3)
    assert main(["tdm", "import", *back]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["tdm", "import", *back, "--policy", "again"]) == 0
    assert len(read_bodies(tmp_path / "new")["mine"]) == 4
    one_policy = ("--data", str(folder), "--minari", "pendulum/few-v1")
    assert main(["tdm", "export", *one_policy]) == 0


def test_mistakes(tmp_path, capsys):
    for task in ("a", "b"):
        words = ("--tasks", "gym_Pendulum-v1", "--episodes", "1", "--time-limit", "3")
        assert main(["tdm", "collect", "--data", str(tmp_path / task), *words]) == 0
    capsys.readouterr()
    name = ("--minari", "x/y-v0")
    for words, message in [
        (("export", "--data", str(tmp_path / "a"), *name), "a collection of bodies"),
        (("export", "--data", str(tmp_path / "none"), *name), "no episodes in"),
        (("import", "--task", "mine", *name), "there is no Minari dataset 'x/y-v0'"),
        (("import", "--task", "a/b", *name), "cannot be the name of a folder"),
        (("import", *name), "--task"),
    ]:
        assert main(["tdm", *words]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and message in error


def collect_few(folder):
    """A collection of one body, and its record."""
    words = ("--tasks", "gym_Pendulum-v1", "--episodes", "1", "--time-limit", "3")
    assert main(["tdm", "collect", "--data", str(folder), *words]) == 0
    return folder / "gym_Pendulum-v1" / "random" / "collection.json"


@pytest.mark.parametrize("kwargs", [{"cmd": "id > pwned"}, {}])
def test_a_record_of_others_builds_no_environment(kwargs, tmp_path, capsys, monkeypatch):
    path = collect_few(tmp_path / "a")
    record = json.loads(path.read_text())
    task = "subprocess:getoutput" if kwargs else "gym_subprocess:X-v0"
    record |= {"task": task, "env": {**record["env"], "kwargs": kwargs}}
    path.write_text(json.dumps(record))
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    words = ["tdm", "export", "--data", "a/gym_Pendulum-v1", "--minari", "x/y-v0"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert f"collection.json names the task {task!r}" in said and f"--task {task}\n" in said
    assert not (tmp_path / "pwned").exists()
    assert main([*words, "--task", "gym_Pendulum-v1"]) == 2
    assert f"names the task {task!r}, not 'gym_Pendulum-v1'" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", '{"task": "gym_Pendulum-v1", "env": {"amount": "x"}}'])
def test_a_damaged_record_is_one_line(text, tmp_path, capsys):
    path = collect_few(tmp_path / "a")
    path.write_text(text)
    capsys.readouterr()
    assert main(["tdm", "export", "--data", str(path.parent), "--minari", "x/y-v0"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_import_that_fails_leaves_nothing(tmp_path, capsys):
    buffer = minari.data_collector.EpisodeBuffer(
        observations=np.zeros((2, 1), np.float32), actions=np.zeros((2, 1), np.float32),
        rewards=[0.0, 0.0], terminations=[False, False], truncations=[False, True],
    )  # fmt: skip
    from gymnasium.spaces import Box

    with pytest.warns(UserWarning):
        minari.create_dataset_from_buffers(
            "odd/short-v0", [buffer], action_space=Box(-1, 1, (1,)),
            observation_space=Box(-1, 1, (1,)),
        )  # fmt: skip
    words = ("--minari", "odd/short-v0", "--data", str(tmp_path), "--task", "mine")
    assert main(["tdm", "import", *words]) == 2
    assert "2 observations and 2 steps" in capsys.readouterr().err
    assert not any(tmp_path.glob("mine/*"))
