"""How episodes were recorded, by what lies beside them."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from common.config import update
from common.envs import EnvConfig, make_one
from common.envs.challenges import ChallengeConfig
from common.envs.challenges.config import DelayConfig
from common.envs.registry import action_repeat
from common.errors import UserError
from common.run import folder as run_folder
from common.run.recorded import (
    check_repeats,
    read_collection,
    recorded_repeat,
    warn_of_challenges,
    write_record,
)
from common.run.recording import Recorder
from tests import fake_agent


@pytest.mark.parametrize("repeat", [0, -1, 3])
@pytest.mark.parametrize(
    "task", ["dmc_cartpole_swingup", "dmc_cup_catch", "dmc_walker_walk@3", "gym_CartPole-v1"]
)
def test_the_repeat_of_a_task_is_known_without_its_environment(task, repeat):
    env = make_one(task, EnvConfig(action_repeat=repeat, pixels=False, state=True), 0)
    env.close()
    assert action_repeat(task, repeat) == env.action_repeat


def test_the_largest_of_several_tasks():
    tasks = "dmc_cartpole_swingup,dmc_finger_spin"
    assert [action_repeat(tasks, n) for n in (0, -1, 5)] == [2, 8, 5]
    assert [action_repeat("atari_pong", n) for n in (0, -1, 5)] == [4, 4, 5]


def write_run(logdir, **options):
    """The folder of a run's replay."""
    program = fake_agent.load_program()
    run_folder.write(logdir, program.name, update(program.default_config, options))
    return logdir / run_folder.REPLAY


def test_a_run_says_it_in_its_configuration(tmp_path):
    folder = write_run(tmp_path / "a", task="dmc_cup_catch")
    assert recorded_repeat(folder) == 2
    folder = write_run(tmp_path / "b", task="atari_pong", **{"env.action_repeat": 3})
    assert recorded_repeat(folder) == 3
    (tmp_path / "b" / "config.yaml").write_text("agent: other\ntask: 3\n")
    assert recorded_repeat(folder) is None
    assert recorded_repeat(tmp_path / "b") is None


@pytest.mark.parametrize("value", [None, 0, -1, 2.5, "8", True])
def test_a_collection_that_does_not_say_it(tmp_path, value):
    (tmp_path / "collection.json").write_text(json.dumps({"action_repeat": value}))
    assert recorded_repeat(tmp_path) is None
    assert read_collection(tmp_path / "other") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "\x00"])
def test_a_damaged_record_is_named(tmp_path, text):
    (tmp_path / "collection.json").write_text(text)
    with pytest.raises(UserError, match=r"collection\.json is .*; restore it, or delete it"):
        recorded_repeat(tmp_path)


def test_other_challenges_are_warned_of(tmp_path, capsys):
    late = EnvConfig(challenge=ChallengeConfig(delay=DelayConfig(actions=3)))
    mine = write_run(tmp_path / "a", task="dmc_cup_catch", **{"env.challenge.delay.actions": 3})
    other = write_run(tmp_path / "b", task="dmc_cup_catch")
    (tmp_path / "silent").mkdir()
    (tmp_path / "c").mkdir()
    write_record(tmp_path / "c", {"env": dataclasses.asdict(EnvConfig())})
    folders = [mine, other, tmp_path / "silent", tmp_path / "c"]
    warn_of_challenges(folders, late.challenge)
    lines = capsys.readouterr().err.splitlines()
    assert [str(folder) in line for folder, line in zip((other, folders[3]), lines, strict=True)]
    assert lines[0].endswith("with env.challenge: none; evaluations have delay.actions 3")


def test_all_folders_are_compared(tmp_path, capsys):
    for name, value in (("a", 8), ("b", 8), ("c", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "collection.json").write_text(json.dumps({"action_repeat": value}))
    folders = [tmp_path / name for name in "abc"]
    check_repeats(folders[:2], 8)
    assert capsys.readouterr().out == ""
    with pytest.raises(UserError, match="c was recorded with an action repeat of 2, this"):
        check_repeats(folders, 8)
    check_repeats([tmp_path, *folders[:1]], 8)
    said = capsys.readouterr().out
    assert f"which action repeat {tmp_path} was recorded with; taken to be that of this" in said


def test_actions_are_recorded_as_the_environment_took_them():
    """What a policy drew beyond the bounds would be refused as data."""
    recorder = Recorder()
    for action, last in ((0.0, False), (1.7, False), (-3.0, True)):
        rows = {"action": np.full((1, 2), action), "is_last": np.array([last])}
        recorder(rows)
    (episode,) = recorder.episodes()
    assert episode["action"].tolist() == [[0, 0], [1, 1], [-1, -1]]
