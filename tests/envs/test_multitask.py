import dataclasses

import numpy as np
import pytest

from common.envs import EnvConfig, make, make_one
from common.envs.fit import check_fits
from common.envs.multitask import MultiTask
from common.errors import UserError
from common.run.driver import Driver
from common.spaces import ObservationSpec

STATE = EnvConfig(pixels=False, state=True, action_repeat=-1)
TASKS = "dmc_cartpole_swingup,dmc_walker_walk,dmc_finger_spin"
RESERVED = {"reward", "is_first", "is_last", "is_terminal"}


def test_specs_fit_every_task():
    env = make_one(TASKS, STATE, 0)
    sizes = {key: spec.shape for key, spec in env.observation_specs.items()}
    assert sizes == {
        "height": (1,), "orientations": (14,), "position": (4,), "touch": (2,), "velocity": (9,),
    }  # fmt: skip
    assert env.action_spec.size == 6 and env.action_repeat == 8


def test_every_episode_is_a_padded_one_of_a_random_task():
    env = make_one(TASKS, dataclasses.replace(STATE, time_limit=16), 0)
    alone = {}
    for index, name in enumerate(TASKS.split(",")):
        from common.envs.base import env_seed

        alone[name] = make_one(name, dataclasses.replace(STATE, time_limit=16), env_seed(0, index))
    seen = []
    rng = np.random.default_rng(0)
    for _ in range(12):
        rows = [env.reset()]
        actions = [np.zeros(6)]
        while not rows[-1]["is_last"]:
            actions.append(rng.uniform(-1, 1, 6))
            rows.append(env.step(actions[-1]))
        (key,) = (key for key in rows[-1] if key.startswith("log/return/"))
        name = key.removeprefix("log/return/")
        seen.append(name)
        single = alone[name]
        size = single.action_spec.size
        assert len(rows) == 1 + 16 // single.action_repeat
        for index, row in enumerate(rows):
            want = single.step(actions[index][:size]) if index else single.reset()
            for entry in RESERVED:
                assert row[entry] == want[entry], entry
            for entry, spec in env.observation_specs.items():
                value = want.get(entry, np.zeros(0))
                np.testing.assert_array_equal(row[entry][: len(value)], value)
                assert not row[entry][len(value) :].any() and row[entry].shape == spec.shape
            if index:
                assert (
                    row["log/simulator_steps"] == single.action_repeat
                    and row[key] == want["reward"]
                )
    assert set(seen) == set(TASKS.split(",")) and seen != sorted(seen)


def test_only_plays_one_task_padded_as_with_all():
    envs = make(TASKS, dataclasses.replace(STATE, time_limit=4), 0, 1, only="dmc_finger_spin")
    driver = Driver(envs)
    for _ in range(12):
        driver.act(lambda rows: np.zeros((1, 6), np.float32))
        rows = driver.receive()
        assert rows["height"].shape == (1, 1)
        for episode in driver.episodes:
            assert episode.extras == {"log/simulator_steps": 4, "log/return/dmc_finger_spin": 0}


def test_rows_say_which_task_is_played_where_they_are_asked_to():
    names = TASKS.split(",")
    config = dataclasses.replace(STATE, time_limit=16, task_one_hot=True)
    env, untold = make_one(TASKS, config, 0), make_one(TASKS, STATE, 0)
    spec = env.observation_specs["task"]
    assert spec.tasks == ((names[0], 1, 2), (names[1], 6, 8), (names[2], 2, 8))
    assert spec.shape == spec.choices == (3,)
    assert list(env.observation_specs) == sorted(env.observation_specs)
    assert env.observation_specs.keys() - untold.observation_specs.keys() == {"task"}
    for number, name in enumerate(names):
        one = make_one(TASKS, config, 0, only=name)
        assert one.observation_specs == env.observation_specs
        for row in (one.reset(), one.step(np.zeros(6, np.float32))):
            np.testing.assert_array_equal(row["task"], np.eye(3)[number])
            assert row["task"].dtype == np.float32
    alone = make_one("dmc_finger_spin", config, 0)
    assert "task" not in alone.observation_specs


def test_a_told_agent_fits_the_same_tasks_only():
    config = dataclasses.replace(STATE, task_one_hot=True, workers="none")
    one, other = "dmc_reacher_easy,dmc_reacher_hard", "dmc_reacher_hard,dmc_reacher_easy"
    specs, longer = make_one(one, config, 0), dataclasses.replace(config, time_limit=2000)
    check_fits(specs.observation_specs, specs.action_spec, make(one, longer, 0), "it")
    words = f"'task' was one of the tasks {one}, now one of the tasks {other}"
    with pytest.raises(UserError, match=words):
        check_fits(specs.observation_specs, specs.action_spec, make(other, config, 0), "it")


def test_an_observation_of_that_name_is_refused():
    class Named:
        observation_specs = {"task": ObservationSpec((1,), "vector")}
        action_spec = make_one("dmc_cartpole_balance", STATE, 0).action_spec
        action_repeat = max_steps = 1

    envs = {"a": Named(), "b": Named()}
    assert MultiTask(envs, 0).observation_specs == Named.observation_specs
    with pytest.raises(UserError, match="an observation is called 'task'.*task_one_hot false"):
        MultiTask(envs, 0, one_hot=True)


def test_returns_of_tasks_side_by_side_stay_apart():
    config = dataclasses.replace(STATE, time_limit=16, workers="none")
    driver = Driver(make(TASKS, config, 3, 4))
    found = {}
    for _ in range(60):
        driver.act(lambda rows: np.ones((4, 6), np.float32))
        driver.receive()
        for episode in driver.episodes:
            (key,) = (key for key in episode.extras if key.startswith("log/return/"))
            assert episode.extras["log/simulator_steps"] == 16
            assert episode.extras[key] == pytest.approx(episode.episode_return)
            found[key] = found.get(key, 0) + 1
    assert len(found) == 3


def test_images_of_several_tasks():
    env = make_one("dmc_cartpole_balance,dmc_reacher_easy", EnvConfig(), 0)
    for _ in range(4):
        assert env.reset()["image"].std() > 1
        assert env.render().shape == (64, 64, 3)
    env.close()


@pytest.mark.parametrize(
    "task, message",
    [
        ("dmc_cartpole_swingup,gym_CartPole-v1", "'gym_CartPole-v1' are not continuous"),
        ("dmc_cartpole_swingup,atari_pong", "'atari_pong' cannot be one of several"),
        ("dmc_cartpole_swingup,dmc_cartpole_swigup", "did you mean 'dmc_cartpole_swingup'"),
        ("dmc_cartpole_swingup,", "names nothing beside a comma"),
    ],
)
def test_tasks_that_do_not_go_together(task, message):
    with pytest.raises(UserError, match=message):
        make(task, STATE, 0, 1)


def test_observations_that_do_not_agree():
    class Shown:
        def __init__(self, specs):
            self.observation_specs = specs
            self.action_spec = make_one("dmc_cartpole_balance", STATE, 0).action_spec
            self.action_repeat = 1

    image = make_one("dmc_cartpole_balance", EnvConfig(), 0).observation_specs["image"]
    small = dataclasses.replace(image, shape=(32, 32, 3))
    with pytest.raises(UserError, match=r"'image' is image \(32, 32, 3\) in one task"):
        MultiTask({"a": Shown({"image": image}), "b": Shown({"image": small})}, 0)
    with pytest.raises(UserError, match="'b' has no image 'image'"):
        MultiTask({"a": Shown({"image": image}), "b": Shown({})}, 0)
