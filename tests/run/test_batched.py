"""Trained agents in the loops of others: the calls that Stable-Baselines3's evaluation makes."""

from __future__ import annotations

import dataclasses

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

import dreamer
from common.errors import UserError
from common.export import export
from common.nets.heads import HeadConfig
from common.planner import PlannerConfig
from common.run.batched import BatchedAgent
from common.run.driver import ActFunction, AgentPolicy
from common.run.loading import LoadedAgent
from common.spaces import action_spec, observation_specs
from dreamer.agent import make_agent
from dreamer.config import ActorConfig, Config
from planet.agent import make_agent as make_planet
from planet.config import Config as PlanetConfig
from planet.program import load_program as load_planet
from tests.tiny import TINY, random_params

DREAMER = Config(
    world_model=TINY, actor=ActorConfig(layers=1, units=8), critic=HeadConfig(layers=1, units=8)
)
PLANET = PlanetConfig(
    world_model=dataclasses.replace(TINY, predict_discount=False),
    planner=PlannerConfig(horizon=3, iterations=2, candidates=8, top=3),
)
MAZE = Dict(
    image=Box(0, 255, (32, 32, 1), np.uint8),
    pose=Dict(at=Box(-1, 1, (2,)), room=Discrete(3, start=1)),
)


def exported(path, name, config, make, observations, actions):
    """Writes an agent with random weights."""
    specs = observation_specs(observations), action_spec(actions)
    agent = make(config, *specs)
    params = random_params(lambda key: agent.params(agent.init(key)))
    export(path, name, config, *specs, params)
    return agent, params


def trained(path, task):
    """A Dreamer that could be trained on a task of Gymnasium."""
    env = gymnasium.make(task)
    exported(path, "dreamer", DREAMER, make_agent, env.observation_space, env.action_space)
    return dreamer.load(path)


class Environments:
    """Steps environments as Stable-Baselines3 does: the row after an end is that of a reset."""

    def __init__(self, task, amount):
        self.num_envs = amount
        self._envs = [gymnasium.make(task) for _ in range(amount)]

    def reset(self):
        return np.stack([env.reset(seed=i)[0] for i, env in enumerate(self._envs)])

    def step(self, actions):
        rows, rewards, dones = (
            [],
            np.zeros(self.num_envs, np.float32),
            np.zeros(self.num_envs, bool),
        )
        for i, env in enumerate(self._envs):
            assert env.action_space.contains(actions[i])
            row, rewards[i], terminated, truncated, _ = env.step(actions[i])
            dones[i] = terminated or truncated
            rows.append(env.reset()[0] if dones[i] else row)
        return np.stack(rows), rewards, dones, [{}] * self.num_envs


