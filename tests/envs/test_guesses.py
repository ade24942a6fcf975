import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from hypothesis import given, settings
from hypothesis import strategies as st

from common.envs.channels import ChannelsLast
from common.envs.guesses import check_images, doubts
from common.envs.gym import GymEnv
from common.errors import UserError
from tests.envs.toys import Fixed

SIDES = st.integers(32, 100)


def images(*shape, dtype=np.uint8):
    """An image space."""
    return {"x": Box(0, 255, shape, dtype)}


@settings(max_examples=50, deadline=None)
@given(SIDES, SIDES, st.integers(1, 31))
def test_images_and_stacks_with_channels_last_are_fine(height, width, channels):
    for spaces in (images(height, width, channels), images(height, width)):
        check_images(spaces)
        assert not doubts(spaces)


@settings(max_examples=50, deadline=None)
@given(SIDES, SIDES, st.integers(1, 31))
def test_channels_first_are_recognised_and_the_other_order_named(height, width, channels):
    with pytest.raises(
        UserError, match="channels first.*--env.channels first.*transpose"
    ) as caught:
        check_images(images(channels, height, width))
    assert str((height, width, channels)) in str(caught.value)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 31), st.integers(1, 31), st.integers(1, 31))
def test_small_grids_are_told_to_flatten(height, width, channels):
    with pytest.raises(UserError, match=f"is {height}x{width}.*resize.*flatten"):
        check_images(images(height, width, channels))


@settings(max_examples=50, deadline=None)
@given(SIDES, SIDES, st.integers(1, 31), st.sampled_from([np.float32, np.int64]))
def test_images_of_another_type_are_in_doubt(height, width, channels, dtype):
    for shape in [(height, width, channels), (channels, height, width)]:
        words = doubts(images(*shape, dtype=dtype))["x"]
        assert "looks like an image" in words and str((height, width, channels)) in words
    stack = doubts(images(channels, height, width, 3))["x"]
    assert "stack of images" in stack and f"{channels * height * width * 3:,}" in stack


@pytest.mark.parametrize("shape", [(), (3,), (128,), (4, 5), (2, 3, 4), (40, 5), (2, 2, 2, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_vectors_and_small_matrices_are_not(shape, dtype):
    assert not doubts({**images(*shape, dtype=dtype), "y": Discrete(3)})
    check_images(images(*shape, dtype=dtype))


def test_channels_first_become_last():
    space = Box(0, 255, (3, 40, 50), np.uint8)
    toy = Fixed(space)
    env = GymEnv(toy, seed=0, channels="first")
    rows = [env.reset(), env.step(np.array([1, 0], np.float32))]
    assert env.observation_specs["image"].shape == (40, 50, 3)
    for row, shown in zip(rows, toy.shown, strict=True):
        np.testing.assert_array_equal(row["image"], shown.transpose(1, 2, 0))


def test_only_images_are_turned_in_nested_observations():
    inner = {"image": Box(0, 255, (1, 40, 50), np.uint8), "flat": Box(0, 255, (40, 50), np.uint8)}
    toy = Fixed(Dict({"a": Dict(inner), "b": Box(0, 1, (2, 3, 4)), "c": Discrete(2)}))
    env = ChannelsLast(toy)
    observation, _ = env.reset(seed=1)
    assert env.observation_space.contains(observation)
    assert observation["a"]["image"].shape == (40, 50, 1)
    np.testing.assert_array_equal(observation["a"]["flat"], toy.shown[0]["a"]["flat"])
    np.testing.assert_array_equal(observation["b"], toy.shown[0]["b"])
    assert observation["c"] == toy.shown[0]["c"]


def test_a_wrong_observation_is_still_named():
    toy = Fixed(Box(0, 255, (3, 40, 50), np.uint8))
    toy.observe = lambda: np.zeros(7, np.uint8)
    with pytest.raises(UserError, match=r"has shape \(7,\); its space declares \(40, 50, 3\)"):
        GymEnv(toy, seed=0, channels="first").reset()
