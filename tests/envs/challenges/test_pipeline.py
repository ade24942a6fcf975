"""Delays, noise and faults, frame by frame against a slow loop."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from common.config import update
from common.envs import EnvConfig, make
from common.envs.base import make_row
from common.envs.challenges import ChallengeConfig
from common.envs.challenges.pipeline import Challenged
from common.errors import UserError
from common.spaces import ObservationSpec, action_spec
from tests.reference import challenges as slow

LENGTH, EPISODES, SEED = 23, 3, 5
EVERYTHING = {
    "delay": {"actions": 2, "observations": 3, "rewards": 4},
    "gaussian": {"actions": 0.3, "observations": 0.2},
    "dropped": {
        "observations_prob": 0.2, "observations_steps": 3, "actions_prob": 0.3, "actions_steps": 2,
    },
    "stuck": {
        "observations_prob": 0.3, "observations_steps": 2, "actions_prob": 0.2, "actions_steps": 4,
    },
    "repetition": {"actions_prob": 0.4, "actions_steps": 2},
    "dimensions": 3,
}  # fmt: skip
SOME = [
    {"delay": EVERYTHING["delay"]},
    {"gaussian": EVERYTHING["gaussian"]},
    {"dropped": EVERYTHING["dropped"]},
    {"stuck": EVERYTHING["stuck"]},
    {"repetition": EVERYTHING["repetition"]},
    {"repetition": {"actions_prob": 1, "actions_steps": 1}},
    EVERYTHING,
]
SPACES = {
    "continuous": gymnasium.spaces.Box(-1, 1, (3,)),
    "mixed": gymnasium.spaces.Dict(
        a=gymnasium.spaces.Box(-1, 1, (2,)), b=gymnasium.spaces.Discrete(4)
    ),
}


class Scripted:
    """Observations, rewards and lengths that do not depend on actions, which are kept."""

    action_repeat, max_steps, notes = 1, LENGTH, {}

    def __init__(self, space: gymnasium.Space):
        self.action_space, self.action_spec = space, action_spec(space)
        self.observation_specs = {
            "choice": ObservationSpec((4,), "vector", (4,), (0,)),
            "constraints": ObservationSpec((2,), "vector"),
            "image": ObservationSpec((32, 32, 1), "image"),
            "multiobj": ObservationSpec((2,), "vector"),
            "x": ObservationSpec((3,), "vector"),
            "y": ObservationSpec((2,), "vector"),
        }
        self.episodes: list[list[np.ndarray]] = []

    def reset(self):
        self.episodes.append([])
        return self._row(0)

    def step(self, action):
        self.episodes[-1].append(np.array(action))
        return self._row(len(self.episodes[-1]))

    def _row(self, t):
        episode = len(self.episodes)
        observation = {
            "choice": np.eye(4, dtype=np.float32)[t % 4],
            "constraints": np.array([t % 2, t % 3 == 0], np.float32),
            "image": np.full((32, 32, 1), t, np.uint8),
            "multiobj": np.array([t, -t], np.float32),
            "x": np.array([t, 10 * t, episode], np.float32),
            "y": np.array([-t, np.sin(t)], np.float32),
        }
        return make_row(
            observation, 0 if t == 0 else 100 * episode + t, first=t == 0, last=t == LENGTH
        )


def play(values, space=SPACES["continuous"]):
    """Plays some episodes; returns environment, rows and chosen actions by episode."""
    env = Scripted(space)
    config = update(ChallengeConfig(), values)
    challenged = Challenged(env, config, SEED) if config.on_the_way else env
    rng, rows, chosen = np.random.default_rng(1), [], []
    for _ in range(EPISODES):
        rows.append([challenged.reset()])
        chosen.append([])
        while not rows[-1][-1]["is_last"]:
            chosen[-1].append(rng.uniform(-1, 1, env.action_spec.size).astype(np.float32))
            rows[-1].append(challenged.step(chosen[-1][-1]))
    return env, config, rows, chosen


def generators():
    """The generators of the parts, in order."""
    return [np.random.default_rng(one) for one in np.random.SeedSequence([SEED, 2]).spawn(8)]


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("values", SOME, ids=lambda values: "+".join(values))
def test_actions_arrive_as_in_a_slow_loop(values, space):
    env, config, _, chosen = play(values, SPACES[space])
    rngs = generators()
    parts = [0, 1, 2] if space == "continuous" else [0, 1, 2, 2, 2, 2]
    smooth = [True] * 3 if space == "continuous" else [True, True] + [False] * 4
    for performed, actions in zip(env.episodes, chosen, strict=True):
        expected = slow.arrived(
            slow.late(actions, config.delay.actions), config.gaussian.actions,
            (config.dropped.actions_prob, config.dropped.actions_steps),
            (config.stuck.actions_prob, config.stuck.actions_steps), parts, smooth, 1.0, rngs[:3],
        )  # fmt: skip
        repetition = config.repetition
        expected = slow.repeated(
            expected, repetition.actions_prob, repetition.actions_steps, rngs[3]
        )
        np.testing.assert_allclose(performed, expected, atol=1e-6)


@pytest.mark.parametrize("values", SOME, ids=lambda values: "+".join(values))
def test_observations_and_rewards_arrive_as_in_a_slow_loop(values):
    _, config, rows, _ = play(values)
    _, _, plain, _ = play({})
    rngs = generators()
    for seen, true in zip(rows, plain, strict=True):
        expected = slow.arrived(
            [np.concatenate([row["x"], row["y"]]) for row in true], config.gaussian.observations,
            (config.dropped.observations_prob, config.dropped.observations_steps),
            (config.stuck.observations_prob, config.stuck.observations_steps),
            [0, 1, 2, 3, 4], [True] * 5, np.inf, rngs[4:7],
        )  # fmt: skip
        delay = config.delay.observations
        found = [np.concatenate([row["x"], row["y"]]) for row in seen]
        np.testing.assert_allclose(found, slow.late(expected, delay), atol=1e-4)
        for key in ("choice", "constraints", "image"):  # Late, but otherwise as they are.
            expected = slow.late([row[key] for row in true], delay)
            np.testing.assert_array_equal([row[key] for row in seen], expected)
        np.testing.assert_array_equal(
            [row["multiobj"] for row in seen], [row["multiobj"] for row in true]
        )
        rewards = slow.late([row["reward"] for row in true[1:]], config.delay.rewards)
        assert [row["reward"] for row in seen] == [0, *rewards]
        for flag in ("is_first", "is_last", "is_terminal"):
            assert [row[flag] for row in seen] == [row[flag] for row in true]


def test_numbers_without_meaning_are_new_and_normal_at_every_step():
    _, _, rows, _ = play({"dimensions": 40})
    numbers = np.array([row["dummy"] for episode in rows for row in episode])
    assert numbers.shape == (EPISODES * (LENGTH + 1), 40)
    assert len(np.unique(numbers)) == numbers.size
    assert abs(numbers.mean()) < 0.1 and abs(numbers.std() - 1) < 0.1


def test_one_part_does_not_depend_on_whether_another_is_on():
    _, _, alone, _ = play({"gaussian": {"observations": 0.2}})
    _, _, both, _ = play({"gaussian": {"observations": 0.2, "actions": 1}, "dimensions": 2})
    np.testing.assert_array_equal([row["x"] for row in alone[0]], [row["x"] for row in both[0]])


def test_no_episode_begins_with_what_the_one_before_left():
    """In the suite's own code delays, faults and stuck values outlive a reset."""
    values = {"delay": {"observations": 9, "actions": 9}, "stuck": EVERYTHING["stuck"]}
    env, _, rows, chosen = play(values)
    for number, (episode, actions) in enumerate(zip(rows, chosen, strict=True), 1):
        assert episode[0]["x"][2] == number
        for i in range(3):
            assert env.episodes[number - 1][0][i] == actions[0][i]


