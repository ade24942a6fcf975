import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest

from common.envs import EnvConfig, make, make_one
from common.envs.dmc import load, task_names
from common.errors import UserError

STATE = EnvConfig(pixels=False, state=True)
# The 20 tasks of the Dreamer papers.
TASKS = """acrobot_swingup cartpole_balance cartpole_balance_sparse cartpole_swingup
cartpole_swingup_sparse cheetah_run cup_catch finger_spin finger_turn_easy finger_turn_hard
hopper_hop hopper_stand pendulum_swingup quadruped_run quadruped_walk reacher_easy reacher_hard
walker_run walker_stand walker_walk""".split()


@pytest.mark.parametrize("task", TASKS)
def test_every_benchmark_task_loads_and_steps(task):
    env = make_one(f"dmc_{task}", STATE, 0)
    row = env.reset()
    for key, spec in env.observation_specs.items():
        assert (row[key].shape, row[key].dtype) == (spec.shape, np.float32), key
    after = env.step(np.zeros(env.action_spec.size, np.float32))
    assert not after["is_last"] and env.action_repeat == 2


@pytest.mark.parametrize(
    "task, repeat",
    [("cartpole_swingup", 8), ("reacher_easy", 4), ("cheetah_run", 4), ("cup_catch", 4)]
    + [("finger_spin", 2), ("walker_walk", 2), ("hopper_hop", 2)],
)
def test_action_repeats_of_planet(task, repeat):
    env = make_one(f"dmc_{task}", dataclasses.replace(STATE, action_repeat=-1), 0)
    assert env.action_repeat == repeat


def test_the_whole_suite_is_named():
    names = task_names()
    from dm_control import suite  # Not earlier: task_names chooses the renderer first.

    assert set(suite.ALL_TASKS) == set(names.values())
    assert names["cup_catch"] == names["ball_in_cup_catch"] == ("ball_in_cup", "catch")


def test_rewards_and_states_equal_dm_control_stepped_by_hand():
    env = make_one("dmc_walker_walk", EnvConfig(pixels=False, state=True, action_repeat=3), 11)
    _, raw = load("walker_walk", 11)
    row, step = env.reset(), raw.reset()
    rng = np.random.default_rng(0)
    for _ in range(30):
        for key, value in step.observation.items():
            np.testing.assert_array_equal(row[key], value.astype(np.float32))
        action = rng.uniform(-1, 1, 6).astype(np.float32)
        row, reward = env.step(action), 0.0
        for _ in range(3):
            step = raw.step(action.astype(np.float64))
            reward += step.reward
        assert row["reward"] == pytest.approx(reward, rel=1e-12) and reward > 0


def test_actions_are_scaled_to_the_bounds_and_clipped():
    env = make_one("dmc_cartpole_swingup", STATE, 0)
    env._middle, env._half = np.array([1.0]), np.array([3.0])  # As of bounds -2 and 4.
    seen = []
    env.environment.task.before_step = lambda action, physics: seen.append(float(action[0]))
    env.reset()
    for value in (-1, 0, 0.5, 1, 7):
        env.step(np.array([value], np.float32))
    assert seen[::2] == seen[1::2] == [-2, 1, 2.5, 4, 4]


def test_bounds_other_than_one_become_middle_and_half(monkeypatch):
    _, raw = load("cartpole_swingup", 0)
    spec = raw.action_spec()
    wide = spec.replace(minimum=[-2.0], maximum=[4.0])
    monkeypatch.setattr("dm_control.rl.control.Environment.action_spec", lambda self: wide)
    env = make_one("dmc_cartpole_swingup", STATE, 0)
    assert (env._middle.tolist(), env._half.tolist()) == ([1.0], [3.0])
    assert (env.action_space.low.tolist(), env.action_space.high.tolist()) == ([-2.0], [4.0])


def test_the_suites_own_limit_ends_after_1000_frames_without_terminal():
    env = make_one("dmc_cartpole_balance", STATE, 0)
    env.reset()
    rows = [env.step(np.zeros(1, np.float32)) for _ in range(500)]
    assert [row["is_last"] for row in rows] == [False] * 499 + [True]
    assert not rows[-1]["is_terminal"]


@pytest.mark.parametrize("limit, repeat", [(0, 400), (5, 2)])
def test_the_last_frame_of_an_episode_is_paid_too(limit, repeat):
    """By the suite's own end, and by a limit; an agent step may be cut short by both."""
    config = dataclasses.replace(STATE, action_repeat=repeat, time_limit=limit)
    env, (_, raw) = make_one("dmc_cartpole_balance", config, 3), load("cartpole_balance", 3)
    env.reset()
    raw.reset()
    action, left, row = np.array([0.01], np.float32), limit or 1000, {"is_last": False}
    while not row["is_last"]:
        row = env.step(action)
        rewards = [raw.step(action.astype(np.float64)).reward for _ in range(min(repeat, left))]
        left -= len(rewards)
        assert row["reward"] == pytest.approx(sum(rewards)) and rewards[-1] > 0
    assert left == 0


