"""Bodies that change: schedules against slow loops, published ranges, and what MuJoCo compiles."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from common.config import update
from common.envs import EnvConfig, make
from common.envs.challenges.config import PerturbConfig
from common.envs.challenges.perturb import EDITS, Perturbation
from common.envs.challenges.published import QUANTITIES, TASKS
from common.envs.registry import make_one
from common.errors import UserError

STATE = {"pixels": False, "state": True}

RANGES = {
    ("cartpole", "pole_length"): (1, 0.3, 3, 0.3), ("cartpole", "pole_mass"): (0.1, 0.1, 10, 0.5),
    ("cartpole", "joint_damping"): (2e-6, 2e-6, 0.2, 0.02),
    ("cartpole", "slider_damping"): (5e-4, 5e-4, 3, 0.3),
    ("walker", "thigh_length"): (0.225, 0.1, 0.7, 0.05),
    ("walker", "torso_length"): (0.3, 0.1, 0.7, 0.05),
    ("walker", "joint_damping"): (0.1, 0.1, 10, 0.5),
    ("walker", "contact_friction"): (0.7, 0.01, 2, 0.05),
    ("quadruped", "shin_length"): (0.25, 0.25, 2, 0.1),
    ("quadruped", "torso_density"): (1000, 500, 10000, 500),
    ("quadruped", "joint_damping"): (30, 10, 150, 10),
    ("quadruped", "contact_friction"): (1.5, 0.1, 4.5, 0.5),
    ("humanoid", "contact_friction"): (0.7, 0.05, 1.2, 0.1),
    ("humanoid", "joint_damping"): (0.2, 0.01, 2.5, 0.2),
    ("humanoid", "head_size"): (0.09, 0.01, 0.19, 0.02),
    ("manipulator", "lower_arm_length"): (0.12, 0.1, 0.25, 0.01),
    ("manipulator", "root_damping"): (2, 0.1, 10, 0.1),
    ("manipulator", "shoulder_damping"): (1.5, 0.1, 10, 0.1),
}  # fmt: skip
"""Start, least, largest and step of the suite's tables, written down by hand."""
COMBINED = {
    "cartpole": ((0.9, 1.1), (0.7, 1.7), (0.5, 2.3)),
    "walker": ((0.225, 0.25), (0.225, 0.40), (0.225, 0.55)),
    "quadruped": ((0.25, 0.30), (0.25, 0.80), (0.25, 1.40)),
    "humanoid": ((0.6, 0.8), (0.5, 0.9), (0.4, 1.0)),
}


def course(amount, domain="cartpole", task="swingup", seed=3, **options):
    """The values of the first episodes."""
    perturbation = Perturbation(domain, task, PerturbConfig(**options), seed)
    values = []
    for _ in range(amount):
        perturbation.next(suite())
        values.append(perturbation.value)
    return values


def suite():
    from common.envs.dmc import _suite

    return _suite()


def test_the_ranges_are_the_published_ones():
    found = {
        (d, name): tuple(c) for d, courses in QUANTITIES.items() for name, c in courses.items()
    }
    assert found == RANGES
    assert EDITS.keys() == RANGES.keys()


@pytest.mark.parametrize("domain", COMBINED)
def test_combined_challenges_vary_one_quantity_within_the_published_range(domain):
    for strength, (low, high) in zip(("easy", "medium", "hard"), COMBINED[domain], strict=True):
        values = course(
            40, domain, TASKS[domain][0], param="auto", scheduler="uniform", strength=strength
        )
        assert low <= min(values) < low + 0.2 * (high - low)
        assert high >= max(values) > high - 0.2 * (high - low)


def slow_course(scheduler, start, low, high, std, amount, seed):
    """The schedule, by its words."""
    rng, value, values, up = np.random.default_rng([seed, 1]), start, [], True
    for _ in range(amount):
        step = rng.normal() * std
        match scheduler:
            case "random_walk":
                value = value + step
            case "drift_pos":
                value = value + abs(step)
            case "drift_neg":
                value = value - abs(step)
            case "cyclic_pos":
                value = start if value + abs(step) >= high else value + abs(step)
            case "cyclic_neg":
                value = start if value - abs(step) <= low else value - abs(step)
            case "uniform":
                value = low + (high - low) * rng.random()
            case "saw_wave":
                value = value + abs(step) if up else value - abs(step)
                if value >= high:
                    up = False
                if value <= low:
                    up = True
        value = max(low, min(high, value))
        values.append(value)
    return values


