"""The Gaussian process over policies against slow sums, and how it chooses."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import scipy.optimize

from benchmarks.selection import bandit, process
from benchmarks.selection.process import Hyper, merge
from tests.reference import selection as reference

K = 5
HYPER = Hyper(40.0, 0.7, 9.0, 25.0, 12.0)
ARMS = [0, 2, 2, 3, 2, 0, 3]


@pytest.fixture(name="distances", scope="module")
def _distances():
    places = np.random.default_rng(0).normal(size=(K, 2))
    return np.linalg.norm(places[:, None] - places, axis=-1)


@pytest.fixture(name="returns", scope="module")
def _returns():
    return (10 + 8 * np.random.default_rng(1).normal(size=len(ARMS))).tolist()


def exact(function, *args):
    """Calls a function in float64."""
    with jax.enable_x64(True):
        return jax.device_get(jax.jit(function)(*args))


def test_the_posterior_is_that_of_single_returns(distances, returns):
    found = exact(process.posterior, HYPER, distances, merge(ARMS, returns, K))
    wanted = reference.posterior(HYPER, distances, ARMS, returns)
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-10)
    np.testing.assert_allclose(found[1], wanted[1], rtol=1e-10)


def test_merged_returns_are_as_likely_as_single_ones(distances, returns):
    for amount in (1, 3, len(ARMS)):
        arms, some = ARMS[:amount], returns[:amount]
        found = exact(process.log_likelihood, HYPER, distances, merge(arms, some, K))
        wanted = reference.log_likelihood(HYPER, distances, arms, some)
        np.testing.assert_allclose(found, wanted, rtol=1e-10)


def test_with_endless_noise_the_posterior_is_the_prior(distances, returns):
    noisy = HYPER._replace(noise=1e14)
    mean, std = exact(process.posterior, noisy, distances, merge(ARMS, returns, K))
    np.testing.assert_allclose(mean, HYPER.offset, rtol=1e-6)
    np.testing.assert_allclose(std, np.sqrt(HYPER.variance + HYPER.bias), rtol=1e-6)


def test_arms_that_are_apart_say_nothing_about_each_other(returns):
    alone = HYPER._replace(bias=0.0)
    mean, std = exact(process.posterior, alone, process.apart(K), merge(ARMS, returns, K))
    for arm in range(K):
        own = [value for a, value in zip(ARMS, returns, strict=True) if a == arm]
        precision = 1 / HYPER.variance + len(own) / HYPER.noise
        wanted = (HYPER.offset / HYPER.variance + sum(own) / HYPER.noise) / precision
        np.testing.assert_allclose([mean[arm], std[arm]], [wanted, precision**-0.5], rtol=1e-9)


@pytest.mark.parametrize("priors", [False, True])
def test_the_hyperparameters_are_the_best(distances, priors):
    """Another optimizer, other gradients, the slow density: nothing better within the bounds."""
    rng = np.random.default_rng(2)
    arms = np.repeat(np.arange(K), 3)
    returns = 300 + 50 * np.linspace(-1, 1, K)[arms] + 15 * rng.normal(size=len(arms))
    known = process.scaled(distances)
    with jax.enable_x64(True):
        found = jax.device_get(
            jax.jit(process.fit, static_argnums=2)(known, merge(arms, returns, K), priors)
        )
    place, size = returns.mean(), returns.std()

    def loss(free):
        unit = Hyper(*np.exp(free[:4]), free[4])
        value = reference.log_likelihood(unit, known, arms, (returns - place) / size)
        for one in (unit.variance, unit.noise) if priors else ():
            value -= (process.PRIOR_SHAPE + 1) * np.log(one) + process.PRIOR_SCALE / one
        return -value

    ours = Hyper(
        found.variance / size**2, found.lengthscale, found.bias / size**2, found.noise / size**2,
        (found.offset - place) / size,
    )  # fmt: skip
    bounds = [np.log(pair) for pair in process._BOUNDS[:4]] + [process._BOUNDS[4]]
    best = scipy.optimize.minimize(loss, np.zeros(5), method="L-BFGS-B", bounds=bounds)
    assert loss(np.array([*np.log(ours[:4]), ours[4]])) < best.fun + 0.02


def test_returns_in_other_units_give_the_same_belief(distances, returns):
    known = process.scaled(distances)
    one, _ = process.judge(known, merge(ARMS, returns, K), priors=True)
    shifted = (1000 * np.array(returns) - 7).tolist()
    other, _ = process.judge(known, merge(ARMS, shifted, K), priors=True)
    np.testing.assert_allclose(other.mean, 1000 * one.mean - 7, rtol=1e-6)
    np.testing.assert_allclose(other.std, 1000 * one.std, rtol=1e-6)
    equal, _ = process.judge(known, merge([1], [3.0], K), priors=False)
    assert np.isfinite([equal.mean, equal.std]).all()


def test_distances_have_a_median_of_one(distances):
    between = process.scaled(distances)[~np.eye(K, dtype=bool)]
    assert np.median(between) == 1 and (between > 0).all()
    twins = np.zeros((6, 6))  # Of 15 pairs 5 differ.
    twins[5, :5] = twins[:5, 5] = 8
    assert process.scaled(twins).max() == 1
    assert not process.scaled(np.zeros((3, 3))).any()


def test_the_next_arm_has_the_highest_bound(distances, returns):
    arms = bandit.Arms(distances, np.full(K, 11.0), seed=0)
    assert arms.first == []
    known = [*range(K), *ARMS]
    _, hyper = process.judge(process.scaled(distances), arms.known(ARMS, returns), priors=False)
    wanted = reference.pull(
        hyper, process.scaled(distances), known, [11.0] * K + returns, bandit.BOLDNESS
    )
    assert arms.next(ARMS, returns) == wanted
    blind = bandit.Arms(distances, None, seed=0)
    first = [blind.next(ARMS[:n], returns[:n]) for n in range(bandit.FIRST)]
    assert (
        sorted(first) == list(range(K))
        and first == blind.first != bandit.Arms(distances, None, seed=1).first
    )
    assert bandit.Arms(distances[:3, :3], None, 0).next([0, 1, 2], [1.0, 2.0, 3.0]) in range(3)


def drawn(repeats, amount, noise, seed=0):
    """Policies whose worth has the covariance that the kernel says, returns and own estimates."""
    rng = np.random.default_rng(seed)
    distances, bank, values = [], [], []
    for _ in range(repeats):
        places = rng.normal(size=(amount, 2))
        distance = np.linalg.norm(places[:, None] - places, axis=-1)
        covariance = np.exp(-distance / np.median(distance)) + 1e-9 * np.eye(amount)
        worth = 500 + 100 * np.linalg.cholesky(covariance) @ rng.normal(size=amount)
        distances.append(distance)
        bank.append(worth[:, None] + noise * rng.normal(size=(amount, 300)))
        values.append(worth + 80 * rng.normal(size=amount))
    return np.stack(distances), np.stack(bank), np.stack(values)


def mean_regrets(repeats, amount, noise, episodes, warm, methods=bandit.METHODS):
    distances, bank, values = drawn(repeats, amount, noise)
    found = {}
    for method in methods:
        given = values if warm else None
        chosen = bandit.simulate(method, distances, bank, given, episodes, seed=1)
        assert chosen.shape == (repeats, episodes)
        found[method] = bandit.regret(bank.mean(-1), chosen).mean(0)
    return found


def test_a_good_kernel_finds_better_arms_than_taking_turns():
    methods = bandit.A_OPS, bandit.UNIFORM
    found = mean_regrets(12, amount=12, noise=50, episodes=12, warm=True, methods=methods)
    ours, uniform = (found[name] for name in methods)
    assert ours[5:].mean() < 0.6 * uniform[5:].mean()


@pytest.mark.slow
@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("noise", [10, 50])
def test_regret_after_ten_twenty_and_fifty_episodes(warm, noise):
    found = mean_regrets(repeats=40, amount=20, noise=noise, episodes=50, warm=warm)
    for episode in (9, 19, 49):
        line = {name: round(float(one[episode]), 1) for name, one in found.items()}
        print(f"noise {noise}, warm start {warm}, {episode + 1} episodes: {line}")
    ours, uniform = found[bandit.A_OPS], found[bandit.UNIFORM]
    # Five of the first ten pulls are random ones where nothing is known before.
    assert ours[9] < uniform[9] or not warm
    assert ours[19] < uniform[19]
    assert ours[49] < uniform[49] or uniform[49] == 0


def test_the_simulated_choice_is_that_of_single_decisions(monkeypatch):
    """One bandit at a time, return by return, through the functions that the command takes."""
    distances, bank, values = drawn(2, 4, noise=20)
    chosen = bandit.simulate(bandit.A_OPS, distances, bank, values, 3, seed=5)
    rng = np.random.default_rng(5)
    orders = rng.permuted(np.tile(np.arange(4), (2, 1)), axis=1)
    histories = [([], []) for _ in range(2)]
    for pull in range(3):
        where = rng.integers(300, size=2)
        for r, (arms, returns) in enumerate(histories):
            order = orders[r]
            one = bandit.Arms(distances[r][np.ix_(order, order)], values[r][order], 0)
            arm = one.next(arms, returns)
            arms.append(arm)
            returns.append(bank[r, order[arm], where[r]])
            assert chosen[r, pull] == order[one.belief(arms, returns).mean.argmax()]


def test_taking_turns_tries_all():
    distances, bank, _ = drawn(3, 6, noise=0.0)
    chosen = bandit.simulate(bandit.UNIFORM, distances, bank, None, 6, seed=0)
    assert (bandit.regret(bank.mean(-1), chosen)[:, -1] < 1e-6).all()
