"""Images that hold the newest ones."""

from __future__ import annotations

import numpy as np
import pytest

from common.envs import EnvConfig, make
from common.errors import UserError
from tests.envs.toys import Counter

COUNTER = "tests.envs.toys:Counter"


def played(stack, steps=8, amount=1):
    envs = make(COUNTER, EnvConfig(stack=stack, amount=amount, workers="none"), 0)
    rows = [envs.step(np.zeros((amount, envs.action_spec.size))) for _ in range(steps)]
    envs.close()
    return envs.observation_specs, rows


def test_the_newest_images_stand_side_by_side():
    """Oldest first; an episode begins with copies, and nothing of the one before is left."""
    specs, rows = played(3)
    plain_specs, plain = played(1)
    (key,) = [key for key, spec in specs.items() if spec.kind == "image"]
    channels = plain_specs[key].shape[2]
    assert specs[key].shape == (*plain_specs[key].shape[:2], 3 * channels)
    seen = []
    for row, one in zip(rows, plain, strict=True):
        image = one[key][0]
        seen = [image] * 3 if one["is_first"][0] else [*seen[1:], image]
        np.testing.assert_array_equal(row[key][0], np.concatenate(seen, -1))
        for other in one.keys() - {key}:
            np.testing.assert_array_equal(row[other], one[other])
    assert sum(one["is_first"][0] for one in plain) >= 2


def test_environments_keep_their_own():
    _, rows = played(2, amount=2)
    assert rows[-1]["is_first"].shape == (2,)


def test_several_tasks_and_the_suite():
    """The first image twice, then two that differ: the walker falls."""
    config = EnvConfig(stack=2, image_size=32, render="fast")
    envs = make("dmc_walker_walk,dmc_cheetah_run", config, 0)
    assert envs.observation_specs["image"].shape == (32, 32, 6)
    first, then = (envs.step(np.zeros((1, 6)))["image"][0] for _ in range(2))
    envs.close()
    np.testing.assert_array_equal(first[..., :3], first[..., 3:])
    np.testing.assert_array_equal(then[..., :3], first[..., 3:])
    assert (then[..., 3:] != then[..., :3]).any()


@pytest.mark.parametrize(
    "task, options, words",
    [
        ("gym_CartPole-v1", {"stack": 2}, "env.stack is 2, and this task shows no image"),
        ("atari_pong", {"stack": 4}, "env.stack is for other tasks than 'atari_pong'"),
    ],
)
def test_where_there_is_nothing_to_stack(task, options, words):
    with pytest.raises(UserError, match=words):
        make(task, EnvConfig(**options), 0)


def test_the_environment_is_otherwise_its_own():
    envs = make(Counter, EnvConfig(stack=2), 0)
    assert envs.local(0).action_repeat == 1
    assert getattr(envs.local(0), "there_is_no_such_thing", None) is None
    envs.close()