def test_an_action_that_is_repeated_once_is_performed_twice():
    """In the suite's own code once means never."""
    env, _, _, chosen = play({"repetition": {"actions_prob": 1, "actions_steps": 1}})
    pairs = [chosen[0][t - t % 2] for t in range(LENGTH)]
    np.testing.assert_array_equal(env.episodes[0], pairs)


def only(kind):
    """A Gymnasium environment with choices or images alone."""

    class Env(gymnasium.Env):
        observation_space = {
            "choices": gymnasium.spaces.Discrete(3),
            "images": gymnasium.spaces.Box(0, 255, (32, 32, 3), np.uint8),
            "vectors": gymnasium.spaces.Dict(a=gymnasium.spaces.Box(-1, 1, (2,))),
        }[kind]
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.observation_space.sample(), {}

        def step(self, action):
            return self.observation_space.sample(), 1.0, False, False, {"cost": action}

    return Env


@pytest.mark.parametrize("kind", ["choices", "images"])
@pytest.mark.parametrize(
    "option", ["gaussian.observations", "dropped.observations_prob", "stuck.observations_prob"]
)
def test_noise_without_vectors_is_refused(kind, option):
    with pytest.raises(UserError, match=f"env.challenge.{option} is for vectors"):
        make(only(kind), update(EnvConfig(), {f"challenge.{option}": 0.5}), 0)


@pytest.mark.parametrize("option", ["gaussian.actions", "dropped.actions_prob"])
def test_noise_on_choices_is_refused(option):
    with pytest.raises(UserError, match=f"env.challenge.{option} is for continuous actions"):
        make(only("vectors"), update(EnvConfig(), {f"challenge.{option}": 0.5}), 0)


def test_any_gymnasium_environment_may_be_late_stuck_and_full_of_numbers():
    config = update(
        EnvConfig(),
        {
            "challenge.delay.observations": 2,
            "challenge.stuck.actions_prob": 0.5,
            "challenge.repetition.actions_prob": 1,
            "challenge.dimensions": 4,
        },
    )
    envs = make(only("images"), config, 0, num_envs=1)
    assert {key: spec.shape for key, spec in envs.observation_specs.items()} == {
        "dummy": (4,), "image": (32, 32, 3),
    }  # fmt: skip
    images = [envs.step(np.eye(2, dtype=np.float32)[[0]])["image"] for _ in range(4)]
    assert (images[0] == images[1]).all() and (images[1] == images[2]).all()
    assert (images[2] != images[3]).any()


def test_atari_has_challenges_of_its_own():
    with pytest.raises(UserError, match="which has sticky actions: env.sticky"):
        make("atari_pong", update(EnvConfig(), {"challenge.delay.actions": 1}), 0)
