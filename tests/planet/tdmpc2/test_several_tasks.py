"""TD-MPC2 on several tasks that it is told apart: the command, from training to loading."""

from __future__ import annotations

import json

import numpy as np
import pytest

import planet
from common.command import presets
from common.envs import EnvConfig, make_one
from common.errors import UserError
from common.export import read_export
from common.replay.episodes import read_episodes
from planet.program import load_program, main
from tests.planet.tdmpc2.small import SMALL

TASKS = "dmc_cartpole_balance", "dmc_reacher_easy"
NAME = ",".join(TASKS)
SHORT = [*SMALL, "--tdmpc2.task_size", "6", "--env.time_limit", "20", "--run.prefill", "20"]
STATE = EnvConfig(pixels=False, state=True, task_one_hot=True)


def train(logdir, *options, task=NAME, configs="tdmpc2"):
    words = ["--configs", configs, "--task", task, "--logdir", str(logdir)]
    return main(["train", *words, *SHORT, *options])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    logdir = tmp_path_factory.mktemp("runs") / "run"
    assert train(logdir, "--run.frames", "200") == 0
    return logdir


def first_row(task):
    return make_one(NAME, STATE, 0, only=task).reset()


def test_rows_say_which_task_is_played(run):
    """What a planner does in entries that a task lacks is nothing; the random policy may."""
    episodes, seen = read_episodes(run / "replay"), {0: [], 1: []}
    for episode in episodes:
        told = episode["task"]
        np.testing.assert_array_equal(told, np.broadcast_to(told[0], told.shape))
        np.testing.assert_array_equal(np.sort(told[0]), [0, 1])
        seen[int(told[0].argmax())].append(np.abs(episode["action"][1:]).max(0) > 0)
    used = {task: np.array(each) for task, each in seen.items()}
    assert used[0][:, 0].all() and used[1].all()
    assert not used[0][-1, 1]
    scores = [json.loads(line) for line in (run / "scores.jsonl").read_text().splitlines()]
    assert {key for row in scores for key in row if "/" in key} >= {f"return/{x}" for x in TASKS}


def test_an_export_knows_its_tasks(run):
    exported = read_export(run)
    assert exported.observations["task"].tasks == ((TASKS[0], 1, 10), (TASKS[1], 2, 10))
    assert exported.params["task"]["task"]["embedding"].shape == (2, 6)
    assert exported.config["tdmpc2"]["discount"] == 0


def test_a_run_goes_on_and_every_task_is_evaluated(run, capsys):
    assert train(run, "--run.frames", "240") == 0
    assert "resumed at" in capsys.readouterr().out
    assert main(["eval", "--logdir", str(run), "--episodes", "1"]) == 0
    out = capsys.readouterr().out
    assert "over 2 episodes" in out and all(f"{task}: returns: " in out for task in TASKS)


def test_a_loaded_agent_is_told_the_task(run):
    agent = planet.load(str(run))
    row = first_row(TASKS[0])
    seen = {key: row[key] for key in agent.observations}
    for mode in ("eval", "train"):
        action, carry = agent.act(seen, mode=mode)
        assert action[0] != 0 and action[1] == 0
        action, _ = agent.act(seen, carry, mode=mode)
        assert action[0] != 0 and action[1] == 0
        action, _ = agent.act(seen | {"task": 1}, mode=mode)
        assert (action != 0).all()
    assert agent.value(seen) == agent.value(seen | {"task": 0}) != agent.value(seen | {"task": 1})
    del seen["task"]
    with pytest.raises(UserError, match="the observation lacks task"):
        agent.act(seen)


def test_it_learns_from_what_was_recorded(run, tmp_path):
    assert train(tmp_path / "run", "--data", str(run), "--run.updates", "10") == 0
    embeddings = [
        read_export(x).params["task"]["task"]["embedding"] for x in (run, tmp_path / "run")
    ]
    assert (embeddings[0] != embeddings[1]).all()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"configs": "tdmpc2_vision"}, "TD-MPC2 learns several tasks from vectors only"),
        ({"task": f"{TASKS[0]},tests.envs.toys:Faulty"}, "tdmpc2.discount is 0"),
        (
            {"task": f"{TASKS[0]},gym_CartPole-v1"},
            "actions of 'gym_CartPole-v1' are not continuous",
        ),
    ],
)
def test_tasks_that_it_cannot_learn_are_one_line(options, words, tmp_path, capsys):
    more = ["--env.task_one_hot", "true", "--env.time_limit", "0"]
    assert train(tmp_path / "run", *more, **options) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_untold_tasks_are_one(tmp_path, capsys):
    """Their episodes lack what another agent must be told."""
    untold = tmp_path / "untold"
    assert train(untold, "--env.task_one_hot", "false", "--run.frames", "120") == 0
    exported = read_export(untold)
    assert "task" not in exported.observations and "task" not in exported.params
    assert exported.config["tdmpc2"]["discount"] == pytest.approx(0.95)
    capsys.readouterr()
    assert train(tmp_path / "told", "--data", str(untold), "--run.updates", "10") == 2
    error = capsys.readouterr().err
    assert "there is no 'task' (record it" in error and error.count("\n") == 1


def test_which_presets_tell():
    """The published PlaNet is not told; TD-MPC2 is, from state."""
    for name, told in (("tdmpc2", True), ("tdmpc2_cpu", True), ("tdmpc2_vision", False)):
        assert presets.resolve(load_program(), [name], {}).env.task_one_hot == told
    assert not presets.resolve(load_program(), ["planet_multitask"], {}).env.task_one_hot
