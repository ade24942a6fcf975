"""What files of strangers may make a command do: nothing that was not written there too."""

from __future__ import annotations

import json
import pathlib
import shutil

import numpy as np
import pytest

import common.run.evaluation
import common.run.train
from common import envs
from common.command import line as cli
from common.command import presets, trust
from common.command.api import train as train_from_python
from common.command.trust import check_task
from common.config import update
from common.errors import UserError
from common.export import EXPORT, export
from common.run import folder as run_folder
from common.run import loading
from common.run.progress import Result
from tests import fake_agent

SHELL = "subprocess:getoutput"
"""A task whose environment is whatever a shell prints."""


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*words):
    """Runs a command of the tiny agent in this process."""
    return cli.main("fake", fake_agent.load_program, words)


def refusal(capsys, *words):
    """The one line that refuses a command; nothing has happened then."""
    assert run(*words) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and said.err.count("\n") == 1 and said.out == ""
    assert not pathlib.Path("pwned").exists()
    return said.err


def stranger(path, task=SHELL, kwargs=None):
    """An export, or the folder of a run, that names a task."""
    program = fake_agent.load_program()
    kwargs = {"cmd": "id > pwned"} if kwargs is None else kwargs
    config = update(program.default_config, {"task": task, "env.kwargs": kwargs})
    env = envs.make_one(program.default_config.task, envs.EnvConfig(), 0)
    agent = program.make_agent(config, env.observation_specs, env.action_spec)
    params = {"model": {"w": np.zeros(3, np.float32)}}
    if path.suffix != ".npz":
        run_folder.write(path, program.name, config)
        path = path / EXPORT
    export(path, program.name, config, env.observation_specs, env.action_spec, params)
    return agent


@pytest.mark.parametrize("name", ["stranger.npz", "run"])
@pytest.mark.parametrize(
    ("task", "kwargs"),
    [
        (SHELL, None),
        ("os:system", {"command": "touch pwned"}),
        ("gym_evil.module:Env-v0", {}),
        ("gym_CartPole-v1", {"anything": 1}),
        (f"dmc_walker_walk, {SHELL}", {}),
    ],
)
def test_eval_asks_for_the_task_that_a_file_names(name, task, kwargs, tmp_path, capsys):
    stranger(tmp_path / name, task, kwargs)
    said = refusal(capsys, "eval", "--logdir", name, "--episodes", "1")
    assert f"{name} names the task {task!r}" in said and "repeat it on the command line" in said
    assert str(kwargs or {"cmd": "id > pwned"}) in said or kwargs == {}


def test_what_eval_asks_for_is_what_it_takes(tmp_path, capsys, monkeypatch):
    task = "tests.envs.toys:Counter"
    stranger(tmp_path / "run", task, {"end": 3})
    played = []

    def play(task, env, *_, **__):
        played.append((task, env.kwargs))
        raise UserError("played")

    monkeypatch.setattr(common.run.evaluation, "play", play)
    said = refusal(capsys, "eval", "--logdir", "run")
    assert not played
    word = said.strip().rpartition("--task ")[2]
    assert word == task and "{'end': 3} to it" in said
    assert "error: played" in refusal(capsys, "eval", "--logdir", "run", "--task", word)
    assert played == [(task, {"end": 3})]
    other = refusal(capsys, "eval", "--logdir", "run", "--task", "gym_CartPole-v1")
    assert f"names the task {task!r}, not 'gym_CartPole-v1'" in other


@pytest.mark.parametrize("from_python", [False, True])
def test_a_run_that_was_begun_here_needs_no_word(from_python, tmp_path, capsys, monkeypatch):
    """The word was given to train; elsewhere, or with other arguments, it is asked for again."""
    played, task = [], "tests.envs.known:Echo"

    def play(task, env, *_, **__):
        played.append(env.kwargs)
        raise UserError("played")

    monkeypatch.setattr(common.run.evaluation, "play", play)
    monkeypatch.setattr(common.run.train, "train", lambda *_, **__: Result(False, 0, 0, tmp_path))
    if from_python:
        options = {"task": task, "env.kwargs": {"end": 3}}
        train_from_python(fake_agent.load_program, "run", (), options)
    else:
        run("train", "--task", task, "--env.kwargs.end", "3", "--logdir", "run")
    stranger(tmp_path / "run", task, {"end": 3})
    for place in ("run", "run/export.npz", str(tmp_path / "run")):
        assert "error: played" in refusal(capsys, "eval", "--logdir", place)
    assert played == [{"end": 3}] * 3
    shutil.copytree("run", "copy")
    assert "repeat it" in refusal(capsys, "eval", "--logdir", "copy")
    for other in ((task, {"end": 4}), (SHELL, {"end": 3})):
        stranger(tmp_path / "run", *other)
        assert "repeat it" in refusal(capsys, "eval", "--logdir", "run")
    assert len(played) == 3


