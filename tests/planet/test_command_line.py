"""One agent for several tasks, and a planner that is changed after training."""

from __future__ import annotations

import numpy as np
import pytest

from common.envs import EnvConfig, make_one
from common.logging.jsonl import read_jsonl
from planet import load
from planet.program import main

TASKS = "dmc_cartpole_swingup", "dmc_reacher_easy"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on two tasks with episodes of 64 frames: 8 or 16 agent steps."""
    folder = tmp_path_factory.mktemp("planet") / "run"
    words = f"train --configs planet_state debug --task {','.join(TASKS)} --logdir {folder}"
    options = "--env.time_limit 64 --run.frames 900 --run.eval_episodes 2 --run.log_every 200"
    assert main([*words.split(), *options.split()]) == 0
    return folder


def test_returns_of_each_task_are_logged_and_evaluated(trained):
    scores = list(read_jsonl(trained / "scores.jsonl"))
    for score in scores:
        (task,) = (task for task in TASKS if f"return/{task}" in score)
        assert score[f"return/{task}"] == pytest.approx(score["return"])
        assert score["length"] == (8 if task == TASKS[0] else 16)
    assert {len([s for s in scores if f"return/{t}" in s]) > 1 for t in TASKS} == {True}
    # Frames differ from step to step, and still every episode is 64 of them.
    assert [score["frames"] for score in scores] == [64 * (i + 1) for i in range(len(scores))]
    evaluations = [x for x in read_jsonl(trained / "metrics.jsonl") if "eval/return_mean" in x]
    for row in evaluations:
        means = [row[f"eval/return/{task}"] for task in TASKS]
        assert row["eval/return_mean"] == pytest.approx(np.mean(means))
    assert len(evaluations) >= 2
    films = {path.name.rpartition("-")[0] for path in (trained / "videos").glob("eval*")}
    assert films == {f"eval_policy_{task}" for task in TASKS}
    assert all(task in (trained / "report.html").read_text() for task in TASKS)


def test_eval_plays_every_task_and_takes_another_planner(trained, tmp_path, capsys):
    film = tmp_path / "film.gif"
    words = f"eval --logdir {trained} --episodes 2 --planner.method mppi --video {film}"
    assert main(words.split()) == 0
    out = capsys.readouterr().out
    assert "over 4 episodes (dmc_cartpole_swingup" in out
    for task in TASKS:
        assert f"{task}: returns: " in out
        assert (tmp_path / f"film_{task}.gif").stat().st_size > 1000


def test_loaded_agent_takes_the_observation_of_one_task(trained):
    env = make_one(",".join(TASKS), EnvConfig(pixels=False, state=True), 0, only=TASKS[1])
    row = env.reset()
    agent = load(str(trained))
    action, _ = agent.act({key: row[key] for key in env.observation_specs})
    assert action.shape == (2,)
    statistics = agent.params["normalisers"]["vectors"]
    assert statistics.keys() == agent.observations.keys()
    for moments in statistics.values():
        assert moments["batches"] > 0 and (moments["variance"] != 1).any()


@pytest.mark.parametrize(
    "words, message",
    [
        ("--rssm.deter 3", "--world_model.rssm.deter cannot change once an agent is trained; only"),
        ("--configs atari", "--configs is for --model simulator"),
        ("--planner.method cma", "planner.method cannot be 'cma'"),
    ],
)
def test_what_was_learned_cannot_be_changed(words, message, trained, capsys):
    assert main(["eval", "--logdir", str(trained), *words.split()]) == 2
    assert message in capsys.readouterr().err
