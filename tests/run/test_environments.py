"""Runs in environments that hang, that cannot be filmed, or that never end."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest

from common.command import line as cli
from common.config import update
from common.envs import make, make_one, waiting
from common.errors import UserError, warn_once
from common.run import checkpoint, environments, folder
from common.run import train as training
from common.run.environments import open_environments
from common.run.evaluation import play, trained_policy
from common.run.loading import LoadedAgent
from tests import fake_agent
from tests.envs.toys import Single

TOYS = "tests.envs.toys"


def run(logdir, factory, module=TOYS, **options):
    """Trains the tiny agent; underscores in the names stand for dots."""
    program = fake_agent.load_program()
    names = {key.replace("__", "."): value for key, value in options.items()}
    config = update(program.default_config, {"task": f"{module}:{factory}", **names})
    return training.train(program, config, logdir)


def evaluated(logdir, episodes):
    """Lengths of episodes that what was trained plays."""
    agent = LoadedAgent(fake_agent.load_program(), logdir)
    return play(agent.config.task, agent.config.env, episodes, 0, trained_policy(agent, 0)).all


@pytest.mark.parametrize("workers", ["process", "none"])
@pytest.mark.parametrize("evaluating", [False, True])
def test_a_signal_is_heard_while_an_environment_hangs(evaluating, workers, tmp_path, monkeypatch):
    monkeypatch.setattr(waiting, "GRACE", 0.2)
    hangs = tmp_path / "hangs"
    done = threading.Event()

    def send():
        while not hangs.exists() and not done.is_set():
            time.sleep(0.05)
        if not done.is_set():
            os.kill(os.getpid(), signal.SIGTERM)

    sender = threading.Thread(target=send)
    sender.start()
    kwargs = {"fault": "hang", "at": 30, "once": str(hangs)}
    options = {"env__workers": workers, "env__kwargs": kwargs, "run__eval_episodes": 0}
    options |= {"run__random_episodes": int(evaluating)}
    try:
        result = run(tmp_path / "run", "Faulty", **options)
    finally:
        done.set()
        sender.join()
    assert not result.finished and result.frames == (0 if evaluating else 29)
    assert checkpoint.latest(tmp_path / "run" / folder.CHECKPOINTS) == result.frames


@pytest.mark.parametrize("task, films", [("transparent", 2), ("floating", 0), ("broken", 0)])
def test_pictures_of_any_kind_end_no_training(task, films, tmp_path, capsys):
    warn_once.cache_clear()
    assert run(tmp_path, task, run__video=True).finished
    assert len(list((tmp_path / "videos").glob("eval_policy-*.mp4"))) == films
    warnings = [x for x in capsys.readouterr().err.splitlines() if "cannot be filmed" in x]
    assert len(warnings) == (0 if films else 1)


def test_one_environment_a_process_trains_and_is_evaluated(tmp_path, capsys):
    Single.alive = 0
    assert run(tmp_path, "Single").finished
    assert not Single.alive
    assert list(evaluated(tmp_path, 3).lengths) == [12, 12, 12]
    assert "Traceback" not in capsys.readouterr().err


def test_evaluations_and_a_run_that_goes_on_meet_the_body_as_it_is_by_then(tmp_path, monkeypatch):
    seen = []

    def build(task, config, seed, *args, **options):
        seen.append(config.challenge.perturb.episodes)
        return make(task, config, seed, *args, **options)

    monkeypatch.setattr(environments, "make", build)
    body = {"param": "pole_length", "scheduler": "drift_pos"}
    options = {
        "task": "dmc_cartpole_swingup", "env.challenge.perturb": body, "env.time_limit": 10,
        "env.action_repeat": 1, "env.pixels": False, "env.state": True,
    }  # fmt: skip
    program = fake_agent.load_program()
    for frames in (100, 140):
        given = update(program.default_config, {**options, "run.frames": frames})
        assert training.train(program, given, tmp_path).finished
    # Begun, the random policy, at 50 and 100 frames; then begun again, at 140.
    assert seen == [0, 0, 5, 10, 10, 14]
    drifted = make_one(given.task, given.env.after(60), 0)
    drifted.reset()
    early = make_one(given.task, given.env, 0)
    early.reset()
    lengths = [
        env.environment.physics.named.model.geom_size["pole_1", 1] for env in (early, drifted)
    ]
    assert lengths[1] > 1.1 * lengths[0]


def test_an_unknown_time_limit_is_said_before_training(capsys):
    Single.alive = 0
    for limit in (0, 20):
        options = {"task": f"{TOYS}:Single", "env.time_limit": limit}
        config = update(fake_agent.load_program().default_config, options)
        open_environments(config, None, 0, 1).close()
    (line,) = capsys.readouterr().out.splitlines()
    assert "no time limit is known" in line and "set --env.time_limit" in line
    assert "after 27,000 agent steps" in line


def test_an_environment_that_changed_is_not_played_in(tmp_path, monkeypatch):
    code = (
        "import numpy as np\nfrom gymnasium.spaces import Box, Discrete\n"
        "from tests.envs.toys import Fixed\n"
        "def make():\n    env = Fixed(Box(-1, 1, (%d,)))\n    env.action_space = %s\n"
        "    return env\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # It tells no states of a second apart.

    def write(size, actions):
        (tmp_path / "changing_maze.py").write_text(code % (size, actions))
        monkeypatch.delitem(sys.modules, "changing_maze", raising=False)

    write(3, "Discrete(2)")
    run("run", "make", "changing_maze", run__random_episodes=0)
    assert list(evaluated("run", 1).lengths) == [4]
    for size, actions, words in [
        (4, "Discrete(2)", "observation 'vector' was 3 numbers, now 4 numbers"),
        (3, "Discrete(3)", "action was one of 2 choices from 0, now one of 3 choices from 0"),
        (3, "Discrete(2, start=5)", "was one of 2 choices from 0, now one of 2 choices from 5"),
    ]:
        write(size, actions)
        with pytest.raises(UserError, match=f"the agent was trained on other .*{words}$"):
            evaluated("run", 1)


def test_amounts_have_bounds():
    program = fake_agent.load_program()
    for name, most in (("env.amount", 1024), ("run.eval_episodes", 10_000)):
        with pytest.raises(UserError, match=f"{name} is 1000000; expected at most {most}"):
            update(program.default_config, {name: 10**6})


def test_eval_plays_a_bounded_number_of_episodes(tmp_path, capsys):
    (tmp_path / "export.npz").write_text("")
    words = ["eval", "--logdir", str(tmp_path / "export.npz"), "--episodes", "1000000"]
    assert cli.main("fake", fake_agent.load_program, words) == 2
    assert "--episodes must be at most 10000, not 1000000" in capsys.readouterr().err