def evaluate(model, env, episodes):
    """The calls of ``stable_baselines3.common.evaluation.evaluate_policy``, in their order.

    Whoever has had all episodes is not looked at any more, and the array of starts is changed
    in place.
    """
    amount = env.num_envs
    counts, returns = np.zeros(amount, int), []
    targets = np.array([(episodes + i) // amount for i in range(amount)])
    sums = np.zeros(amount)
    observations, states, starts = env.reset(), None, np.ones((amount,), dtype=bool)
    while (counts < targets).any():
        actions, states = model.predict(
            observations, state=states, episode_start=starts, deterministic=True
        )
        observations, rewards, dones, _ = env.step(actions)
        sums += rewards
        for i in range(amount):
            if counts[i] < targets[i]:
                starts[i] = dones[i]
                if dones[i]:
                    returns.append(sums[i])
                    counts[i] += 1
                    sums[i] = 0
    return returns


def test_the_evaluation_of_another_library(tmp_path):
    agent = trained(tmp_path / "export.npz", "CartPole-v1")
    returns = evaluate(agent.batched(2), Environments("CartPole-v1", 2), 5)
    assert len(returns) == 5 and all(5 < one <= 500 for one in returns)


def test_the_real_stable_baselines(tmp_path):
    pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    for task, most in (("CartPole-v1", 500), ("Pendulum-v1", 0)):
        agent = trained(tmp_path / "export.npz", task)
        envs = make_vec_env(task, n_envs=3, seed=0)
        returns, lengths = evaluate_policy(
            agent.batched(3), envs, n_eval_episodes=4, return_episode_rewards=True
        )
        assert len(returns) == len(lengths) == 4 and max(returns) <= most


def test_it_acts_as_in_evaluations_of_a_run(tmp_path):
    """By the policy that evaluations use, given the rows of the same observations."""
    space = Box(-0.1, 0.1, (2,), np.float64)
    agent, params = exported(tmp_path / "export.npz", "dreamer", DREAMER, make_agent, MAZE, space)
    loaded = dreamer.load(tmp_path)
    batched, state = loaded.batched(2, seed=7), None
    assert isinstance(batched, BatchedAgent)
    policy = AgentPolicy(ActFunction(agent), params, 2, 7, "eval")
    MAZE.seed(0)
    starts = [[True, True], [False, False], [False, True], [False, False]]
    for step, start in enumerate(starts):
        both = [MAZE.sample(), MAZE.sample()]
        observation = jax.tree.map(lambda *x: np.stack(x), *both)
        start = np.array(start)
        actions, state = batched.predict(
            observation, state, start if step else None, deterministic=True
        )
        start_was = start.copy()
        start[:] = True
        rooms = np.eye(3, dtype=np.float32)[[one["pose"]["room"] - 1 for one in both]]
        rows = {
            "image": observation["image"],
            "pose/at": observation["pose"]["at"],
            "pose/room": rooms,
            "is_first": start_was,
        }
        flat = policy(rows)
        np.testing.assert_allclose(actions, 0.1 * flat, atol=1e-6)
        assert actions.dtype == np.float64 and all(map(space.contains, actions))


def test_sampling_draws_anew_for_every_environment(tmp_path):
    agent = trained(tmp_path / "export.npz", "Pendulum-v1")
    observation = np.zeros((3, 3), np.float32)
    first, second = agent.batched(3), agent.batched(3, seed=1)
    drawn = [first.predict(observation)[0], first.predict(observation)[0]]
    drawn += [second.predict(observation)[0], agent.batched(3).predict(observation)[0]]
    assert len(np.unique(drawn[:3])) == 9
    np.testing.assert_array_equal(drawn[0], drawn[3])


def test_a_planner_searches_in_every_environment(tmp_path):
    env = gymnasium.make("Pendulum-v1")
    spaces = env.observation_space, env.action_space
    exported(tmp_path / "export.npz", "planet", PLANET, make_planet, *spaces)
    agent = LoadedAgent(load_planet(), tmp_path).batched(2)
    envs, state = Environments("Pendulum-v1", 2), None
    observation = envs.reset()
    for _ in range(2):
        actions, state = agent.predict(observation, state, None, deterministic=True)
        assert actions.shape == (2, 1) and actions.dtype == np.float32
        assert actions[0] != actions[1]
        observation, *_ = envs.step(actions)


def test_actions_of_a_dict_are_a_list(tmp_path):
    actions = Dict(turn=Discrete(3), push=Box(0, 9, (1,), np.int32))
    exported(tmp_path / "export.npz", "dreamer", DREAMER, make_agent, Box(-1, 1, (2,)), actions)
    chosen, _ = dreamer.load(tmp_path).batched(2).predict(np.zeros((2, 2), np.float32))
    assert len(chosen) == 2 and all(map(actions.contains, chosen))


def test_what_does_not_fit_is_named(tmp_path):
    space = Box(-1, 1, (2,))
    exported(tmp_path / "export.npz", "dreamer", DREAMER, make_agent, MAZE, space)
    agent = dreamer.load(tmp_path)
    good = jax.tree.map(lambda x: np.stack([x, x]), MAZE.sample())
    cases = [
        ({"image": good["image"]}, "the observation lacks pose/at, pose/room"),
        (
            good | {"image": good["image"][:1]},
            "'image' has shape .*; expected one for each of the 2",
        ),
        (
            good | {"image": good["image"] / 255},
            "'image' is float64; expected uint8, from 0 to 255",
        ),
        (good | {"image": np.moveaxis(good["image"], -1, 1)}, "'image' has shape"),
        (good | {"pose": good["pose"] | {"room": np.array([0, 1])}}, r"has \[3\] choices"),
    ]
    for observation, message in cases:
        with pytest.raises(UserError, match=message):
            agent.batched(2).predict(observation)
    with pytest.raises(UserError, match=r"episode_start has shape \(3,\); expected \(2,\)"):
        agent.batched(2).predict(good, None, np.ones(3, bool))
    with pytest.raises(UserError, match="num_envs is 0; expected at least 1"):
        agent.batched(0)
    with pytest.raises(UserError, match="'image' is float64"):
        agent.act(MAZE.sample() | {"image": good["image"][0] / 255})
