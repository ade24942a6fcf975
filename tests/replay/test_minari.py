"""Minari's own package on local datasets: both directions, and the alignment of time."""

from __future__ import annotations

import sys

import gymnasium
import numpy as np
import pytest

from common.envs import EnvConfig, make_one
from common.errors import UserError
from common.replay.logs.source import open_log
from common.replay.minari import open_minari, write_minari
from common.spaces import ObservationSpec, action_spec
from tests.replay.test_episodes import assert_same
from tests.replay.test_episodes import episode as plain_episode

minari = pytest.importorskip("minari")


@pytest.fixture(autouse=True)
def datasets(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


def read_minari(name):
    """How many episodes a dataset has, and the episodes."""
    found = open_minari(name)
    return found.amount, found.episodes


def episodes():
    """Whole ones, one that really ended, one that was cut; nested keys and pictures."""
    made = [plain_episode(6, seed=1), plain_episode(9, seed=2), plain_episode(4, whole=False)]
    made[1]["is_terminal"][-1] = True
    rng = np.random.default_rng(0)
    for one in made:
        rows = len(one["reward"])
        one["action"][1:] *= 10.0 ** rng.integers(-20, 0, (rows - 1, 2))
        one["arm/joint"] = rng.normal(size=(rows, 2)).astype(np.float32)
        one["image"] = rng.integers(0, 256, (rows, 32, 32, 3)).astype(np.uint8)
    return made


def test_a_round_trip_keeps_every_bit():
    written = episodes()
    write_minari("body/mixed-v0", written)
    amount, found = read_minari("body/mixed-v0")
    assert amount == 3
    assert_same(written, list(found))


def test_minari_sees_the_time_as_it_means_it():
    written = episodes()
    write_minari("body/mixed-v0", written)
    dataset = minari.load_dataset("body/mixed-v0")
    for one, seen in zip(written, dataset.iterate_episodes(), strict=True):
        steps = len(one["reward"]) - 1
        assert len(seen) == len(seen.actions) == steps
        for t in range(steps):  # At o[t], a[t] leads to o[t + 1] and pays r[t].
            np.testing.assert_array_equal(seen.observations["state"][t], one["state"][t])
            np.testing.assert_array_equal(seen.actions[t], one["action"][t + 1])
            assert seen.rewards[t] == one["reward"][t + 1]
            assert dataset.action_space.contains(seen.actions[t])
        np.testing.assert_array_equal(seen.observations["arm"]["joint"], one["arm/joint"])
        assert seen.terminations.tolist() == one["is_terminal"][1:].tolist()
        ended = one["is_last"] & ~one["is_terminal"]
        assert seen.truncations.tolist() == ended[1:].tolist()


def test_actions_are_scaled_to_the_bounds_and_back():
    space = gymnasium.spaces.Box(np.float32([-2, 0]), np.float32([2, 5]))
    write_minari("body/scaled-v0", [plain_episode(50)], space)
    (seen,) = minari.load_dataset("body/scaled-v0").iterate_episodes()
    action = plain_episode(50)["action"][1:]
    np.testing.assert_allclose(seen.actions, action * [2, 2.5] + [0, 2.5], rtol=1e-6)
    assert seen.actions.dtype == np.float32
    (found,) = read_minari("body/scaled-v0")[1]
    np.testing.assert_array_equal(found["action"][:, 0], plain_episode(50)["action"][:, 0])
    np.testing.assert_allclose(found["action"], plain_episode(50)["action"], atol=1e-6)


def test_what_minari_recorded_is_what_stepping_by_hand_gives():
    """Also as the package's own environment of that name gives it."""
    env = minari.DataCollector(gymnasium.make("Pendulum-v1", max_episode_steps=12))
    for seed in (3, 4):
        env.reset(seed=seed)
        env.action_space.seed(seed)
        for _ in range(12):
            env.step(env.action_space.sample())
    with pytest.warns(UserWarning):
        env.create_dataset("pendulum/random-v0")
    env.close()
    amount, found = read_minari("pendulum/random-v0")
    found = list(found)
    assert amount == len(found) == 2
    byhand = gymnasium.make("Pendulum-v1", max_episode_steps=12)
    task = make_one("gym_Pendulum-v1", EnvConfig(), 0)
    for seed, episode in zip((3, 4), found, strict=True):
        assert set(episode) - {"action", "reward"} == {
            *task.observation_specs, "is_first", "is_last", "is_terminal",
        }  # fmt: skip
        observation, _ = byhand.reset(seed=seed)
        np.testing.assert_array_equal(episode["vector"][0], observation)
        assert episode["is_first"][0] and not episode["action"][0].any()
        for row in range(1, 13):
            action = task.action_spec.decode(episode["action"][row])
            observation, reward, terminal, truncated, _ = byhand.step(action)
            np.testing.assert_allclose(episode["vector"][row], observation, atol=1e-5)
            assert episode["reward"][row] == pytest.approx(reward, rel=1e-5)
            assert episode["is_last"][row] == (terminal or truncated)
            assert not episode["is_first"][row] and not episode["is_terminal"][row]
        assert np.abs(episode["action"]).max() <= 1 and len(episode["reward"]) == 13


def test_dicts_of_actions_and_choices_as_observations():
    actions = gymnasium.spaces.Dict(
        b=gymnasium.spaces.Box(-4, 4, (1,)), a=gymnasium.spaces.Box(0, 1, (2,))
    )
    buffer = minari.data_collector.EpisodeBuffer(
        observations=np.array([2, 0, 1]),
        actions={"a": np.float32([[0, 1], [0.5, 0.25]]), "b": np.float32([[4], [9]])},
        rewards=[1.0, 2.0],
        terminations=[False, True],
        truncations=[False, False],
    )
    with pytest.warns(UserWarning):
        minari.create_dataset_from_buffers(
            "odd/one-v0", [buffer], observation_space=gymnasium.spaces.Discrete(3),
            action_space=actions,
        )  # fmt: skip
    (found,) = read_minari("odd/one-v0")[1]
    np.testing.assert_array_equal(found["vector"], np.eye(3)[[2, 0, 1]])
    np.testing.assert_array_equal(found["action"], [[0, 0, 0], [-1, 1, 1], [0, -0.5, 1]])
    assert found["reward"].tolist() == [0, 1, 2] and found["is_terminal"].tolist()[-1]


def write_others(name, actions, space, **changes):
    """A dataset of one episode of another program, with these actions."""
    steps = len(next(iter(actions.values())) if isinstance(actions, dict) else actions)
    parts = {
        "observations": np.zeros((steps + 1, 1), np.float32),
        "actions": actions,
        "rewards": np.zeros(steps),
        "terminations": np.arange(steps) == steps - 1,
        "truncations": np.zeros(steps, bool),
    }
    buffer = minari.data_collector.EpisodeBuffer(**parts | changes)
    with pytest.warns(UserWarning):
        minari.create_dataset_from_buffers(
            name, [buffer], action_space=space,
            observation_space=gymnasium.spaces.Box(-1, 1, (1,)),
        )  # fmt: skip


CHOICES = {
    "discrete": (gymnasium.spaces.Discrete(3), [2, 0, 1], np.eye(3)[[2, 0, 1]]),
    "shifted": (gymnasium.spaces.Discrete(2, start=5), [5, 6], np.eye(2)),
    "several": (
        gymnasium.spaces.MultiDiscrete([2, 3]), [[1, 2], [0, 0]],
        [[0, 1, 0, 0, 1], [1, 0, 1, 0, 0]],
    ),
    "grid": (
        gymnasium.spaces.MultiDiscrete([[2, 2], [2, 2]]), [[[0, 1], [1, 1]]],
        [[1, 0, 0, 1, 0, 1, 0, 1]],
    ),
    "beside a number": (
        gymnasium.spaces.Dict(a=gymnasium.spaces.Discrete(2), b=gymnasium.spaces.Box(0, 4, (1,))),
        {"a": np.array([1, 0]), "b": np.array([[4], [2]], np.float32)},
        [[0, 1, 1], [1, 0, 0]],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHOICES)
def test_choices_come_in_as_one_hot(name):
    space, taken, expected = CHOICES[name]
    taken = taken if isinstance(taken, dict) else np.array(taken)
    write_others("odd/choice-v0", taken, space)
    (found,) = read_minari("odd/choice-v0")[1]
    assert not found["action"][0].any() and found["action"].dtype == np.float32
    np.testing.assert_array_equal(found["action"][1:], expected)
    decoded = [action_spec(space).decode(row) for row in found["action"][1:]]
    if not isinstance(taken, dict):
        np.testing.assert_array_equal(np.ravel(decoded), np.ravel(taken))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actions": np.array([1, 7])}, "none of the choices 0 to 1"),
        ({"rewards": np.array([0, np.nan])}, "'reward' is nan in row 2"),
        ({"observations": np.full((3, 1), np.inf, np.float32)}, "'vector' is inf in row 0 and 2"),
        ({"observations": np.zeros((2, 1), np.float32)}, "2 observations and 2 steps"),
    ],
)
def test_what_the_spaces_do_not_say_is_refused(changes, message):
    arrays = {"actions": np.array([1, 0])} | changes
    write_others("odd/wrong-v0", arrays.pop("actions"), gymnasium.spaces.Discrete(2), **arrays)
    with pytest.raises(UserError, match=f"episode 0 of odd/wrong-v0 .*{message}"):
        list(read_minari("odd/wrong-v0")[1])


