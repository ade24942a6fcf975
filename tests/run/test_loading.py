"""Loaded agents act as the agent that was exported."""

from __future__ import annotations

import dataclasses

import gymnasium
import jax
import numpy as np
import pytest

import dreamer
from common.agent import Agent
from common.envs.gym import adapt
from common.errors import UserError
from common.export import EXPORT, export
from common.nets.heads import HeadConfig
from common.rows import observation_entries
from common.run.loading import LoadedAgent
from common.run.program import Program
from common.spaces import ObservationSpec, action_spec, observation_specs
from dreamer.agent import make_agent
from dreamer.config import ActorConfig, Config
from planet.program import load_program as load_planet
from tests.tiny import TINY, random_params

CONFIG = Config(
    world_model=dataclasses.replace(TINY, predict_discount=False),
    actor=ActorConfig(layers=1, units=8),
    critic=HeadConfig(layers=1, units=8),
)
SPACE = gymnasium.spaces.Dict(
    image=gymnasium.spaces.Box(0, 255, (32, 32, 1), np.uint8),
    sensors=gymnasium.spaces.Dict(gear=gymnasium.spaces.Discrete(3)),
)
BOX = gymnasium.spaces.Box(-2.0, 4.0, (2,))


@pytest.fixture(scope="module")
def agent() -> Agent:
    return make_agent(CONFIG, observation_specs(SPACE), action_spec(BOX))


@pytest.fixture(scope="module")
def params(agent):
    return random_params(lambda key: agent.params(agent.init(key)))


@pytest.fixture(scope="module")
def folder(params, tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    export(path / EXPORT, "dreamer", CONFIG, observation_specs(SPACE), action_spec(BOX), params)
    return path


@pytest.fixture(scope="module")
def observations():
    SPACE.seed(0)
    return [SPACE.sample() for _ in range(3)]


def test_parameters_of_another_shape_are_refused(agent, params, tmp_path):
    name, layer = next(iter(params["actor"].items()))
    key = next(key for key, value in layer.items() if value.ndim == 2)
    wrong = {**params, "actor": {**params["actor"], name: {**layer, key: layer[key][:1]}}}
    specs = observation_specs(SPACE), action_spec(BOX)
    export(tmp_path / EXPORT, "dreamer", CONFIG, *specs, wrong)
    with pytest.raises(UserError, match=r"holds 'actor\|.*' as float \(1, .*export it again"):
        dreamer.load(tmp_path)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_acts_as_the_exported_agent(mode, agent, params, folder, observations):
    loaded = dreamer.load(folder, seed=5)
    assert loaded.config == CONFIG
    act = jax.jit(agent.act, static_argnames="mode")
    key, want, carry = jax.random.key(5), agent.initial_carry(1), None
    for step, observation in enumerate(observations):
        action, carry = loaded.act(observation, carry, mode=mode)
        rows = {
            "image": observation["image"][None],
            "sensors/gear": np.eye(3, dtype=np.float32)[[observation["sensors"]["gear"]]],
            "is_first": np.array([step == 0]),
        }
        key, now = jax.random.split(key)
        expected, want = act(params, now, want, rows, mode=mode)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), carry, want)
        np.testing.assert_allclose(action, 1 + 3 * np.asarray(expected[0]), atol=1e-5)
        assert BOX.contains(action)


def test_a_new_episode_forgets(folder, observations):
    loaded = [dreamer.load(folder, seed=1) for _ in range(2)]
    loaded[0].act(observations[0])
    used = loaded[0].act(observations[1])
    loaded[1].act(observations[2])
    fresh = loaded[1].act(observations[1])
    jax.tree.map(np.testing.assert_array_equal, used, fresh)


def test_an_observation_of_another_kind(folder, observations):
    loaded = dreamer.load(folder)
    good = observations[0]
    with pytest.raises(UserError, match="lacks image"):
        loaded.act({"sensors": good["sensors"]})
    with pytest.raises(UserError, match="'image' has shape"):
        loaded.act({**good, "image": np.zeros((64, 64, 1), np.uint8)})
    loaded.act({**good, "more": np.zeros(3)})


@pytest.mark.parametrize("carry", [5, (), {"action": 1}])
def test_a_memory_that_is_not_the_agents(folder, observations, carry):
    loaded = dreamer.load(folder)
    for ask in (loaded.act, loaded.value):
        with pytest.raises(UserError, match="the agent's memory is .*; expected what its last"):
            ask(observations[0], carry)
    twice = jax.tree.map(lambda x: np.stack([x, x]), observations[0])
    _, of_two = loaded.batched(2).predict(twice)
    with pytest.raises(UserError, match="expected what its last call returned, for as many"):
        loaded.act(observations[0], of_two)


