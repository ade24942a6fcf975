import numpy as np
import pytest

from common.envs import EnvConfig, check_env, make
from common.errors import UserError
from tests.envs.toys import Counter, Faulty


def test_report_names_observations_actions_and_episodes():
    report = check_env("gym_CartPole-v1", EnvConfig(kwargs={"max_episode_steps": 5}), steps=60)
    assert "vector: float32 (4,)" in report and "MLP" in report
    assert "action: one of 2 choices" in report
    assert "10 ended, 0 of them terminal, 10 by a time limit" in report
    assert "length 5 to 5, mean 5.0" in report and "return 5 to 5" in report
    assert report.endswith("no problems found")


def test_report_of_many_spaces():
    report = check_env(Counter, EnvConfig(workers="none"), steps=50)
    assert "image: uint8 (32, 40, 1), seen 0 to 6; encoded and decoded by convolutions" in report
    assert "inner/bits: float32 (2,)" in report
    assert "keys/1: one of 3 choices" in report
    assert "move: 2 numbers, scaled from -2 .. 2" in report
    assert "video frames  (16, 16, 3)" in report and "logged        log/count" in report
    assert "problem: observation 'multi' never changes" in report
    assert "same seed" not in report


def test_problems_of_scale_and_reward_are_seen():
    def build():
        env = Faulty()
        observe, step = env.observe, env.step
        env.observe = lambda: observe() * 1000
        env.step = lambda action: (step(action)[0], 0.0, False, False, {})
        return env

    report = check_env(build, steps=20)
    assert "problem: observation 'vector' reaches 1.9e+04; scale it" in report
    assert "problem: every reward was 0 in 20 random steps" in report
    assert "none ended within 20 agent steps" in report


def test_environments_that_ignore_their_seed_are_seen():
    def build():
        env = Faulty()
        env.reset = lambda **_: (np.random.default_rng().random(2, np.float32), {})
        env.count = env.number = 0
        return env

    assert "two copies with the same seed differ" in check_env(build, steps=5)


def test_existing_environments_stay_open():
    envs = make("atari_pong", EnvConfig(), 0)
    assert "image: uint8 (64, 64, 1)" in check_env(envs, steps=5)
    envs.step(np.eye(18)[:1])
    envs.close()


def test_broken_environments_raise():
    with pytest.raises(UserError, match="holds nan"):
        check_env(lambda: Faulty("nan"))
