"""Suites of others: each is played where it is installed, and says how where it is not."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from common.envs import EnvConfig, make, suites
from common.errors import UserError
from common.rows import LOG_PREFIX

PACKAGES = ("crafter", "minigrid", "vizdoom", "metaworld")


def played(task, actions=None, seed=3, **options):
    """Rows of a reset and of some actions, twenty random ones where none are given."""
    envs = make(task, EnvConfig(workers="none", **options), seed)
    rng = np.random.default_rng(seed)
    try:
        rows = [envs.step(np.zeros((1, envs.action_spec.size), np.float32))]
        for number in range(20 if actions is None else len(actions)):
            action = envs.action_spec.sample(rng, 1)
            if actions is not None:
                action = np.eye(envs.action_spec.size, dtype=np.float32)[None, actions[number]]
            rows.append(envs.step(action))
        frame = envs.render()
    finally:
        envs.close()
    names = dict.fromkeys(key for row in rows for key in row)
    nothing = np.full(1, np.nan)
    joined = {key: np.concatenate([row.get(key, nothing) for row in rows]) for key in names}
    return envs, joined, frame


@pytest.mark.parametrize(
    ("package", "task", "pictures", "vectors", "actions"),
    [
        ("crafter", "crafter_reward", {"image": 64}, {}, 17),
        ("minigrid", "minigrid_Empty-5x5-v0", {"image": 64}, {}, 7),
        ("vizdoom", "vizdoom_Basic-v1", {"image": 64}, {"gamevariables": 1}, 4),
        ("metaworld", "metaworld_reach-v3", {}, {"vector": 39}, 4),
    ],
)
def test_a_suite_is_played_as_rows(package, task, pictures, vectors, actions):
    pytest.importorskip(package)
    envs, rows, frame = played(task)
    shapes = {key: spec.shape for key, spec in envs.observation_specs.items()}
    assert shapes == {key: (size, size, 3) for key, size in pictures.items()} | {
        key: (size,) for key, size in vectors.items()
    }
    assert envs.action_spec.size == actions and envs.max_steps > 0
    assert envs.action_spec.discrete == (package != "metaworld")
    assert rows["is_first"][0] and not rows["reward"][0] and np.isfinite(rows["reward"]).all()
    ends = rows["is_last"]
    assert (rows["is_first"][1:] == ends[:-1]).all() and not (rows["is_terminal"] & ~ends).any()
    for key in shapes:
        assert len(np.unique(rows[key].reshape(len(ends), -1), axis=0)) > 1, "nothing ever changes"
    assert frame is None or (frame.dtype == np.uint8 and frame.ndim == 3)
    _, again, _ = played(task)
    for key in (*shapes, "reward"):
        np.testing.assert_array_equal(rows[key], again[key])


def test_crafter_logs_achievements_once_and_small_pictures():
    """Whoever does nothing wakes up now and then, and lives on after fifty steps."""
    pytest.importorskip("crafter")
    envs, rows, _ = played("crafter_reward", 30 * [5, 1] + [0], kwargs={"size": 32, "length": 50})
    assert rows["image"].shape[1:] == (32, 32, 3) and envs.max_steps == 50
    names = [key for key in rows if key.startswith(LOG_PREFIX)]
    assert len(names) == 22
    number = np.cumsum(rows["is_first"])
    for episode in (1, 2):
        assert max(np.nansum(rows[name][number == episode]) for name in names) <= 1
    unlocked = np.nansum([rows[name] for name in names], 0)
    # A reward of 1 comes with every new one, and health changes it by tenths.
    assert (np.abs(rows["reward"] - unlocked) < 0.95).all()
    assert rows["is_last"][50] and not rows["is_terminal"][50]


def test_crafter_counts_what_is_new(monkeypatch):
    crafter = pytest.importorskip("crafter")
    wood = iter([0, 1, 2, 0, 1])

    def step(self, action):
        found = {"collect_wood": next(wood), "wake_up": 0}
        return np.zeros((64, 64, 3), np.uint8), 0.0, False, {"achievements": found, "discount": 1}

    monkeypatch.setattr(crafter.Env, "step", step)
    env = suites.find("crafter_noreward")()
    env.reset(seed=0)
    key = LOG_PREFIX + "achievement_collect_wood"
    assert [env.step(0)[4][key] for _ in range(3)] == [0, 1, 0]
    env.reset()
    assert [env.step(0)[4][key] for _ in range(2)] == [0, 1]


def test_minigrid_ends_at_its_goal_and_is_cut_by_its_limit():
    pytest.importorskip("minigrid")
    left, right, forward = range(3)
    way = [forward, forward, right, forward, forward]
    envs, rows, _ = played("minigrid_Empty-5x5-v0", [*way, left, *100 * [left]])
    assert envs.max_steps == 100 and rows["reward"][5] > 0.9
    assert rows["is_terminal"].nonzero()[0].tolist() == [5]
    assert rows["is_last"].nonzero()[0].tolist() == [5, 106]


def test_vizdoom_tells_a_limit_of_time_from_an_end():
    """Whoever does nothing is cut after 300 frames."""
    pytest.importorskip("vizdoom")
    envs, rows, _ = played("vizdoom_Basic-v1", 80 * [0], action_repeat=4)
    assert envs.max_steps == 75
    assert rows["is_last"].nonzero()[0].tolist() == [75] and not rows["is_terminal"].any()


def test_gymnasiums_own_mujoco_tasks_need_nothing_more():
    envs, rows, _ = played("gym_HalfCheetah-v5")
    assert envs.observation_specs["vector"].shape == (17,) and envs.action_spec.size == 6
    assert rows["reward"].std() > 0


@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_missing_is_one_line(package, monkeypatch):
    for part in ("", ".wrappers", ".gymnasium_wrapper", ".env_dict"):
        monkeypatch.setitem(sys.modules, package + part, None)
    task = next(one for one in suites.EXAMPLES if one.startswith(package))
    message = f"{package} is not installed here .* pip install {package}"
    with pytest.raises(UserError, match=message) as caught:
        make(task, EnvConfig(), 0)
    apart = "in a virtual environment of its own" in str(caught.value)
    assert apart == (package == "metaworld")  # Here it would break the control suite.


@pytest.mark.parametrize(
    ("package", "task", "message"),
    [
        ("crafter", "crafter_rewards", "did you mean 'reward'"),
        (
            "minigrid",
            "minigrid_Empty-5x6-v0",
            "unknown minigrid .*MiniGrid-Empty-6x6-v0",
        ),
        ("vizdoom", "vizdoom_Basics-v1", "unknown vizdoom environment .*VizdoomBasic-v1"),
        ("metaworld", "metaworld_reech-v3", "did you mean 'reach-v3'"),
        ("numpy", "minigird_Empty-5x5-v0", "did you mean 'minigrid_"),
    ],
)
def test_misspelt_names_are_corrected(package, task, message):
    pytest.importorskip(package)
    with pytest.raises(UserError, match=message):
        make(task, EnvConfig(), 0)