def test_where_nothing_can_be_noted_the_word_is_asked_for(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(common.run.train, "train", lambda *_, **__: Result(False, 0, 0, tmp_path))
    run("train", "--task", "tests.envs.known:Echo", "--logdir", "run")
    stranger(tmp_path / "run", "tests.envs.known:Echo", {})
    assert "repeat it" in refusal(capsys, "eval", "--logdir", "run")


def test_a_task_that_runs_no_code_of_others_needs_no_word(tmp_path, capsys, monkeypatch):
    stranger(tmp_path / "run", "gym_CartPole-v1", {})
    monkeypatch.setattr(common.run.evaluation, "play", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("eval", "--logdir", "run")


def test_loading_from_python_builds_no_environment(tmp_path, monkeypatch):
    stranger(tmp_path / "stranger.npz")
    monkeypatch.setattr(envs.registry, "make_one", None)
    agent = loading.LoadedAgent(fake_agent.load_program(), tmp_path / "stranger.npz")
    assert agent.config.task == SHELL


PRESETS = {
    "task": f"task: {SHELL}\nenv: {{kwargs: {{cmd: id > pwned}}}}\n",
    "dotted": f"task: {SHELL}\nenv.kwargs.cmd: id > pwned\n",
    "agent": f"agents: {{fake: {{task: '{SHELL}'}}}}\n",
    "arguments": "env: {kwargs: {cmd: id > pwned}}\n",
    "module of an id": "task: gym_evil:Env-v0\n",
}


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("command", ["train", "check-env"])
def test_a_preset_of_a_file_asks_for_its_task(name, command, tmp_path, capsys):
    pathlib.Path("stranger.yaml").write_text(PRESETS[name])
    pathlib.Path("outer.yaml").write_text("includes: [stranger.yaml]\n")
    for file in ("stranger.yaml", "outer.yaml", str(tmp_path / "stranger.yaml")):
        said = refusal(capsys, command, "--configs", file)
        assert f"{file} names the task" in said and "--task " in said


def test_a_preset_whose_task_was_repeated_trains(monkeypatch, tmp_path):
    calls = []

    def train(program, config, logdir, **_):
        calls.append((config.task, config.env.kwargs))
        return Result(False, 0, 0, logdir)

    monkeypatch.setattr(common.run.train, "train", train)
    pathlib.Path("mine.yaml").write_text("task: tests.envs.toys:Counter\nenv.kwargs: {end: 3}\n")
    task = "tests.envs.toys:Counter"
    run("train", "--configs", "mine.yaml", "--task", task)
    run("train", "--configs", "gym", "--env.kwargs.end", "4", "--task", task)
    run("train", "--env.kwargs.end", "4")  # All of it is on the command line.
    run("train", "--configs", "mine.yaml", "--task", "gym_CartPole-v1")
    pathlib.Path("plain.yaml").write_text("seed: 3\ntask: gym_CartPole-v1\n")
    run("train", "--configs", "plain.yaml")
    assert calls[:2] == [(task, {"end": 3}), (task, {"end": 4})]
    assert [one[0] for one in calls[2:]] == [
        fake_agent.load_program().default_config.task, "gym_CartPole-v1", "gym_CartPole-v1",
    ]  # fmt: skip


def test_presets_of_the_package_run_no_code_of_others():
    for agent in presets.known_agents():
        for name in presets.preset_names():
            found = presets.load_presets([name], agent)
            kwargs = found.get("env", {}).get("kwargs", {})
            assert not trust._runs_code(found.get("task", ""), kwargs)


def test_training_from_python_asks_too(tmp_path):
    pathlib.Path("stranger.yaml").write_text(PRESETS["task"])
    with pytest.raises(UserError, match="stranger.yaml names the task 'subprocess:getoutput'"):
        train_from_python(fake_agent.load_program, tmp_path / "run", "stranger.yaml", {})
    assert not (tmp_path / "run").exists()


def test_the_word_is_quoted_for_a_shell():
    with pytest.raises(UserError, match=r"--task 'a:b; rm -rf x'$"):
        check_task("a:b; rm -rf x", {}, None, "x.npz")


def test_agents_of_a_preset_are_not_imported(capsys):
    pathlib.Path("evil").mkdir()
    pathlib.Path("evil/__init__.py").write_text("open('pwned', 'w')")
    for name in ("evil", "evil.x", "json", "common"):
        pathlib.Path("stranger.yaml").write_text(f"agents: {{{name}: {{}}}}\n")
        said = refusal(capsys, "train", "--configs", "stranger.yaml")
        assert f"unknown agent {name!r}" in said


def test_a_text_that_yaml_could_execute_is_text(capsys):
    for tag in ("!!python/object/apply:os.system ['touch pwned']", "!!python/name:os.system"):
        pathlib.Path("stranger.yaml").write_text(f"task: {tag}\n")
        assert "is not valid YAML" in refusal(capsys, "train", "--configs", "stranger.yaml")


def test_the_meta_of_an_export_is_data(tmp_path, capsys):
    """Whatever stands where a task should."""
    for task in (3, None, ["a:b"], {"a": "b"}, ""):
        stranger(tmp_path / "x.npz", "gym_CartPole-v1", {})
        with np.load(tmp_path / "x.npz") as file:
            arrays = dict(file)
        meta = json.loads(arrays["meta"].tobytes())
        meta["config"]["task"] = task
        arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
        np.savez(tmp_path / "x.npz", **arrays)
        refusal(capsys, "eval", "--logdir", "x.npz", "--episodes", "1")


def test_worlds_of_the_package_take_arguments_from_files():
    """They run nobody else's code, whatever a file hands to them; other environments might."""
    for task in ("memory_recall", "maze_goal"):
        check_task(task, {"size": 3}, None, "x.npz")
    with pytest.raises(UserError, match="hands env.kwargs"):
        check_task("gym_CartPole-v1", {"size": 3}, None, "x.npz")