@pytest.mark.parametrize(
    "scheduler",
    ["constant", "random_walk", "drift_pos", "drift_neg", "cyclic_pos", "cyclic_neg", "uniform",
     "saw_wave"],
)  # fmt: skip
def test_a_schedule_is_what_its_words_say(scheduler):
    limits = dict(start=1.0, min=0.6, max=1.5, std=0.2)
    found = course(60, param="pole_length", scheduler=scheduler, **limits)
    expected = slow_course(scheduler, 1.0, 0.6, 1.5, 0.2, 60, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_saw_wave_goes_to_and_fro_between_its_limits():
    """In the suite's own code it is the step itself, and stays at the lower limit."""
    values = course(200, param="pole_length", scheduler="saw_wave", std=0.3)
    assert min(values) == 0.3 and max(values) == 3
    moves = np.diff(values)
    turns = sum(a * b < 0 for a, b in itertools.pairwise(moves[moves != 0]))
    assert 3 <= turns <= 40  # From limit to limit it takes eleven steps, on average.


def test_a_body_stays_for_its_period():
    values = course(9, param="pole_length", scheduler="random_walk", period=3)
    assert values[0] == values[1] == values[2] != values[3] == values[5] != values[6]


@pytest.mark.parametrize("scheduler", ["random_walk", "drift_pos", "cyclic_neg", "saw_wave"])
def test_a_course_is_taken_up_where_it_was(scheduler):
    options = dict(param="pole_length", scheduler=scheduler, period=3)
    whole = course(20, **options)
    assert course(9, **options, episodes=11) == whole[11:]


def test_the_first_body_is_always_given_and_later_ones_where_they_differ():
    config = PerturbConfig(param="pole_length", scheduler="drift_pos", period=3, episodes=1)
    perturbation = Perturbation("cartpole", "swingup", config, 0)
    given = [perturbation.next(suite()) is not None for _ in range(6)]
    assert given == [True, False, True, False, False, True]


def play(task, amount, **perturb):
    """Plays short episodes; returns the environment and its rows."""
    config = update(EnvConfig(), {**STATE, "time_limit": 2, "challenge": {"perturb": perturb}})
    env, rows = make_one(task, config, 0), []
    for _ in range(amount):
        over = not rows or rows[-1]["is_last"]
        rows.append(env.reset() if over else env.step(np.zeros(env.action_spec.size)))
    return env, rows


SEEN = {
    "pole_length": lambda model: 2 * model.geom("pole_1").size[1],
    "pole_mass": lambda model: model.body("pole_1").mass[0],
    "joint_damping": lambda model: model.dof_damping[-1],
    "slider_damping": lambda model: model.joint("slider").damping[0],
    "thigh_length": lambda model: model.geom("left_thigh").size[1],
    "torso_length": lambda model: model.geom("torso").size[1],
    "contact_friction": lambda model: model.geom("floor").friction[0],
    "shin_length": lambda model: model.geom("shin_front_left").size[1] * 2**0.5,
    "torso_density": lambda model: model.body("torso").mass[0] / (4 / 3 * np.pi * 0.3 * 0.27 * 0.2),
    "head_size": lambda model: model.geom("head").size[0],
    "lower_arm_length": lambda model: 2 * model.geom("lower_arm").size[1],
    "root_damping": lambda model: model.joint("arm_root").damping[0],
    "shoulder_damping": lambda model: model.joint("arm_shoulder").damping[0],
}


@pytest.mark.parametrize(("domain", "param"), RANGES, ids=lambda name: name)
def test_the_compiled_body_has_the_value_that_the_log_names(domain, param):
    env, rows = play(f"rwrl_{domain}_{TASKS[domain][-1]}", 4, param=param, scheduler="uniform")
    assert [row["is_first"] for row in rows] == [True, False, False, True]
    first, second = (rows[t][f"log/{param}"] for t in (0, 3))
    assert first != second
    model = env.environment.physics.model.ptr
    assert SEEN[param](model) == pytest.approx(second, rel=2e-2 if "density" in param else 1e-6)


def test_both_thighs_of_a_longer_torso_hang_on_their_own_side():
    env, _ = play("rwrl_walker_walk", 1, param="torso_length", scheduler="uniform")
    model = env.environment.physics.model.ptr
    assert model.body("left_thigh").pos[1] == 0.05 == -model.body("right_thigh").pos[1]


def test_without_a_change_the_body_is_dm_controls():
    for domain, tasks in TASKS.items():
        for task in tasks:
            env, _ = play(f"rwrl_{domain}_{task}", 1, param="auto")
            plain, _ = play(f"rwrl_{domain}_{task}", 1)
            ours, theirs = (one.environment.physics.model.ptr for one in (env, plain))
            for name in ("body_pos", "geom_size", "dof_damping", "body_mass"):
                np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-6)


def test_pictures_show_the_new_body():
    config = update(
        EnvConfig(),
        {
            "time_limit": 2, "render": "fast",
            "challenge.perturb": {"param": "auto", "scheduler": "uniform"},
        },
    )  # fmt: skip
    envs = make("dmc_cartpole_balance", config, 0, num_envs=1)
    action = np.zeros((1, 1))
    rows = [envs.step(action) for _ in range(5)]
    lengths = [float(rows[t]["log/pole_length"][0]) for t in (0, 2, 4)]
    tall = [int((row["image"][0] != rows[0]["image"][0]).sum()) for row in rows]
    assert len(set(lengths)) == 3 and tall[2] > 50 and tall[4] > 50


@pytest.mark.parametrize(
    ("task", "perturb", "words"),
    [
        ("dmc_walker_walk", {"param": "pole_length"}, "'pole_length' is none of the walker's"),
        (
            "dmc_cheetah_run",
            {"param": "torso_length"},
            "perturb.param is for .*; not for cheetah_run",
        ),
        ("dmc_walker_walk@3", {"param": "auto"}, "has a body of its own"),
        ("memory_recall", {"param": "pole_length"}, "perturb.param is for the control suite"),
        ("dmc_walker_walk", {"param": "joint_damping", "strength": "easy"}, "about the walker's"),
        ("dmc_walker_walk", {"param": "auto", "min": 0.9}, "min of thigh_length is 0.9, above"),
        ("rwrl_cheetah_run", {}, "unknown task 'rwrl_cheetah_run'"),
    ],
)
def test_what_cannot_be_varied_is_one_line(task, perturb, words):
    with pytest.raises(UserError, match=words) as error:
        make(task, update(EnvConfig(), {**STATE, "challenge": {"perturb": perturb}}), 0)
    assert "\n" not in str(error.value)


def test_a_preset_of_any_body_leaves_those_alone_that_have_nothing_to_vary():
    for task in ("dmc_cheetah_run", "dmc_walker_walk", "memory_recall"):
        _, rows = play(task, 1, param="auto", scheduler="uniform")
        assert ("log/thigh_length" in rows[0]) == (task == "dmc_walker_walk")