def test_a_time_limit_in_frames_cuts_without_terminal():
    config = EnvConfig(pixels=False, state=True, time_limit=5)
    envs = make("dmc_cartpole_balance", config, 0)
    rows = [envs.step(np.zeros((1, 1))) for _ in range(6)]
    assert [bool(row["is_first"][0]) for row in rows] == [True, False, False, False, True, False]
    assert [bool(row["is_last"][0]) for row in rows] == [False, False, False, True, False, False]
    assert not any(row["is_terminal"].any() for row in rows)


def test_discount_zero_is_terminal():
    env = make_one("dmc_cartpole_balance", STATE, 0)
    env.reset()
    env.environment.task.get_termination = lambda physics: 0.0
    row = env.step(np.zeros(1, np.float32))
    assert row["is_last"] and row["is_terminal"]


def _states(seed):
    envs = make("dmc_walker_walk", EnvConfig(pixels=False, state=True, workers="none"), seed, 2)
    rows = [envs.step(np.zeros((2, 6))) for _ in range(3)]
    envs.close()
    return np.stack([row["orientations"] for row in rows])


def test_a_seed_repeats_and_copies_differ():
    states = _states(7)
    np.testing.assert_array_equal(states, _states(7))
    assert (states != _states(8)).any() and (states[:, 0] != states[:, 1]).any()


def test_scalars_become_vectors_of_one():
    env = make_one("dmc_walker_walk", STATE, 0)
    assert env.reset()["height"].shape == (1,)


def test_pixels_show_what_dm_control_draws():
    """Also after the repeat, from the paper's camera, and with the state beside them."""
    env = make_one("dmc_quadruped_walk", EnvConfig(state=True), 0)
    env.reset()
    row = env.step(np.zeros(12, np.float32))
    expected = env.environment.physics.render(64, 64, camera_id=2)
    assert row["image"].dtype == np.uint8 and row["image"].std() > 10
    np.testing.assert_array_equal(row["image"], expected)
    np.testing.assert_array_equal(env.render(), expected)
    assert "torso_velocity" in row
    env.close()


def test_fast_pictures_leave_the_shadows_out():
    full = make_one("dmc_walker_walk", EnvConfig(image_size=48), 0)
    fast = make_one("dmc_walker_walk", EnvConfig(image_size=48, render="fast"), 0)
    one, other = full.reset()["image"].astype(int), fast.reset()["image"].astype(int)
    assert one.shape == other.shape == (48, 48, 3)
    assert 1 < np.abs(one - other).mean() < 20
    full.close()
    fast.close()


def test_cameras_can_be_chosen():
    side = make_one("dmc_walker_walk", EnvConfig(render="fast"), 0).reset()["image"]
    other = make_one("dmc_walker_walk", EnvConfig(render="fast", camera=1), 0).reset()["image"]
    assert (side != other).any()
    with pytest.raises(UserError, match="camera 2 does not exist; choose from 0 to 1"):
        make_one("dmc_walker_walk", EnvConfig(camera=2), 0)


def test_state_tasks_open_a_renderer_only_for_videos():
    env = make_one("dmc_cartpole_swingup", EnvConfig(pixels=False, state=True, render="fast"), 0)
    env.reset()
    assert env._camera is None
    assert env.render().shape == (64, 64, 3)
    env.close()


@pytest.mark.parametrize(
    ("task", "config", "message"),
    [
        ("dmc_walker_wlk", STATE, "unknown task 'dmc_walker_wlk'; did you mean 'dmc_walker_walk'"),
        ("dmc_walker_walk", EnvConfig(pixels=False), "both off"),
        ("dmc_walker_walk", EnvConfig(kwargs={"a": 1}), "env.kwargs"),
    ],
)
def test_mistakes(task, config, message):
    with pytest.raises(UserError, match=message):
        make(task, config, 0)


def _script(code: str, **variables: str) -> subprocess.CompletedProcess:
    names = ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY", "PYOPENGL_PLATFORM")
    clean = {key: value for key, value in os.environ.items() if key not in names}
    return subprocess.run(
        [sys.executable, "-c", code], env=clean | variables, capture_output=True, text=True
    )


PIXELS_AND_STATE = """
import numpy as np
from common.envs import EnvConfig, make
from common.errors import UserError
envs = make("dmc_cartpole_swingup", EnvConfig(pixels=False, state=True), 0)
envs.step(np.zeros((1, 1)))
print("state", envs.render() is not None)
try:
    make("dmc_cartpole_swingup", EnvConfig(), 0)
    print("pixels")
except UserError as error:
    print("error:", error)
"""


def test_without_a_renderer_state_works_and_pixels_name_the_remedy():
    result = _script(PIXELS_AND_STATE, MUJOCO_GL="disable")
    state, pixels = result.stdout.splitlines()
    assert state == "state False" and result.returncode == 0
    assert pixels.startswith("error: there is no OpenGL renderer") and "apt install" in pixels


def test_a_backend_that_cannot_start_is_named():
    result = _script(PIXELS_AND_STATE, MUJOCO_GL="glfw", DISPLAY=":97")
    state, pixels = result.stdout.splitlines()
    assert state == "state False" and "MUJOCO_GL=egl" in pixels


def test_nothing_is_printed_when_a_program_ends_without_closing():
    result = _script(PIXELS_AND_STATE)
    assert result.stdout.splitlines() == ["state True", "pixels"]
    assert result.stderr == ""
