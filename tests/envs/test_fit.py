import json

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete

from common.envs import EnvConfig, make
from common.envs.fit import check_fits
from common.errors import UserError
from common.export import specs_from_json, specs_to_json
from common.spaces import action_spec, observation_specs
from tests.envs.toys import Fixed

VECTOR = Box(-1, 1, (3,))
ACTIONS = Discrete(2)
OBSERVATIONS = [
    VECTOR, Box(-1, 1, (4,)), Discrete(3), Discrete(3, start=1), MultiDiscrete([1, 2]),
    Box(0, 255, (32, 32, 3), np.uint8), Box(0, 255, (32, 32, 1), np.uint8), Dict({"a": VECTOR}),
    Dict({"vector": VECTOR, "z": VECTOR}),
]  # fmt: skip
CHOICES = [
    ACTIONS, Discrete(3), Discrete(2, start=5), MultiDiscrete([2]), Box(-1, 1, (2,)),
    Box(-1, 1, (1, 2)), Box(-2, 2, (2,)), Box(np.array([-1, 0], np.float32), 1), Dict(a=ACTIONS),
]  # fmt: skip


def envs_of(observations: gymnasium.Space, actions: gymnasium.Space):
    """Environments of these spaces."""
    env = Fixed(observations)
    env.action_space = actions
    return make(lambda: env, EnvConfig(workers="none"), 0)


def trained(observations: gymnasium.Space, actions: gymnasium.Space):
    """What an export says of an agent."""
    plain = specs_to_json(observation_specs(observations), action_spec(actions))
    return specs_from_json(json.loads(json.dumps(plain)))


@pytest.mark.parametrize("now", range(len(OBSERVATIONS)))
@pytest.mark.parametrize("before", range(len(OBSERVATIONS)))
def test_other_observations_are_refused_and_equal_ones_are_not(before, now):
    specs = trained(OBSERVATIONS[before], ACTIONS)
    envs = envs_of(OBSERVATIONS[now], ACTIONS)
    if before == now:
        return check_fits(*specs, envs, "the agent")
    with pytest.raises(UserError, match="the agent was trained on other .*: observation '"):
        check_fits(*specs, envs, "the agent")


@pytest.mark.parametrize("now", range(len(CHOICES)))
@pytest.mark.parametrize("before", range(len(CHOICES)))
def test_other_actions_are_refused_and_equal_ones_are_not(before, now):
    specs = trained(VECTOR, CHOICES[before])
    envs = envs_of(VECTOR, CHOICES[now])
    if before == now:
        return check_fits(*specs, envs, "the agent")
    with pytest.raises(UserError, match="was trained on other observations or actions: action"):
        check_fits(*specs, envs, "the agent")


def test_every_difference_is_named_in_one_line():
    before = trained(Dict({"a": VECTOR, "b": VECTOR}), Discrete(2))
    envs = envs_of(Dict({"b": Box(-1, 1, (4,)), "c": Box(0, 255, (32, 40), np.uint8)}), Discrete(3))
    with pytest.raises(UserError) as caught:
        check_fits(*before, envs, "x")
    assert str(caught.value) == (
        "x was trained on other observations or actions: observation 'a' was 3 numbers, now "
        "missing; observation 'b' was 3 numbers, now 4 numbers; action was one of 2 choices from "
        "0, now "
        "one of 3 choices from 0; observation 'c' was missing, now an image 32x40x1"
    )
