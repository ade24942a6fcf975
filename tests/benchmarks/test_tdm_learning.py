"""What experiments compute, on models and data whose answers are known."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.tdm import contenders, ensemble, open_loop
from benchmarks.tdm.contenders import Fitted
from benchmarks.tdm.ensemble import EnsembleConfig
from benchmarks.tdm.fitting import Fitting, fit
from benchmarks.tdm.scale import Scale
from common.errors import UserError
from common.replay.bodies import Bodies
from common.tokens.steps import Steps
from planet.model import Memory, PlannedModel
from tests.benchmarks.tdm_linear import GAIN, PLANE, linear_episode, linear_episodes

SCALE = Scale(*map(np.float32, ([-3, -5, -1], [3, 4, 2], [1, -2, 0.5], [2, 0.5, 3], [0.2, 0.4, 1])))
SIZES = 2, 1
CONTEXT = 3


@pytest.mark.parametrize("updates", [2, 40])
def test_the_learning_rate_rises_and_falls(updates):
    """With a gradient of 1 Adam moves by the rate of each update; the loss is the last tenth's."""
    loss = lambda fitted, key, steps: (fitted.weights, {})  # noqa: E731
    model = PlannedModel(lambda key: jnp.zeros(()), loss, None, None, None, None)
    bodies = Bodies({"plane": linear_episodes(0, 2)})
    fitting = Fitting(updates=updates, batch=2, window=2, lr=0.1)
    found = fit(model, bodies, SCALE, fitting, 0)
    warm = max(updates // 20, 1)
    fall = [(1 + math.cos(math.pi * n / (updates - warm))) / 2 for n in range(updates - warm)]
    rates = 0.1 * np.array([n / warm for n in range(warm)] + fall)
    weights = -np.concatenate([[0], np.cumsum(rates)])
    assert float(found.fitted.weights) == pytest.approx(weights[-1], rel=1e-4)
    tail = max(updates // 10, 1)
    assert found.loss == pytest.approx(weights[-1 - tail : -1].mean(), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", ["updates", "window"])
def test_a_single_update_or_row_is_too_few(name):
    """A rate cannot rise and fall in one update; one row leads nowhere."""
    Fitting(**{name: 2})
    with pytest.raises(UserError, match=f"{name} is 1; expected"):
        Fitting(**{name: 1})


def linear_ensemble(members=3):
    """Networks without hidden layers, as matrices over (observation, action)."""
    functions = ensemble.functions(EnsembleConfig(members, 0, 1), *SIZES)
    rng, shapes = np.random.default_rng(0), jax.eval_shape(functions.init, jax.random.key(0))
    weights = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)
    matrix, bias = sorted(jax.tree.leaves(weights), key=np.ndim, reverse=True)
    return functions, weights, matrix, bias


def test_each_network_predicts_the_change_and_the_reward():
    """In units of the scale, and learns them; of one transition nothing else can be drawn."""
    functions, weights, matrix, bias = linear_ensemble()
    rng = np.random.default_rng(1)
    before, after = rng.normal(size=(2, 2))
    action, reward = rng.normal(size=1), rng.normal()
    want, losses = [], []
    for member in range(3):
        seen = np.concatenate([(before - [1, -2]) / [2, 0.5], action])
        out = seen @ matrix[member] + bias[member]
        want.append([*(before + np.array([0.2, 0.4]) * out[:2]), 0.5 + 3 * out[2]])
        target = [*((after - before) / [0.2, 0.4]), (reward - 0.5) / 3]
        losses.append(np.square(out - target).mean())
    three = lambda x: np.broadcast_to(np.float32(x), (3, 1, len(x)))  # noqa: E731
    observation, rewards = jax.jit(functions.step)(weights, SCALE, three(before), three(action))
    found = np.concatenate([observation[:, 0], rewards], 1)
    np.testing.assert_allclose(found, want, rtol=1e-4)

    learn = jax.jit(functions.loss)

    def loss(is_first):
        steps = Steps(
            np.float32([[before, after]]), np.float32([[[9], action]]), np.float32([[9, reward]]),
            np.array([[True, is_first]]), np.ones((1, 2), bool), np.ones((1, 1), bool),
        )  # fmt: skip
        return float(learn(weights, SCALE, jax.random.key(0), steps))

    assert loss(False) == pytest.approx(np.mean(losses), rel=1e-4)
    assert loss(True) == 0


@pytest.mark.parametrize(("side", "border"), [(1, [3, 4]), (-1, [-3, -5])])
def test_imagined_observations_stay_where_any_were_seen(side, border):
    """A network that runs away to one side is stopped there; its rewards are not."""
    _, weights, _, _ = linear_ensemble(members=1)
    wild = jax.tree.map(lambda x: np.full_like(x, 100 * side * (x.ndim == 2)), weights)
    model = contenders.make_ensemble(EnsembleConfig(1, 0, 1), CONTEXT, *SIZES)
    imagine = jax.jit(
        lambda start, actions: model.imagine(Fitted(wild, SCALE), None, start, actions)
    )
    observation, reward = imagine(np.zeros((5, 2)), np.zeros((5, 4, 1)))
    np.testing.assert_allclose(observation, np.broadcast_to(border, (5, 4, 2)))
    np.testing.assert_allclose(reward, np.full((5, 4), 0.5 + 300 * side))


def test_windows_are_drawn_alike_from_all_places():
    """Of 15 and of 3 places in two episodes; a third one is too short."""
    rng, length = np.random.default_rng(0), 6
    episodes = [linear_episode(rng, rows, (10.0 * n, 0)) for n, rows in enumerate((20, 8, 5))]
    windows = open_loop.cut_windows(episodes, 360, length, SIZES, 0)
    first = [tuple(row) for row in windows.observation[:, 0].tolist()]
    places = [tuple(row) for one in episodes for row in one["state"].tolist()[: 1 - length]]
    assert set(first) == set(places) and len(places) == 18
    counts = np.array([first.count(place) for place in places])
    assert counts.min() > 3 and counts.max() < 50
    offset = np.array([10, 0]) * (windows.observation[:, :1, :1] > 5)
    state = windows.observation - offset
    after = state[:, :-1] @ PLANE.T + windows.action[:, 1:] @ GAIN.T
    np.testing.assert_allclose(state[:, 1:], after, atol=1e-4)
    reward = 3 - np.square(state).sum(-1) / 2
    np.testing.assert_allclose(windows.reward[:, 1:], reward[:, 1:], atol=1e-4)


def test_errors_are_those_of_the_rows_behind_the_context():
    """A model that knows the system, but adds one deviation to observations, two to rewards."""

    def imagine(fitted, key, start, actions):
        state, states = start, []
        for action in actions[..., :1].swapaxes(0, 1):
            state = state @ PLANE.T + action @ GAIN.T
            states.append(state)
        states = jnp.stack(states, 1)
        reward = 3 - jnp.square(states).sum(-1) / 2
        states = jnp.concatenate([states + scale.std[:2], 99 + 0 * states[..., :1]], -1)
        return states, reward + 2 * scale.std[-1]

    scale = Scale(*(np.float32(x) for x in ([-9] * 4, [9] * 4, [0] * 4, [2, 0.5, 1, 3], [1] * 4)))
    start = lambda fitted, keys, steps: steps.observation[:, -1, :2]  # noqa: E731
    model = PlannedModel(None, None, Memory(None, None), start, imagine, None)
    windows = open_loop.cut_windows(linear_episodes(0, 3), 8, CONTEXT + 4, (3, 2), 0)
    observation, reward = open_loop.errors(model, None, windows, CONTEXT, scale, 0)
    # An entry that the body lacks is no error, whatever is predicted.
    np.testing.assert_allclose(observation, [1] * 4, rtol=1e-4)
    np.testing.assert_allclose(reward, [2] * 4, rtol=1e-4)
