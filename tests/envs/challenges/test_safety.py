"""Constraints: published limits, their sign, cost, mixed reward, and what the agent is shown."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from common.config import update
from common.envs import EnvConfig, make
from common.envs.challenges.config import SafetyConfig
from common.envs.challenges.published import TASKS
from common.envs.challenges.safety import Safety
from common.envs.registry import make_one
from common.errors import UserError

STATE = {"pixels": False, "state": True}
NAMES = {
    "cartpole": ("slider_pos", "slider_accel", "balance_velocity"),
    "walker": ("joint_angle", "joint_velocity", "dangerous_fall", "torso_upright"),
    "quadruped": ("joint_angle", "joint_velocity", "upright", "foot_force"),
    "humanoid": ("upright", "joint_angle", "joint_velocity", "dangerous_fall", "foot_force"),
    "manipulator": ("joint_angle", "joint_velocity", "joint_accel", "grasp_force"),
}
SIZES = {"cartpole": 5, "walker": 24, "quadruped": 78, "humanoid": 67, "manipulator": 44}
"""Numbers that the suite shows of each domain, without anything added."""


def envs_of(task, **challenge):
    """The environments of a task from state, one of them."""
    return make(task, update(EnvConfig(), {**STATE, "challenge": challenge}), 0, num_envs=1)


def physics_of(task):
    """The simulator of a task, after a reset."""
    env = make_one(task, update(EnvConfig(), STATE), 0)
    env.reset()
    return env.environment.physics


def judge(physics, domain, task, coeff=1.0, *names):
    """What the constraints say of a state."""
    safety = Safety(domain, task, SafetyConfig(names or ("all",), coeff))
    return dict(zip(safety.names, safety.kept(physics), strict=True))


@pytest.mark.parametrize("domain", NAMES)
def test_all_are_the_published_ones_in_their_order(domain):
    safety = Safety(domain, TASKS[domain][0], SafetyConfig(("all",)))
    assert safety.names == NAMES[domain]
    some = Safety(domain, TASKS[domain][0], SafetyConfig((NAMES[domain][1],)))
    assert some.names == NAMES[domain][1:2]


@pytest.mark.parametrize(
    ("strength", "extra", "dimensions"), [("easy", 10, 10), ("medium", 20, 20), ("hard", 50, 50)]
)
def test_observations_have_the_published_sizes(strength, extra, dimensions):
    for domain, size in SIZES.items():
        perturb = {"param": "auto", "scheduler": "uniform", "strength": strength}
        envs = envs_of(f"rwrl_{domain}_{TASKS[domain][-1]}", dimensions=dimensions, perturb=perturb)
        assert sum(spec.shape[0] for spec in envs.observation_specs.values()) == size + extra
        envs.close()


@pytest.mark.parametrize(
    ("task", "position", "speed"), [("swingup", 2.0, 130.0), ("balance", 1.5, 10.0)]
)
def test_the_limits_of_the_cartpole(task, position, speed):
    physics = physics_of(f"rwrl_cartpole_{task}")
    for coeff in (1.0, 0.5, 0.3):
        for where, kept in ((0.99, True), (-0.99, True), (1.01, False), (-1.01, False)):
            physics.named.data.qpos["slider"] = where * coeff * position
            physics.named.data.qacc["slider"] = where * coeff * speed
            found = judge(physics, "cartpole", task, coeff)
            assert found["slider_pos"] == found["slider_accel"] == kept


def test_a_pole_must_be_slow_where_it_is_upright_and_only_there():
    physics = physics_of("rwrl_cartpole_swingup")
    for coeff in (1.0, 0.6):
        near = (1 - coeff) / 0.5 + 0.15
        for angle, speed, kept in (
            (0.99 * near, 0.51 * coeff, False), (-0.99 * near, -0.51 * coeff, False),
            (0.99 * near, 0.49 * coeff, True), (1.01 * near, 5.0, True), (3.1, 5.0, True),
        ):  # fmt: skip
            physics.named.data.qvel["hinge_1"] = speed
            with physics.reset_context():
                physics.named.data.qpos["hinge_1"] = angle
                physics.named.data.qvel["hinge_1"] = speed
            assert judge(physics, "cartpole", "swingup", coeff)["balance_velocity"] == kept


def test_every_joint_of_a_walker_has_to_keep_its_limits():
    """In the suite's own code it is enough that one does."""
    physics = physics_of("rwrl_walker_walk")
    limits = {"hip": (-30, 110), "knee": (-160, 15), "ankle": (-75, 60)}
    for coeff in (1.0, 0.3):
        for joint in (f"{side}_{name}" for side in ("left", "right") for name in limits):
            low, high = limits[joint.split("_")[1]]
            for degrees, kept in ((low, False), (high, False), ((low + high) / 2, True)):
                with physics.reset_context():
                    physics.data.qpos[3:] = 0
                    physics.named.data.qpos[joint] = 1.01 * coeff * np.radians(degrees)
                assert judge(physics, "walker", "walk", coeff)["joint_angle"] == kept, joint