def test_mistakes(datasets, monkeypatch):
    write_minari("body/one-v0", [plain_episode(3)])
    with pytest.raises(UserError, match="already exists"):
        write_minari("body/one-v0", [plain_episode(3)])
    for name in ("body/one", "a b-v0", ""):
        with pytest.raises(UserError, match="no name of a Minari dataset"):
            write_minari(name, [plain_episode(3)])
    with pytest.raises(UserError, match="no episodes to write"):
        write_minari("body/two-v0", [])
    for name in ("body/none-v0", "body", "a b"):
        with pytest.raises(UserError, match="there is no Minari dataset .* minari download"):
            read_minari(name)
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(UserError, match="run pip install minari h5py"):
        read_minari("body/one-v0")


def test_a_dataset_is_a_log_of_the_task_that_it_was_made_with():
    written = plain_episode(6)
    space = gymnasium.spaces.Box(np.float32([-2, 0]), np.float32([2, 5]))
    write_minari("body/one-v0", [written], space)
    specs = {"state": ObservationSpec(written["state"].shape[1:], "vector")}
    log = open_log("minari:body/one-v0", specs, action_spec(space))
    (found,) = log.episodes
    assert log.kind == "Minari" and log.amount == 1
    np.testing.assert_allclose(found["action"], written["action"], atol=1e-6)
    np.testing.assert_array_equal(found["state"], written["state"])
    other = action_spec(gymnasium.spaces.Box(-1, 1, (2,)))
    message = r"has the actions 2 numbers from \[-2.0, 0.0\] .* has 2 numbers from \[-1.0, -1.0\]"
    with pytest.raises(UserError, match=message):
        open_log("minari:body/one-v0", specs, other)
    choice = action_spec(gymnasium.spaces.Discrete(3))
    with pytest.raises(UserError, match="this task has 3 choices from 0"):
        open_log("minari:body/one-v0", specs, choice)
