"""The planners on models whose best plans are known, and against slow loops."""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planet import cem, mppi, shooting
from planet.beliefs import Belief, draw_noise, initial_belief, sample, to_action
from planet.search import Future
from tests.tiny import MIXED, box, choice

PLANNERS = {
    "cem": functools.partial(cem.plan, candidates=300, top=30),
    "mppi": functools.partial(mppi.plan, candidates=1000, temperature=0.05),
    "shooting": functools.partial(shooting.plan, candidates=5000),
}


def reach(params, key, start, actions):
    """A point x' = x + 0.5 a that should be at ``params``: return -sum_k |x_k - params|^2."""
    del key
    x = start["x"][:, None, None] + 0.5 * jnp.cumsum(actions, 2)
    return -jnp.square(x - params).sum((2, 3))


def noisy(params, key, start, actions):
    """The same in a model that draws: what with, and from which key, changes the plan."""
    returns = reach(params, key, start, actions)
    return returns + jax.random.normal(key, returns.shape)


def table(params, key, start, actions):
    """The return of every sequence of choices stands in a table ``[N, K, ..., K]``."""
    del key, start
    index = actions.argmax(-1)
    rows = jnp.arange(index.shape[0])[:, None]
    return params[(rows, *(index[..., t] for t in range(index.shape[-1])))]


def run(plan, rollout, params, start, key=0, **options):
    function = jax.jit(lambda p, k, s: plan(rollout, p, k, s, **options))
    return jax.device_get(function(params, jax.random.key(key), start))


@pytest.mark.parametrize("name", ["cem", "mppi"])
def test_closed_form_optimum(name):
    """From x the first best action is 2 (target - x) where that is possible, else its sign."""
    start = {"x": np.array([[0.0, 0.0], [0.3, -0.2], [2.0, 0.1]], np.float32)}
    target = np.array([0.25, -0.4], np.float32)
    belief = initial_belief(box(2), 3, 4)
    if name == "mppi":  # Its deviations stay, and what they leave is the error of the plan.
        belief = belief._replace(std=0.25 * belief.std)
    plan = run(PLANNERS[name], reach, target, start, actions=box(2), horizon=4, belief=belief)
    want = np.clip(2 * (target - start["x"]), -1, 1)
    np.testing.assert_allclose(plan.action, want, atol=0.1)
    best = reach(target, None, start, plan.belief.mean[:, None])[:, 0]
    np.testing.assert_allclose(plan.value, best, atol=0.1)


@pytest.mark.parametrize("name", PLANNERS)
def test_brute_force_on_choices(name):
    horizon, choices = 3, 4
    values = np.random.default_rng(0).uniform(0, 1, (2, *[choices] * horizon)).astype(np.float32)
    values[0, 2, 3, 1] = values[1, 0, 1, 1] = 2.0
    start = {"x": np.zeros((2, 1), np.float32)}
    plan = run(PLANNERS[name], table, values, start, actions=choice(choices), horizon=horizon)
    got = to_action(plan.belief.mean, choice(choices)).argmax(-1)
    best = [
        max(itertools.product(range(choices), repeat=horizon), key=v.__getitem__) for v in values
    ]
    np.testing.assert_array_equal(got, best)
    np.testing.assert_array_equal(plan.action.argmax(-1), [2, 0])
    np.testing.assert_array_equal(plan.action.sum(-1), 1)
    np.testing.assert_allclose(plan.value, 2, atol=0.05)


def slow_cem(rollout, params, key, start, actions, horizon, iterations, candidates, top, momentum):
    """The same draws, and everything else one environment and one number at a time."""
    belief = initial_belief(actions, len(start["x"]), horizon)
    mean, std = np.array(belief.mean, np.float64), np.array(belief.std, np.float64)
    for now in jax.random.split(key, iterations):
        draw, _, model = jax.random.split(now, 3)
        draw = draw_noise(draw, actions, (len(mean), candidates, horizon))
        belief = Belief(jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32))
        sequences = sample(draw, belief, actions)
        returns = np.array(rollout(params, model, start, sequences), np.float64)
        for env in range(len(mean)):
            order = sorted(range(candidates), key=lambda j, env=env: -returns[env, j])[:top]
            for t, a in itertools.product(range(horizon), range(actions.size)):
                values = [float(sequences[env, j, t, a]) for j in order]
                middle = sum(values) / top
                variance = sum((value - middle) ** 2 for value in values) / top
                mean[env, t, a] = momentum * mean[env, t, a] + (1 - momentum) * middle
                new = (variance + 1e-6) ** 0.5
                std[env, t, a] = momentum * std[env, t, a] + (1 - momentum) * new
    return mean, std


