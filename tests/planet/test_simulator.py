"""The planner with MuJoCo itself as its model."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest

from benchmarks import planning
from common.envs import EnvConfig, make
from common.envs.simulator import Simulator
from common.planner import PlannerConfig
from common.run.evaluation import play
from planet.config import Config
from planet.program import main
from planet.simulator import SimulatorPolicy, pack, simulator_rollout

STATE = EnvConfig(pixels=False, state=True, action_repeat=-1, workers="none")
SMALL = PlannerConfig(candidates=30, top=5, iterations=4, horizon=8)


def test_states_pass_through_jax_bit_by_bit():
    """In float32 the simulation would start elsewhere."""
    envs = make("dmc_cheetah_run", STATE, 0, 2)
    envs.step(np.zeros((2, 6)))
    simulator = Simulator(envs)
    actions = np.random.default_rng(0).uniform(-1, 1, (2, 5, 12, 6)).astype(np.float32)
    rewards, last = simulator.follow(simulator.states(), actions)
    rollout = jax.jit(simulator_rollout(simulator))
    got = rollout({}, jax.random.key(0), pack(simulator.states()), actions)
    np.testing.assert_array_equal(got.rewards, rewards.astype(np.float32))
    np.testing.assert_array_equal(np.asarray(got.last).view(np.float64), last)


@pytest.mark.parametrize("warm", [False, True])
def test_plans_better_than_random_actions(warm):
    config = Config(
        task="dmc_cheetah_run", planner=dataclasses.replace(SMALL, warm_start=warm), env=STATE
    )
    env = dataclasses.replace(STATE, time_limit=60)
    result = play(config.task, env, 2, 0, lambda envs: SimulatorPolicy(config, envs, 0))
    random = lambda envs: lambda rows: np.random.default_rng(0).uniform(-1, 1, (2, 6))  # noqa: E731
    baseline = play(config.task, env, 2, 0, random)
    assert (result.all.returns > 3 * baseline.all.returns.max() + 1).all()


def test_the_recorded_benchmark(tmp_path, monkeypatch, capsys):
    words = ["planning", "dmc_reacher_easy", "--results", str(tmp_path)]
    monkeypatch.setattr("sys.argv", words)
    short = lambda config, episodes: play(  # noqa: E731
        config.task, dataclasses.replace(STATE, time_limit=8), episodes, 0,
        lambda envs: SimulatorPolicy(dataclasses.replace(config, planner=SMALL), envs, 0),
    ).all  # fmt: skip
    monkeypatch.setattr(planning, "plan", short)
    assert planning.main() == 0
    found = json.loads((tmp_path / "dmc_reacher_easy.json").read_text())
    assert found["agent_steps"] == [2] and found["published_return"] == 964
    assert "dmc_reacher_easy" in capsys.readouterr().out
    more = ["--horizon", "7", "--candidates", "10", "--random_walk", "5", "--warm_start"]
    monkeypatch.setattr("sys.argv", [*words, *more])
    assert planning.main() == 0
    found = json.loads(
        (tmp_path / "dmc_reacher_easy-horizon7-warm_start-random_walk5.json").read_text()
    )
    planner = found["planner"]
    assert (planner["horizon"], planner["top"], planner["random_walk"]) == (7, 1, 5)
    assert "horizon 7, warm_start True, random_walk 5" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", [*words, "--candidates", "20", "--top", "7"])
    assert planning.main() == 0
    assert (tmp_path / "dmc_reacher_easy-top7.json").exists()
    for wrong in (["--episodes", "0"], ["--episods", "1"], ["--top", "2000"], ["--top", "0"]):
        monkeypatch.setattr("sys.argv", [*words, *wrong])
        assert planning.main() == 2


@pytest.mark.slow  # Minutes to an hour each; recorded in benchmarks/results/planning.
@pytest.mark.parametrize("task", planning.PUBLISHED)
def test_published_returns_within_five_percent(task):
    """Sparse rewards take a warm start and a small elite; see the README."""
    sparse = PlannerConfig(candidates=100, top=2, random_walk=100, warm_start=True)
    planner = sparse if task in ("dmc_finger_spin", "dmc_cup_catch") else PlannerConfig()
    episodes = 3 if task == "dmc_finger_spin" else 1
    result = planning.plan(Config(task=task, planner=planner), episodes)
    assert result.returns.mean() >= 0.95 * planning.PUBLISHED[task]


def test_eval_from_the_command_line(capsys):
    words = "eval --model simulator --task dmc_reacher_easy --episodes 2 --env.time_limit 8"
    planner = "--planner.candidates 10 --planner.top 3 --planner.iterations 2"
    assert main([*words.split(), *planner.split()]) == 0
    assert "over 2 episodes of 2 agent steps" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, message",
    [
        ("--model simulater", "unknown --model 'simulater'; did you mean 'simulator'?"),
        ("--model simulator --logdir x", "--model simulator needs no run"),
        ("--model simulator --task dmc_hopper_hop", "no batched reward of 'dmc_hopper_hop'"),
        ("--model simulator --task gym_Pendulum-v1", "only tasks of the control suite"),
        ("--model simulator --task dmc_reacher_easy,dmc_cheetah_run", "only tasks of the control"),
        ("--logdir nowhere", "there is no run in nowhere"),
    ],
)
def test_mistakes(words, message, capsys):
    assert main(["eval", *words.split()]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