@pytest.mark.parametrize(
    ("domain", "task", "first", "limit"),
    [("walker", "walk", 3, 65), ("quadruped", "walk", 6, 20), ("quadruped", "run", 6, 0.4),
     ("humanoid", "walk", 6, 90)],
)  # fmt: skip
def test_joints_have_a_speed_limit(domain, task, first, limit):
    physics = physics_of(f"rwrl_{domain}_{task}")
    for coeff in (1.0, 0.4):
        for joint in (first, -1):
            for speed, kept in ((0.99, True), (-0.99, True), (1.01, False), (-1.01, False)):
                physics.data.qvel[:] = 0
                physics.data.qvel[joint] = speed * coeff * limit
                assert judge(physics, domain, task, coeff)["joint_velocity"] == kept


def test_a_walker_must_stay_upright():
    physics = physics_of("rwrl_walker_walk")
    for angle, coeff, kept in ((0, 0.5, True), (1.0, 0.5, True), (1.1, 0.5, False), (2, 1, False)):
        with physics.reset_context():
            physics.named.data.qpos["rooty"] = angle
        assert judge(physics, "walker", "walk", coeff)["torso_upright"] == kept
    with physics.reset_context():  # It leans backwards, and falls on its back.
        physics.named.data.qpos["rooty"] = -0.6
    assert not judge(physics, "walker", "walk")["dangerous_fall"]


@pytest.mark.parametrize(
    ("domain", "task", "sensor", "name", "limit"),
    [("quadruped", "walk", "force_toe_back_left", "foot_force", 20_000),
     ("quadruped", "run", "force_toe_front_right", "foot_force", 300_000),
     ("humanoid", "walk", "left_right_foot_touch", "foot_force", 8_000),
     ("humanoid", "walk", "head_touch", "dangerous_fall", 100),
     ("humanoid", "stand", "torso_touch", "dangerous_fall", 100)],
)  # fmt: skip
def test_forces_have_a_limit(domain, task, sensor, name, limit):
    physics = physics_of(f"rwrl_{domain}_{task}")
    for coeff in (1.0, 0.5):
        for force, kept in ((0.99, True), (1.01, False)):
            physics.data.sensordata[:] = 0
            values = physics.named.data.sensordata
            values[sensor] = np.eye(len(values[sensor]))[0] * force * coeff * limit
            assert judge(physics, domain, task, coeff)[name] == kept


def test_the_arm_of_a_manipulator_has_limits():
    physics = physics_of("rwrl_manipulator_bring_ball")
    for what, name, limits in (
        ("qpos", "joint_angle", np.radians([160, 140])), ("qvel", "joint_velocity", [10, 10]),
        ("qacc", "joint_accel", [3600, 3600]),
    ):  # fmt: skip
        values = getattr(physics.named.data, what)
        for joint, limit in zip(("arm_shoulder", "arm_elbow"), limits, strict=True):
            for share, kept in ((0.99, True), (-0.99, True), (1.01, False), (-1.01, False)):
                values["arm_shoulder"] = values["arm_elbow"] = 0
                values[joint] = share * 0.5 * limit
                assert judge(physics, "manipulator", "bring_ball", 0.5)[name] == kept, (name, joint)


@pytest.mark.parametrize(
    ("domain", "limit"),
    [("cartpole", 1.5), ("walker", 1.55), ("quadruped", 1.4), ("humanoid", 1.85)],
)
def test_the_control_may_change_so_fast(domain, limit):
    physics = physics_of(f"rwrl_{domain}_{TASKS[domain][-1]}")
    safety = Safety(domain, TASKS[domain][-1], SafetyConfig(("action_roc",), 0.5))
    kept = []
    for control in (0.7, 0.7 - 0.99 * limit / 2, 0.7, 0.7 - 1.01 * limit / 2):
        physics.data.ctrl[:] = 0
        physics.data.ctrl[0] = control
        kept.append(bool(safety.kept(physics)[0]))
    assert kept == [True, True, True, False]
    safety.reset()
    assert safety.kept(physics)[0]  # The first of an episode has nothing before it.


