import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from common.config import update
from common.envs import EnvConfig, check_env, make
from common.errors import UserError
from tests.envs.toys import Counter, Faulty, Fixed, Pictures, Single


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
    assert "problem: no episode ended within 20 agent steps" in report
    assert "set --env.time_limit" in report


def test_environments_that_ignore_their_seed_are_seen():
    def build():
        env = Faulty()
        env.reset = lambda **_: (np.random.default_rng().random(2, np.float32), {})
        env.count = env.number = 0
        return env

    assert "two copies with the same seed differ" in check_env(build, steps=5)


def test_a_known_time_limit_is_no_problem():
    report = check_env(Faulty, EnvConfig(time_limit=300), steps=20)
    assert "none ended within 20 agent steps" in report and "time_limit" not in report


def test_one_copy_at_a_time_is_enough():
    Single.alive = 0
    assert check_env(Single, steps=30).endswith("no problems found")
    assert not Single.alive


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (np.zeros((8, 8, 4), np.uint8), ""),
        (np.zeros((8, 8, 3)), "its picture is float64 (8, 8, 3); expected uint8"),
        (ValueError("no display"), "render() raised ValueError: no display"),
    ],
)
def test_pictures_that_cannot_be_filmed_are_a_problem(picture, words):
    report = check_env(lambda: Pictures(picture), steps=10)
    assert ("problem: the environment cannot be filmed" in report) == bool(words)
    assert words in report and ("video frames  (8, 8, 3)" in report) != bool(words)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (Box(0, 1, (64, 64, 3)), "'x' looks like an image but is float32"),
        (Box(0, 1, (3, 64, 64)), "with its channels first, but is float32"),
        (Box(0, 255, (4, 64, 64, 3), np.uint8), "'x' looks like a stack of images"),
        (Box(0, 255, (40, 84, 84), np.uint8), "'x' is taken as an image of 84 channels"),
    ],
)
def test_what_seems_to_be_an_image_is_named_with_the_conversion(space, words):
    report = check_env(lambda: Fixed(Dict({"x": space})), steps=5)
    assert f"problem: observation {words}" in report or words in report
    assert "for an image return uint8 (" in report or "--env.channels first" in report


def test_what_every_entry_is_taken_as():
    space = Dict({"a": Box(0, 255, (64, 64), np.uint8), "b": Discrete(3), "c": Box(0, 1, (2,))})
    report = check_env(lambda: Fixed(space), steps=5)
    assert "by convolutions, as an image" in report
    assert "by MLP, as one-hot of 1 choice(s)" in report and "by MLP, as a vector" in report
    assert "image but" not in report


def test_existing_environments_stay_open():
    envs = make("atari_pong", EnvConfig(), 0)
    assert "image: uint8 (64, 64, 1)" in check_env(envs, steps=5)
    envs.step(np.eye(18)[:1])
    envs.close()


def test_broken_environments_raise():
    with pytest.raises(UserError, match="holds nan"):
        check_env(lambda: Faulty("nan"))


def test_a_challenge_that_changes_nothing_is_a_problem():
    config = update(EnvConfig(), {"challenge.safety.coeff": 0.5})
    found = check_env("gym_CartPole-v1", config, steps=5)
    assert "problem: env.challenge.safety has no constraint on" in found