@pytest.mark.parametrize("momentum", [0.0, 0.3])
def test_cem_equals_a_slow_loop(momentum):
    start = {"x": np.array([[0.0, 0.1, 0.2, 0.3, 0.4], [0.5, -1.0, 0.0, 0.3, 0.0]], np.float32)}
    target = np.array([0.3, -0.1, 0.2, 0.0, 0.1], np.float32)
    sizes = {"horizon": 3, "iterations": 4, "candidates": 40, "top": 7, "momentum": momentum}
    plan = run(cem.plan, noisy, target, start, actions=MIXED, **sizes)
    mean, std = slow_cem(noisy, target, jax.random.key(0), start, MIXED, **sizes)
    np.testing.assert_allclose(plan.belief.mean, mean, atol=1e-5)
    np.testing.assert_allclose(plan.belief.std, std, atol=1e-5)
    np.testing.assert_allclose(plan.action[:, :2], mean[:, 0, :2], atol=1e-5)


@pytest.mark.parametrize("name", PLANNERS)
def test_environments_do_not_see_each_other(name):
    start = np.array([[0.1], [0.7], [-0.3]], np.float32)
    options = {"actions": box(1), "horizon": 3}
    one = run(PLANNERS[name], reach, np.float32(0.2), {"x": start}, **options)
    start[1] = -5.0
    other = run(PLANNERS[name], reach, np.float32(0.2), {"x": start}, **options)
    for got, want in zip(jax.tree.leaves(other), jax.tree.leaves(one), strict=True):
        np.testing.assert_array_equal(got[[0, 2]], want[[0, 2]])
    assert (other.action[1] != one.action[1]).all()


@pytest.mark.parametrize("name", PLANNERS)
def test_a_constant_on_all_returns_changes_nothing(name):
    def more(*args):
        return reach(*args) + 64

    start, options = {"x": np.array([[0.3]], np.float32)}, {"actions": box(1), "horizon": 3}
    got = run(PLANNERS[name], more, np.float32(0), start, **options)
    want = run(PLANNERS[name], reach, np.float32(0), start, **options)
    np.testing.assert_allclose(got.action, want.action, atol=2e-3)
    np.testing.assert_allclose(got.value, want.value + 64, rtol=1e-4)


