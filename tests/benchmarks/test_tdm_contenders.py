import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.tdm import contenders, open_loop, play, trial
from benchmarks.tdm.ensemble import EnsembleConfig
from benchmarks.tdm.fitting import Fitting, fit
from benchmarks.tdm.presets import PRESETS
from benchmarks.tdm.scale import Scale, measure
from common.dynamics.kl import KLConfig
from common.dynamics.rssm import RSSMConfig
from common.model.config import WorldModelConfig
from common.nets.coders import DecoderConfig, EncoderConfig
from common.nets.heads import HeadConfig
from common.planner import PlannerConfig
from common.replay.bodies import Bodies
from common.spaces import ActionPart, ActionSpec
from common.tokens.config import TDMConfig
from planet.model import PlannedModel
from tests.benchmarks.tdm_linear import linear_episodes

SIZES = 2, 1
OFFSET = (50.0, -20.0)
ACTIONS = ActionSpec((ActionPart((), "continuous", 1, (-1,), (1,), (1,)),))
CONTEXT, HORIZON = 3, 4
RSSM = WorldModelConfig(
    rssm=RSSMConfig(latent="gaussian", stoch=4, deter=16, hidden=16),
    encoder=EncoderConfig(layers=1, units=16),
    decoder=DecoderConfig(layers=1, units=16),
    reward=HeadConfig(layers=1, units=16),
    kl=KLConfig(scale=0.001, balance=0.8, free=0.0),
    predict_discount=False,
)
TOKENS = TDMConfig(
    tokeniser="uniform", bins=64, order="parallel", decode="mean", context=3, layers=1,
    heads=2, width=16, units=32,
)  # fmt: skip
CASES = {
    "ensemble": (
        lambda: contenders.make_ensemble(EnsembleConfig(3, 1, 32), CONTEXT, *SIZES),
        Fitting(updates=600, batch=16, window=8, lr=5e-3),
    ),
    "rssm": (
        lambda: contenders.make_rssm(RSSM, CONTEXT, *SIZES, 2),
        Fitting(updates=300, batch=16, window=16, lr=6e-3),
    ),
    "tdm": (
        lambda: contenders.make_tdm(TOKENS, CONTEXT, *SIZES),
        Fitting(updates=400, batch=16, window=5, lr=5e-3),
    ),
}


@functools.cache
def fitted(name):
    make, fitting = CASES[name]
    episodes = {"plane": linear_episodes(0, offset=OFFSET)}
    scale = measure(episodes, *SIZES)
    return make(), fit(make(), Bodies(episodes), scale, fitting, seed=1).fitted


@pytest.mark.parametrize(("name", "most"), [("ensemble", 0.2), ("rssm", 0.5), ("tdm", 0.6)])
def test_a_contender_learns_a_linear_system_around_an_offset(name, most):
    model, params = fitted(name)
    held_back = linear_episodes(1, count=10, offset=OFFSET)
    scale = measure({"plane": held_back}, *SIZES)
    windows = open_loop.cut_windows(held_back, 32, CONTEXT + HORIZON, SIZES, 0)
    error, _ = open_loop.errors(model, params, windows, CONTEXT, scale, 0)
    # To predict the mean of the data would be an error of about 1.
    assert error.mean() < most


@pytest.mark.parametrize("name", CASES)
def test_returns_of_candidates_are_sums_of_imagined_rewards(name):
    model, params = fitted(name)
    windows = open_loop.cut_windows(linear_episodes(2, 5, offset=OFFSET), 3, CONTEXT, SIZES, 0)
    key = jax.random.key(0)
    actions = jax.random.uniform(key, (3, 2, HORIZON, 1), minval=-1)
    if name == "rssm":  # Draws noise of its own in both; means over many candidates agree.
        actions = jnp.repeat(actions[:, :1], 300, 1)
    start = model.start(params, jax.random.split(key, 1), jax.tree.map(jnp.asarray, windows))
    returns = model.rollout(params, key, start, actions).returns()
    rewards = [model.imagine(params, key, start, actions[:, j])[1] for j in range(2)]
    wanted = np.stack([x.sum(-1) for x in rewards], 1)
    if name == "rssm":
        returns, wanted = returns.mean(1), wanted.mean(1)
        np.testing.assert_allclose(returns, wanted, atol=0.5)
    else:
        np.testing.assert_allclose(returns, wanted, rtol=1e-4)


def test_a_plan_holds_the_linear_system_near_its_best_place():
    model, params = fitted("ensemble")
    act = play.planning(
        model, PlannerConfig(horizon=4, iterations=3, candidates=64, top=8), ACTIONS
    )
    windows = open_loop.cut_windows(linear_episodes(3, 5, offset=OFFSET), 4, CONTEXT, SIZES, 0)
    carry = act.agent.initial_carry(4)
    for time in range(CONTEXT):
        rows = {
            "state": windows.observation[:, time],
            "reward": windows.reward[:, time],
            "is_first": np.full(4, time == 0),
        }
        _, action, carry = act(params, jax.random.key(time), carry, rows, mode="eval")
    state = windows.observation[:, -1] - np.array(OFFSET)
    # The second entry is pushed by 0.4 a after it turned by the first: push against it.
    ahead = -0.3 * state[:, 0] + 0.9 * state[:, 1]
    far = np.abs(ahead) > 0.3
    assert far.any() and (np.sign(np.asarray(action)[far, 0]) == -np.sign(ahead[far])).all()
    assert carry.belief.mean.shape == (4, 4, 1)
    assert carry.memory.observation.shape == (4, CONTEXT, 2)


