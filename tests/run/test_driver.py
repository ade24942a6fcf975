"""The driver: rows in the convention of the replay, episodes, and what policies see."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from common.envs import EnvConfig, make
from common.errors import UserError
from common.run.driver import ActFunction, AgentPolicy, Driver, EpisodeMeter, RandomPolicy
from tests.envs.known import Echo
from tests.envs.toys import Counter
from tests.fake_agent import Config, make_agent


def echo(num_envs=2, **kwargs):
    """Environments whose reward is the action."""
    return make(Echo, EnvConfig(workers="none", kwargs=kwargs), 0, num_envs=num_envs)


def collect(driver, policy, steps):
    """Rows ``[T, N, ...]``."""
    rows = []
    for _ in range(steps):
        driver.act(policy)
        rows.append(driver.receive())
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def test_action_of_a_row_is_the_one_that_led_to_it():
    envs = echo(end=3)
    rows = collect(Driver(envs), RandomPolicy(envs.action_spec, 0), 13)
    assert rows["action"].shape == (13, 2, 1)
    np.testing.assert_array_equal(rows["is_first"][:, 0], [t % 4 == 0 for t in range(13)])
    # Echo pays the action; a reset row has neither reward nor action.
    np.testing.assert_allclose(rows["reward"], rows["action"][..., 0], rtol=1e-6)
    assert (rows["action"][rows["is_first"]] == 0).all()
    assert (rows["action"][~rows["is_first"]] != 0).all()


def test_episodes_are_added_up_for_each_environment():
    envs = echo(end=4)
    driver = Driver(envs)
    policy = RandomPolicy(envs.action_spec, 1)
    episodes, rewards = [], []
    for _ in range(10):
        driver.act(policy)
        rewards.append(driver.receive()["reward"])
        episodes += driver.episodes
    assert [(e.env, e.length) for e in episodes] == [(0, 4), (1, 4)] * 2
    returns = np.stack(rewards)
    for number, episode in enumerate(episodes):
        start = 5 * (number // 2)
        expected = returns[start : start + 5, episode.env].sum()
        assert episode.episode_return == pytest.approx(expected, rel=1e-5)
        assert episode.extras == {"log/twice": pytest.approx(2 * expected, rel=1e-5)}


def test_meter_forgets_an_unfinished_episode_at_a_reset():
    meter = EpisodeMeter(1)
    row = {"reward": np.ones(1), "is_first": np.array([False]), "is_last": np.array([False])}
    meter.add(row)
    meter.add(row | {"is_first": np.array([True]), "reward": np.zeros(1)})
    (episode,) = meter.add(row | {"is_last": np.array([True])})
    assert (episode.episode_return, episode.length) == (1.0, 1)


def test_random_actions_cover_the_space_and_repeat_by_seed():
    spec = make(Counter, EnvConfig(workers="none"), 0).action_spec
    rows = {"is_first": np.zeros(500, bool)}
    actions = RandomPolicy(spec, 3)(rows)
    assert actions.shape == (500, spec.size)
    np.testing.assert_array_equal(actions, RandomPolicy(spec, 3)(rows))
    decoded = [spec.decode(action) for action in actions]
    assert {action["jump"] for action in decoded} == {0, 1}
    assert len({tuple(action["keys"]) for action in decoded}) == 2 * 3
    assert min(action["move"][0] for action in decoded) < 0.1
    assert max(action["move"][0] for action in decoded) > 1.9


def test_policy_keeps_key_and_memory_and_never_sees_the_log():
    envs = echo(num_envs=3)
    agent = make_agent(Config(), envs.observation_specs, envs.action_spec)
    params = agent.params(agent.init(jax.random.key(0)))
    traces = []

    def act(*args):
        traces.append(1)
        return agent.act(*args)

    function = ActFunction(agent._replace(act=act))
    policy = AgentPolicy(function, params, 3, seed=0, mode="train")
    driver = Driver(envs)
    rows = collect(driver, policy, 6)  # The fake agent itself checks the keys.
    assert len(np.unique(rows["action"][1:])) == 15
    np.testing.assert_array_equal(policy._carry, 4)
    evaluating = AgentPolicy(function, params, 3, seed=0, mode="eval")
    np.testing.assert_array_equal(evaluating(row_of(rows)), 0.5)
    assert len(traces) == 2  # Once for each mode.


def row_of(rows):
    """The last row, without the action."""
    return {key: value[-1] for key, value in rows.items() if key != "action"}


def test_compiling_is_announced_once_for_each_mode(capsys):
    envs = echo()
    agent = make_agent(Config(), envs.observation_specs, envs.action_spec)
    params = agent.params(agent.init(jax.random.key(0)))
    function = ActFunction(agent, announce=True)
    collect(Driver(envs), AgentPolicy(function, params, 2, 0, "train"), 4)
    collect(Driver(envs), AgentPolicy(function, params, 2, 0, "eval"), 4)
    printed = capsys.readouterr().out
    assert printed.count("compiling the policy (train, 2 environment(s)) ... ") == 1
    assert printed.count("compiling the policy (eval, 2 environment(s)) ... ") == 1


def test_actions_that_are_not_finite_are_a_clear_error():
    envs = echo()
    driver = Driver(envs)
    driver.act(None)
    driver.receive()
    with pytest.raises(UserError, match=r"(?s)non-finite action .*learning diverged"):
        driver.act(lambda rows: np.full((2, 1), np.nan))
