"""DeepMind Lab's calls on a stand-in that refuses what the real engine's documents do not have."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from common.envs import EnvConfig, make
from common.envs.dmlab import ACTIONS
from common.errors import UserError

FRAMES = 11


class Engine:
    """The Python interface of deepmind_lab, as docs/users/python_api.md describes it."""

    made: list = []

    def __init__(self, level, observations, config=None, renderer="software"):
        assert isinstance(level, str) and observations == ["RGB_INTERLEAVED"]
        assert all(type(x) is str for pair in config.items() for x in pair)
        if level == "contributed/dmlab30/none":
            raise RuntimeError("Level not found")
        self.level, self.config, self.renderer = level, config, renderer
        self.frame, self.seeds, self.steps, self.closed = -1, [], [], False
        Engine.made.append(self)

    def reset(self, episode=-1, seed=None):
        assert type(seed) is int and 0 <= seed < 2**31
        self.frame = 0
        self.seeds.append(seed)
        return True

    def is_running(self):
        return 0 <= self.frame < FRAMES

    def observations(self):
        if not self.is_running():
            raise RuntimeError("Environment in wrong status to get observations")
        size = int(self.config["height"]), int(self.config["width"]), 3
        return {"RGB_INTERLEAVED": np.full(size, self.frame, np.uint8)}

    def step(self, action, num_steps=1):
        assert action.dtype == np.intc and action.shape == (7,) and num_steps >= 1
        if not self.is_running():
            raise RuntimeError("Environment in wrong status to step")
        self.steps.append(tuple(action.tolist()))
        self.frame += num_steps
        return float(self.frame)

    def close(self):
        self.closed = True


@pytest.fixture(name="engine", autouse=True)
def _engine(monkeypatch):
    monkeypatch.setitem(sys.modules, "deepmind_lab", types.SimpleNamespace(Lab=Engine))
    monkeypatch.setattr(Engine, "made", [])


def test_the_actions_are_the_fifteen_of_popart():
    """Look (pixels a frame), strafe, move and fire; nothing jumps or crouches."""
    assert len(ACTIONS) == len(set(ACTIONS.values())) == 15
    turns = sorted(action[0] for action in ACTIONS.values())
    assert turns == [-60, -60, -10, -10, *[0] * 7, 10, 10, 60, 60]
    assert sorted(action[1] for action in ACTIONS.values()) == [-10, *[0] * 13, 10]
    assert sum(action[3] == 1 for action in ACTIONS.values()) == 5
    assert [name for name, action in ACTIONS.items() if action[4]] == ["fire"]
    assert not any(any(action[5:]) for action in ACTIONS.values())


def test_an_episode_is_what_the_engine_gives():
    """Eleven frames, four an action: rewards are summed, and the last picture stays."""
    envs = make("dmlab_rooms_watermaze", EnvConfig(workers="none"), 0)
    assert envs.action_repeat == 4 and envs.action_spec.size == 15
    assert envs.observation_specs["image"].shape == (64, 64, 3)
    actions = np.eye(15, dtype=np.float32)
    rows = [envs.step(actions[None, number]) for number in (0, 4, 14, 8, 0, 0)]
    (lab,) = Engine.made
    assert lab.level == "contributed/dmlab30/rooms_watermaze" and lab.renderer == "software"
    assert lab.config == {"width": "64", "height": "64", "logLevel": "WARN"}
    assert [row["reward"][0] for row in rows[:4]] == [0, 1 + 2 + 3 + 4, 5 + 6 + 7 + 8, 9 + 10 + 11]
    assert [int(row["image"][0, 0, 0, 0]) for row in rows[:5]] == [0, 4, 8, 10, 0]
    assert [bool(row["is_last"][0]) for row in rows[:5]] == [False, False, False, True, False]
    assert rows[3]["is_terminal"][0] and rows[4]["is_first"][0]
    look, fire, down = (tuple(ACTIONS[n]) for n in ("look a little left", "fire", "look down"))
    assert lab.steps[:11] == 4 * [look] + 4 * [fire] + 3 * [down]
    assert len(lab.seeds) == 2 and lab.seeds[0] != lab.seeds[1]
    envs.close()
    assert lab.closed


def test_options_reach_the_engine_and_a_seed_repeats_it():
    kwargs = {"size": 32, "episodic": False, "renderer": "hardware", "config": {"fps": 30}}
    for _ in range(2):
        config = EnvConfig(workers="none", action_repeat=12, kwargs=kwargs)
        envs = make("dmlab_tests/empty_room_test", config, 5)
        rows = [envs.step(np.eye(15, dtype=np.float32)[None, 0]) for _ in range(3)]
        envs.close()
    one, other = Engine.made
    assert one.level == "tests/empty_room_test" and one.renderer == "hardware"
    assert one.config["fps"] == "30" and one.config["width"] == "32"
    assert rows[1]["is_last"][0] and not rows[1]["is_terminal"][0]
    assert one.seeds == other.seeds


def test_mistakes(monkeypatch):
    for task, message in [
        ("dmlab_language_execute_random_task", "tells its task in words"),
        ("dmlab_none", "DeepMind Lab cannot build the level 'none': Level not found"),
    ]:
        with pytest.raises(UserError, match=message):
            make(task, EnvConfig(), 0)
    with pytest.raises(UserError, match="env.kwargs .* do not fit"):
        make("dmlab_rooms_watermaze", EnvConfig(kwargs={"colour": "red"}), 0)
    monkeypatch.setitem(sys.modules, "deepmind_lab", None)
    with pytest.raises(UserError, match="deepmind_lab is not installed here .* built from source"):
        make("dmlab_rooms_watermaze", EnvConfig(), 0)