def test_an_observation_that_is_not_finite():
    specs = {"sensors": ObservationSpec((2,), "vector")}
    for bad in (np.nan, -np.inf):
        with pytest.raises(UserError, match=f"'sensors' holds {bad}; expected finite numbers"):
            observation_entries(np.array([0, bad]), specs)


def test_the_number_of_environments_is_a_number(folder):
    with pytest.raises(UserError, match="num_envs is '3'; expected at least 1"):
        dreamer.load(folder).batched("3")


def test_an_agent_of_another_program(folder):
    with pytest.raises(UserError, match="dreamer"):
        LoadedAgent(Program("planet", CONFIG, make_agent), folder)


def test_a_missing_run(tmp_path):
    with pytest.raises(UserError, match="no trained agent"):
        dreamer.load(tmp_path)


def test_choices_are_encoded_as_in_training(tmp_path):
    """One-hot vectors of spaces that start anywhere, by the environment and by the loaded agent."""
    spaces = gymnasium.spaces
    space = spaces.Dict(
        gear=spaces.Discrete(3, start=-1), keys=spaces.MultiDiscrete([2, 3], start=[0, 5])
    )
    specs = observation_specs(space)
    params = random_params(lambda key: make_agent(CONFIG, specs, action_spec(BOX)).init(key).params)
    export(tmp_path / EXPORT, "dreamer", CONFIG, specs, action_spec(BOX), params)
    loaded = dreamer.load(tmp_path)
    assert loaded.observations == specs
    observation = {"gear": np.int64(1), "keys": np.array([1, 6])}
    rows = loaded._rows(observation)
    np.testing.assert_array_equal(rows["gear"], [[0, 0, 1]])
    np.testing.assert_array_equal(rows["keys"], [[0, 1, 0, 1, 0]])
    seen = {key: adapt(key, observation[key], space[key], specs[key]) for key in specs}
    jax.tree.map(np.testing.assert_array_equal, rows, {k: v[None] for k, v in seen.items()})
    with pytest.raises(UserError, match=r"'gear' is 2; its space has \[3\] choices"):
        loaded.act({**observation, "gear": 2})


def test_choices_of_actions_start_anywhere():
    space = gymnasium.spaces.MultiDiscrete([2, 3], start=[4, -1])
    decoded = action_spec(space).decode(np.array([0, 1, 1, 0, 0], np.float32))
    np.testing.assert_array_equal(decoded, [5, -1])
    assert space.contains(decoded)


def test_the_value_of_observations_and_states(agent, params, folder, observations):
    """By hand: the critic's mean at the state that acting infers, and acting is not disturbed."""
    loaded, silent = dreamer.load(folder, seed=5), dreamer.load(folder, seed=5)
    carry = None
    for observation in observations[:2]:
        value = loaded.value(observation, carry)
        action, after = loaded.act(observation, carry)
        again, carry = silent.act(observation, carry)
        np.testing.assert_array_equal(action, again)
        assert isinstance(value, float)
        assert value == pytest.approx(loaded.value(after), rel=1e-5)
    states = jax.tree.map(lambda x: np.stack([x, x + 0.5], 1), carry.state)
    values = loaded.value(states)
    assert values.shape == (1, 2)
    both = jax.tree.map(lambda x: np.concatenate([x, x]), carry)
    np.testing.assert_allclose(loaded.value(both), [loaded.value(carry)] * 2, rtol=1e-6)
    np.testing.assert_allclose(values[0, 0], loaded.value(carry), rtol=1e-5)
    layers = params["critic"]["critic/dense0"], params["critic"]["critic/out"]
    feature = np.concatenate([np.reshape(states.stoch, (1, 2, -1)), states.deter], -1)
    hidden = feature @ layers[0]["kernel"] + layers[0]["bias"]
    hidden = np.where(hidden > 0, hidden, np.exp(hidden) - 1)
    want = (hidden @ layers[1]["kernel"] + layers[1]["bias"])[..., 0]
    np.testing.assert_allclose(values, want, rtol=1e-4, atol=1e-5)


def test_an_agent_without_a_value(folder):
    program = load_planet()
    with pytest.raises(UserError, match="learned no value"):
        LoadedAgent(program, folder).value(np.zeros(2))
