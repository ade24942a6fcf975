"""Variants of bodies: the edited models, measured after MuJoCo compiled them."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys

import mujoco
import numpy as np
import pytest

from common.envs import EnvConfig, make, make_one
from common.envs import variants as bodies
from common.envs.dmc import _suite, describe, task_names
from common.errors import UserError

STATE = EnvConfig(pixels=False, state=True, action_repeat=-1, workers="none")
TASKS = (
    "acrobot_swingup cartpole_swingup cartpole_two_poles cheetah_run cup_catch finger_spin "
    "hopper_hop pendulum_swingup reacher_easy walker_walk"
).split()
JOINTED = "acrobot cartpole cheetah finger hopper reacher walker".split()


def plain(task):
    """Domain, MJCF and files of an unvaried task."""
    domain, name = task_names()[task]
    poles = {"num_poles": 2} if name == "two_poles" else {}
    xml, assets = getattr(_suite(), domain).get_model_and_assets(**poles)
    # Most of the time of compiling would go into textures.
    small = {key: re.sub(rb'(width|height)="\d+"', rb'\1="6"', x) for key, x in assets.items()}
    return domain, xml, small


def compiled(task, **changes):
    """The model of a task with some factors; the others are 1."""
    domain, xml, assets = plain(task)
    factors = dict.fromkeys(bodies.draw(domain, 0), 1.0) | changes
    return mujoco.MjModel.from_xml_string(bodies.edit(xml, assets, domain, factors), dict(assets))


def arrays(model):
    names = [name for name in dir(model) if isinstance(getattr(model, name, None), np.ndarray)]
    return {name: np.array(getattr(model, name)) for name in names}


def assert_equal_models(left, right):
    left, right = arrays(left), arrays(right)
    assert left.keys() == right.keys() and len(left) > 100
    for name, value in left.items():
        np.testing.assert_array_equal(value, right[name], err_msg=name)


def model_of(task, seed=0):
    env = make_one(f"dmc_{task}", STATE, seed)
    return env.environment.physics.model.ptr


@pytest.mark.parametrize("task", TASKS)
def test_factors_of_one_leave_the_model_as_it_is(task):
    _, xml, assets = plain(task)
    original = mujoco.MjModel.from_xml_string(bodies._decoded(xml), dict(assets))
    assert_equal_models(compiled(task), original)


@pytest.mark.parametrize("task", TASKS)
def test_every_factor_changes_the_model_within_its_range(task):
    domain, xml, assets = plain(task)
    ranges = bodies.DOMAINS[domain].ranges()
    same = arrays(compiled(task))
    for name, (low, high) in ranges.items():
        drawn = [bodies.draw(domain, seed)[name] for seed in range(60)]
        assert low <= min(drawn) < max(drawn) <= high and len(set(drawn)) == 60
        assert min(drawn) < low * (high / low) ** 0.2 and max(drawn) > low * (high / low) ** 0.8
        changed = arrays(compiled(task, **{name: high}))
        differ = [key for key in same if not np.array_equal(same[key], changed[key])]
        assert differ, name


@pytest.mark.parametrize("task", TASKS)
def test_a_variant_runs_and_repeats_and_keeps_what_the_task_says(task):
    name = f"dmc_{task}@3"
    env, again = make_one(name, STATE, 5), make_one(name, STATE, 5)
    other, ordinary = make_one(f"dmc_{task}@4", STATE, 5), make_one(f"dmc_{task}", STATE, 5)
    for key in ("observation_specs", "action_spec", "action_repeat", "max_steps", "name"):
        assert getattr(env, key) == getattr(ordinary, key)
    for key in ("_n_sub_steps", "_step_limit"):
        assert getattr(env.environment, key) == getattr(ordinary.environment, key)
    assert env.environment.physics.legacy_step and ordinary.environment.physics.legacy_step
    assert_equal_models(*(x.environment.physics.model.ptr for x in (env, again)))
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (60, env.action_spec.size)).astype(np.float32)
    runs = [[x.reset(), *(x.step(action) for action in actions)] for x in (env, again, other)]
    key = next(key for key in env.observation_specs if key.startswith(("position", "orient")))
    one, same, different = (np.stack([row[key] for row in rows]) for rows in runs)
    np.testing.assert_array_equal(one, same)
    assert np.isfinite(one).all() and (one[1:] != different[1:]).any()


@pytest.mark.parametrize("domain", JOINTED)
def test_joints_stay_at_the_ends_of_their_limbs(domain):
    """From joint to joint, and from a joint to its limb's capsules, all is scaled alike."""
    task = next(task for task in TASKS if task.startswith(domain))
    if domain == "cartpole":
        task = "cartpole_two_poles"
    before, after = (posed(model) for model in (model_of(task), model_of(f"{task}@9")))
    factors, checked = bodies.draw(domain, 9), 0
    length = lambda name: factors.get(f"length/{bodies._SIDE.sub('', name)}", 1.0)  # noqa: E731
    (old, old_data), (new, new_data) = before, after
    for body in range(1, old.nbody):
        parent = old.body(old.body_parentid[body])
        child = anchor(new, new_data, body) - anchor(new, new_data, parent.id)
        expected = anchor(old, old_data, body) - anchor(old, old_data, parent.id)
        if parent.id:
            np.testing.assert_allclose(child, length(parent.name) * expected, atol=1e-7)
            checked += 1
        for geom in np.flatnonzero(old.geom_bodyid == body):
            if old.geom_type[geom] != mujoco.mjtGeom.mjGEOM_CAPSULE or domain == "finger":
                continue
            factor = length(old.body(body).name)
            place = new_data.geom_xpos[geom] - anchor(new, new_data, body)
            expected = old_data.geom_xpos[geom] - anchor(old, old_data, body)
            np.testing.assert_allclose(place, factor * expected, atol=1e-7)
            np.testing.assert_allclose(
                new.geom_size[geom, :2], old.geom_size[geom, :2] * [1, factor], rtol=1e-6
            )
    assert checked >= 1