@pytest.mark.parametrize("name", PLANNERS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_candidates_without_a_finite_return_rank_last(name, bad):
    """Moving right at first is best by far, but its return is not finite."""

    def broken(params, key, start, actions):
        returns = -jnp.square(actions[..., 0, 0] - 1)
        return jnp.where(actions[..., 0, 0] > 0.5, bad, returns)

    start, options = {"x": np.zeros((2, 1), np.float32)}, {"actions": box(1), "horizon": 2}
    plan = run(PLANNERS[name], broken, np.float32(0), start, **options)
    assert np.isfinite(jax.tree.leaves(plan)[0]).all()
    assert ((plan.action > 0.3) & (plan.action <= 0.5)).all()


@pytest.mark.parametrize("name", PLANNERS)
def test_no_finite_return_at_all(name):
    """That environment keeps its belief, acts by its mean and says so; others plan on."""

    def broken(params, key, start, actions):
        returns = reach(params, key, start, actions)
        return returns.at[0].set(jnp.nan)

    start, options = {"x": np.full((2, 1), 0.4, np.float32)}, {"actions": box(1), "horizon": 2}
    plan = run(PLANNERS[name], broken, np.float32(0), start, **options)
    assert plan.value[0] == -np.inf and np.isfinite(plan.value[1])
    np.testing.assert_array_equal(plan.action[0], 0)
    np.testing.assert_array_equal(plan.belief.std[0], 1)
    assert plan.action[1] < -0.4


@pytest.mark.parametrize("name", PLANNERS)
def test_proposals_are_tried_as_well(name):
    """The best sequence lies where the belief hardly ever draws."""
    best = np.array([[0.9, -0.9], [-0.9, 0.9]], np.float32)

    def rollout(params, key, start, actions):
        return -jnp.abs(actions - params).sum((2, 3))

    def proposal(params, key, start):
        return jnp.broadcast_to(params, (start["x"].shape[0], 1, *params.shape))

    start = {"x": np.zeros((3, 1), np.float32)}
    belief = Belief(jnp.zeros((3, 2, 2)), jnp.full((3, 2, 2), 0.05))
    options = {"actions": box(2), "horizon": 2, "belief": belief}
    if name == "cem":
        options["top"] = 1
    without = run(PLANNERS[name], rollout, best, start, **options)
    plan = run(PLANNERS[name], rollout, best, start, proposal=proposal, **options)
    np.testing.assert_allclose(plan.action, np.tile(best[0], (3, 1)), atol=0.05)
    assert np.abs(without.action).max() < 0.8


def test_a_search_begins_with_the_belief_that_it_is_given():
    start = {"x": np.zeros((2, 1), np.float32)}
    sure = Belief(jnp.full((2, 3, 1), 0.5), jnp.zeros((2, 3, 1)))
    plan = run(shooting.plan, reach, np.float32(9), start, actions=box(1), horizon=3, belief=sure)
    np.testing.assert_array_equal(plan.action, 0.5)


WRONG = {
    "one return for all candidates": {"rollout": lambda p, k, s, a: jnp.zeros((3, 1))},
    "one return for all environments": {"rollout": lambda p, k, s, a: jnp.zeros(8)},
    "a plan of another horizon": {"belief": initial_belief(box(1), 3, 1)},
    "a plan of one environment": {"belief": initial_belief(box(1), 1, 2)},
    "sequences of another horizon": {"proposal": lambda p, k, s: jnp.zeros((3, 1, 3, 1))},
    "states of other environments": {"start": {"x": np.zeros((3, 1)), "y": np.zeros((1, 1))}},
}


@pytest.mark.parametrize("name", WRONG)
def test_shapes_that_would_broadcast_are_refused(name):
    given = {"rollout": lambda p, k, s, a: jnp.zeros((3, 8)), "start": {"x": np.zeros((3, 1))}}
    given |= WRONG[name]
    rollout, start = given.pop("rollout"), given.pop("start")
    options = {"actions": box(1), "horizon": 2, "candidates": 8, "top": 2, **given}
    with pytest.raises(AssertionError):
        cem.plan(rollout, {}, jax.random.key(0), start, **options)


@pytest.mark.parametrize("name", PLANNERS)
def test_entries_that_an_environment_lacks_are_zero(name):
    """In all that is tried, in the plan and in its deviations; the others find their optimum."""
    mask, target = np.array([[1.0, 0.0], [1.0, 1.0]], np.float32), np.array([0.25, -0.4])
    start, tried = {"x": np.zeros((2, 2), np.float32)}, []

    def rollout(params, key, start, actions):
        jax.debug.callback(lambda x: tried.append(np.abs(x).max((1, 2)) > 0), actions)
        return reach(params, key, start, actions)

    extra = lambda *args: jnp.ones((2, 3, 4, 2))  # noqa: E731
    options = dict(actions=box(2), horizon=4, mask=mask, proposal=extra, kept=extra)
    plan = run(PLANNERS[name], rollout, target, start, **options)
    jax.effects_barrier()
    assert tried
    for one in [*tried, plan.action != 0, *((plan.belief.std != 0).swapaxes(0, 1))]:
        np.testing.assert_array_equal(one, mask > 0)
    assert not plan.belief.mean[0, :, 1].any() and plan.belief.mean[1, :, 1].all()
    alone = run(PLANNERS[name], lambda *args: jnp.full(args[3].shape[:2], jnp.nan), target, start,
                actions=box(2), horizon=4, mask=mask)  # fmt: skip
    np.testing.assert_array_equal((alone.belief.std != 0).any(1), mask > 0)


def test_each_environment_has_its_own_discount():
    """One returns what it lends later, with interest: worth it only where the future counts."""

    def rollout(params, key, start, actions):
        first = -actions[..., 0, 0]
        rewards = jnp.stack([first, -1.5 * first], -1)
        return Future(rewards, value=jnp.zeros(first.shape))

    start = {"x": np.zeros((2, 1), np.float32)}
    discount = np.array([0.9, 0.5], np.float32)
    plan = run(PLANNERS["cem"], rollout, None, start, actions=box(1), horizon=2, discount=discount)
    np.testing.assert_allclose(plan.action[:, 0], [1, -1], atol=0.05)
    np.testing.assert_allclose(plan.value, [1.5 * 0.9 - 1, 1 - 1.5 * 0.5], atol=0.05)