def test_fine_tuning_goes_on_from_the_weights_and_keeps_the_scale():
    model, params = fitted("ensemble")
    episodes = {"plane": linear_episodes(4, count=3)}
    fitting = Fitting(updates=2, batch=4, window=4, lr=1e-6)
    after = fit(model, Bodies(episodes), params.scale, fitting, 0, start=params).fitted
    jax.tree.map(np.testing.assert_array_equal, after.scale, params.scale)
    for x, y in zip(jax.tree.leaves(after.weights), jax.tree.leaves(params.weights), strict=True):
        np.testing.assert_allclose(x, y, atol=4e-6)


def test_the_scale_is_that_of_numpy():
    episodes = linear_episodes(5, count=4)
    still = [dict(one, state=one["state"] * [1, 0]) for one in episodes]
    scale = measure({"plane": still}, 3, 2)
    states = np.concatenate([one["state"] for one in still])
    rewards = np.concatenate([one["reward"][1:] for one in still])
    np.testing.assert_allclose(scale.mean, [states[:, 0].mean(), 0, 0, rewards.mean()], rtol=1e-5)
    np.testing.assert_allclose(scale.std, [states[:, 0].std(), 1, 1, rewards.std()], rtol=1e-5)
    changes = np.concatenate([np.diff(one["state"][:, 0]) for one in still])
    np.testing.assert_allclose(scale.change[0], np.sqrt(np.square(changes).mean()), rtol=1e-5)
    # Some room on both sides: a twentieth, or 1 where nothing changes.
    room = 0.05 * np.ptp(states[:, 0])
    np.testing.assert_allclose(scale.low[:3], [states[:, 0].min() - room, -1, -1], rtol=1e-5)
    np.testing.assert_allclose(scale.high[:3], [states[:, 0].max() + room, 1, 1], rtol=1e-5)
    np.testing.assert_allclose(scale.high[3], rewards.max() + 0.05 * np.ptp(rewards), rtol=1e-5)
    np.testing.assert_allclose(
        scale.from_units(scale.units(states[:1, [0, 0, 0, 0]])), states[:1, [0] * 4], rtol=1e-4
    )


def test_the_normalised_error_is_that_of_a_loop():
    rng = np.random.default_rng(0)
    predicted, real = rng.normal(size=(2, 4, 3, 2))
    std = np.array([0.5, 2.0])
    found = open_loop.normalised_error(predicted, real, std)
    for step in range(3):
        total = 0.0
        for window in range(4):
            for entry in range(2):
                off = predicted[window, step, entry] - real[window, step, entry]
                total += (off / std[entry]) ** 2
        assert found[step] == pytest.approx((total / 8) ** 0.5)


def test_windows_are_real_rows_and_equal_for_equal_seeds():
    episodes = linear_episodes(6, count=3)
    first, again, other = (open_loop.cut_windows(episodes, 8, 6, (3, 2), s) for s in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert not np.array_equal(first.observation, other.observation)
    every = {tuple(row) for one in episodes for row in one["state"].round(4).tolist()}
    assert all(
        tuple(row) in every for row in first.observation[..., :2].round(4).reshape(-1, 2).tolist()
    )
    assert first.is_first[:, 0].all() and not first.is_first[:, 1:].any()
    assert first.has_observation.tolist() == [[True, True, False]] * 8


def test_transitions_into_first_rows_are_not_learned():
    """The ensemble: a jump to the next episode costs nothing, within an episode it would."""
    model, params = fitted("ensemble")
    windows = open_loop.cut_windows(linear_episodes(6, 3, offset=OFFSET), 4, 4, SIZES, 0)
    windows.observation[:, 3:] += 1e4
    key, is_first = jax.random.key(0), windows.is_first.copy()
    is_first[:, 3] = True
    within, across = (model.loss(params, key, windows._replace(is_first=x))[0]
                      for x in (windows.is_first, is_first))  # fmt: skip
    assert within > 1e4 and across < 10


def test_a_tokeniser_of_fixed_range_sees_the_data_through_its_scale():
    scale = Scale(*(np.float32([low] * 3) for low in (-3, 5, 0, 1, 1)))
    windows = open_loop.cut_windows(linear_episodes(7, 2), 2, 3, SIZES, 0)
    units = contenders.scaled(TOKENS, scale, windows)
    np.testing.assert_allclose(units.observation, (windows.observation + 3) / 4 - 1, rtol=1e-5)
    plain = TDMConfig(tokeniser="mu_law")
    assert contenders.scaled(plain, scale, windows) is windows


def test_jitter_moves_rows_by_its_share_of_their_deviation():
    seen = []

    def loss(fitted, key, steps):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), steps.observation)
        return jnp.sum(fitted.weights), {}

    model = PlannedModel(lambda key: jnp.zeros(1), loss, None, None, None, None)
    scale = Scale(*(np.float32(x) for x in ([-9] * 3, [9] * 3, [0] * 3, [1, 5, 1], [1] * 3)))
    still = {name: np.zeros_like(x) for name, x in linear_episodes(8, 1)[0].items()}
    still["is_first"][0] = True
    bodies = Bodies({"still": [still]})
    fit(model, bodies, scale, Fitting(updates=2, batch=50, window=8, jitter=0.1), 0)
    jax.effects_barrier()
    np.testing.assert_allclose(np.concatenate(seen).std((0, 1)), [0.1, 0.5], rtol=0.1)


@pytest.mark.parametrize("method", ["tdm", "ensemble", "rssm"])
def test_a_contender_is_made_by_its_name(method, monkeypatch):
    for name in ("tdm", "ensemble", "rssm"):
        monkeypatch.setattr(contenders, f"make_{name}", lambda *given, name=name: name)
    assert trial.contender(PRESETS["small"], method, SIZES) == method