def posed(model):
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def anchor(model, data, body):
    """Where a body's first joint is in the world; its origin where it has none."""
    joint = model.body_jntadr[body]
    return data.xpos[body].copy() if joint < 0 else data.xanchor[joint].copy()


@pytest.mark.parametrize("task", ["walker_walk", "hopper_hop", "cheetah_run"])
def test_bodies_begin_as_high_above_the_ground(task):
    heights = [lowest(model_of(name)) for name in (task, f"{task}@1", f"{task}@2")]
    np.testing.assert_allclose(heights, heights[0], atol=2e-6)


def lowest(model):
    """Lowest point of all capsules, from many points on their axes."""
    _, data = posed(model)
    points = []
    for geom in np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE):
        radius, half = model.geom_size[geom, :2]
        axis = data.geom_xmat[geom].reshape(3, 3)[:, 2]
        for share in np.linspace(-1, 1, 11):
            points.append((data.geom_xpos[geom] + share * half * axis)[2] - radius)
    return min(points)


def test_masses_damping_gear_and_friction_are_multiplied():
    same = compiled("walker_walk")
    heavy = compiled("walker_walk", **{"mass/leg": 1.5, "damping": 2.0, "gear": 0.5})
    legs = ["left_leg", "right_leg"]
    ratio = heavy.body_mass / np.where(same.body_mass, same.body_mass, 1)
    for body in range(1, same.nbody):
        wanted = 1.5 if same.body(body).name in legs else 1
        assert ratio[body] == pytest.approx(wanted)
    np.testing.assert_allclose(heavy.dof_damping, 2 * same.dof_damping)
    np.testing.assert_allclose(heavy.actuator_gear, 0.5 * same.actuator_gear)
    for task in ("walker_walk", "hopper_hop", "finger_spin", "cheetah_run"):
        rough, same = compiled(task, friction=1.25), compiled(task)
        np.testing.assert_allclose(rough.geom_friction, 1.25 * same.geom_friction)
    assert compiled("finger_spin", friction=0.5).dof_frictionloss[-1] == pytest.approx(0.05)


def test_masses_that_the_model_gives_are_multiplied():
    for task, body in [("cartpole_swingup", "pole"), ("acrobot_swingup", "upper_arm")]:
        light, same = compiled(task, **{f"mass/{body}": 0.7}), compiled(task)
        bodies_found = [b for b in range(same.nbody) if same.body(b).name.startswith(body)]
        for index in bodies_found:
            assert light.body_mass[index] == pytest.approx(0.7 * same.body_mass[index])
            np.testing.assert_allclose(light.body_inertia[index], 0.7 * same.body_inertia[index])
    light = compiled("cheetah_run", **{"mass/total": 0.5})
    assert light.body_mass.sum() == pytest.approx(7)