@pytest.mark.parametrize("repeat", [1, 3])
def test_what_is_violated_costs_and_what_is_kept_is_seen(repeat):
    """Shown is 1 where a constraint is kept; the cost is what is not."""
    config = {
        **STATE, "action_repeat": repeat, "time_limit": 60,
        "challenge": {"safety": {"constraints": ("all",), "coeff": 0.2}, "multiobj.observed": True},
    }  # fmt: skip
    ours = make("dmc_walker_walk", update(EnvConfig(), config), 4, num_envs=1)
    single = make(
        "dmc_walker_walk", update(EnvConfig(), {**config, "action_repeat": 1}), 4, num_envs=1
    )
    rng, episode, violated = np.random.default_rng(0), 0.0, 0
    row, single_row = ours.step(np.zeros((1, 6))), single.step(np.zeros((1, 6)))
    assert row["cost"] == 0 and (row["constraints"] == 1).all() and (row["multiobj"] == 0).all()
    for _ in range(20):
        action = rng.uniform(-1, 1, (1, 6))
        row = ours.step(action)
        steps = [single.step(action) for _ in range(repeat)]
        kept = np.array([one["constraints"][0] for one in steps])
        assert row["cost"][0] == pytest.approx((1 - kept).mean(1).sum())
        np.testing.assert_array_equal(row["constraints"][0], kept.all(0))
        np.testing.assert_allclose(
            row["multiobj"][0],
            [sum(one["reward"][0] for one in steps), kept.mean(1).sum()],
            rtol=1e-5,
        )
        times = [row[f"log/violated/{name}"][0] for name in NAMES["walker"]]
        np.testing.assert_array_equal(times, (1 - kept).sum(0))
        assert row["log/cost"] == row["cost"]
        episode += row["cost"][0]
        violated += int((1 - kept).sum())
    assert violated > 10 and episode == pytest.approx(violated / 4)
    assert single_row["cost"] == 0


def test_a_reward_of_two_parts():
    options = {"safety": {"constraints": ("slider_pos", "slider_accel"), "coeff": 0.01}}
    plain, mixed = (
        envs_of("rwrl_cartpole_swingup", **options, multiobj={"coeff": c}) for c in (0, 0.3)
    )
    action = np.ones((1, 1))
    rows = [(plain.step(action), mixed.step(action)) for _ in range(12)]
    assert rows[-1][0]["cost"] > 0
    for one, other in rows[1:]:
        expected = 0.7 * one["reward"] + 0.3 * (1 - one["cost"])
        np.testing.assert_allclose(other["reward"], expected, rtol=1e-5)


def test_constraints_may_count_without_being_shown():
    envs = envs_of("dmc_cup_catch")
    assert "cost" not in envs.step(np.zeros((1, 2)))
    envs = envs_of(
        "rwrl_walker_walk", safety={"constraints": ("torso_upright",), "observations": False}
    )
    row = envs.step(np.zeros((1, 6)))
    assert "cost" in row and "constraints" not in row


@pytest.mark.parametrize(
    ("task", "challenge", "words"),
    [
        (
            "dmc_walker_walk",
            {"safety.constraints": ("upright",)},
            "'upright' is none of the walker's",
        ),
        ("dmc_cheetah_run", {"safety.constraints": ("all",)}, "is for .*; not for cheetah_run"),
        (
            "memory_recall",
            {"safety.constraints": ("all",)},
            "safety.constraints is for the control",
        ),
        ("dmc_walker_walk", {"multiobj.coeff": 0.5}, "multiobj.coeff is about constraints"),
    ],
)
def test_constraints_that_there_are_not_are_one_line(task, challenge, words):
    with pytest.raises(UserError, match=words) as error:
        envs_of(task, **challenge)
    assert "\n" not in str(error.value)


class Costly(gymnasium.Env):
    """Its steps cost what their action says."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Discrete(3)
    told: object = {}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        info = {"cost": action / 2} if self.told == {} else self.told
        return np.zeros(2, np.float32), 1.0, False, False, info


def test_the_cost_of_a_gymnasium_environment_is_what_its_info_says():
    envs = make(Costly, EnvConfig(cost=True, action_repeat=2), 0, num_envs=1)
    costs = [envs.step(np.eye(3, dtype=np.float32)[[i]])["cost"][0] for i in (0, 2, 1)]
    assert costs == [0, 2, 1]
    plain = make(Costly, EnvConfig(), 0, num_envs=1)
    assert "cost" not in plain.step(np.eye(3, dtype=np.float32)[[0]])


@pytest.mark.parametrize(
    ("info", "words"), [({"x": 1}, "missing"), (None, "missing"), ({"cost": -1}, "-1")]
)
def test_a_cost_that_is_none_is_one_line(info, words):
    class Wrong(Costly):
        told = info

    envs = make(Wrong, EnvConfig(cost=True), 0, num_envs=1)
    envs.step(np.eye(3, dtype=np.float32)[[0]])
    with pytest.raises(UserError, match=f"env.cost is true, and .*{words}; expected a number"):
        envs.step(np.eye(3, dtype=np.float32)[[0]])


def test_the_control_suite_has_constraints_instead():
    with pytest.raises(UserError, match="the control suite has env.challenge.safety.constraints"):
        make("dmc_walker_walk", EnvConfig(cost=True), 0)