def test_what_only_one_domain_has():
    cup = compiled("cup_catch", **{"length/string": 1.1, "size/ball": 0.8})
    assert cup.tendon_range[0].tolist() == pytest.approx([0, 0.33])
    assert cup.geom("ball").size[0] == pytest.approx(0.02)
    lengths = {"length/upper_arm": 0.9, "length/lower_arm": 1.2}
    model, data = posed(compiled("acrobot_swingup", **lengths))
    np.testing.assert_allclose(model.site("target").pos, data.site("tip").xpos, atol=1e-9)
    assert data.site("tip").xpos[2] == pytest.approx(4.1)


def test_targets_stay_within_reach():
    for seed in range(40):
        arm = bodies.draw("reacher", seed)
        assert 0.12 * (arm["length/arm"] + arm["length/hand"]) > 0.2


def digest(task):
    env = make_one(f"dmc_{task}", STATE, 0)
    found = hashlib.sha256()
    for name, value in sorted(arrays(env.environment.physics.model.ptr).items()):
        found.update(name.encode() + value.tobytes())
    base, seed = bodies.split_seed(task)
    domain, name = task_names()[base]
    xml, _ = bodies.variant(_suite(), domain, name, seed)
    return found.hexdigest(), hashlib.sha256(xml.encode()).hexdigest()


def test_another_process_builds_the_same_bits():
    code = (
        "from tests.envs.test_variants import digest\n"
        "for task in ('hopper_hop@2', 'walker_walk@12', 'cheetah_run@0'): print(*digest(task))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    order = ("cheetah_run@0", "walker_walk@12", "hopper_hop@2")  # Another order on purpose.
    here = [" ".join(digest(task)) for task in order]
    assert done.stdout.split("\n")[:3] == here[::-1]


def test_the_factors_of_a_number_stay_for_ever():
    """Data and tables name bodies by their number: these values must never change."""
    found = describe("dmc_cartpole_swingup@7")
    assert found == describe("dmc_cartpole_balance@7")
    assert found == {
        "length/pole": 1.132481,
        "mass/pole": 1.341772,
        "mass/cart": 1.432813,
        "damping": 0.836638,
        "gear": 0.979111,
    }
    assert describe("dmc_cartpole_swingup") == {}
    assert describe("dmc_cup_catch@1") == describe("dmc_ball_in_cup_catch@1") != {}


def test_a_variant_beside_an_unvaried_task_and_in_workers():
    names = "dmc_cartpole_swingup,dmc_cartpole_swingup@1"
    envs = make(names, STATE, 0)
    assert envs.step(np.zeros((1, 1)))["is_first"].all()
    plain_env, varied = envs.local(0)._envs.values()
    poles = [x.environment.physics.model.ptr.geom("pole_1").size[1] for x in (plain_env, varied)]
    factor = describe("dmc_cartpole_swingup@1")["length/pole"]
    assert poles == pytest.approx([0.5, 0.5 * factor])
    envs.close()


def test_pictures_show_the_variant():
    pixels = EnvConfig(render="fast")
    frames = [
        make_one(f"dmc_walker_walk{mark}", pixels, 0).reset()["image"] for mark in ("", "@1", "@2")
    ]
    assert (frames[0] != frames[1]).any() and (frames[1] != frames[2]).any()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dmc_walker_walk@x", "'dmc_walker_walk@x' names no variant; .* dmc_walker_walk@7"),
        ("dmc_walker_walk@-1", "names no variant"),
        ("dmc_walker_walk@", "names no variant"),
        ("dmc_walker_walk@07", "names no variant"),
        ("dmc_walker_walk@1@2", "names no variant"),
        ("dmc_walker_wlk@1", "unknown task 'dmc_walker_wlk'; did you mean 'dmc_walker_walk'"),
        ("dmc_quadruped_run@1", "there are no variants of 'quadruped'; choose from: acrobot"),
    ],
)
def test_mistakes(name, message):
    with pytest.raises(UserError, match=message):
        make(name, STATE, 0)
    with pytest.raises(UserError, match=message):
        describe(name)
