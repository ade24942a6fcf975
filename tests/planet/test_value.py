"""Values beyond the horizon, and policies that propose, where the best is known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.errors import UserError
from common.planner import PlannerConfig
from planet import cem, mppi, shooting
from planet.planner import make_searcher
from planet.search import Future
from planet.value import Guide, careful, follow, with_value
from tests.tiny import box, choice

PLANNERS = {"cem": cem.plan, "mppi": mppi.plan, "shooting": shooting.plan}
A, B, Q, R = 1.1, 0.5, 1.0, 0.3
"""x' = A x + B a, reward -(Q x'^2 + R a^2): an unstable system with a known optimal value."""


def slow_returns(future, discount):
    """The return of every sequence, one number at a time."""
    rewards = np.asarray(future.rewards, np.float64)
    result = np.zeros(rewards.shape[:2])
    for env, candidate in np.ndindex(result.shape):
        weight = 1.0
        for t, reward in enumerate(rewards[env, candidate]):
            result[env, candidate] += weight * reward
            weight *= discount
            if future.continues is not None:
                weight *= float(future.continues[env, candidate, t])
        if future.value is not None:
            result[env, candidate] += weight * float(future.value[env, candidate])
    return result


@pytest.mark.parametrize("discount", [1.0, 0.9])
@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("valued", [False, True])
def test_returns_equal_a_slow_loop(discount, ends, valued):
    rng = np.random.default_rng(0)
    future = Future(
        jnp.asarray(rng.normal(size=(2, 5, 4))),
        jnp.asarray(rng.uniform(size=(2, 5, 4))) if ends else None,
        value=jnp.asarray(rng.normal(size=(2, 5))) if valued else None,
    )
    got = future.returns(discount)
    np.testing.assert_allclose(got, slow_returns(future, discount), rtol=1e-5)


def test_what_follows_an_end_counts_for_nothing():
    """The reward of the step that ends counts; later ones and the value don't, finite or not."""
    continues = jnp.array([[[1.0, 0.0, 1.0]]])
    future = Future(jnp.array([[[1.0, 2.0, 4.0]]]), continues, value=jnp.array([[jnp.inf]]))
    assert float(future.returns(0.5)[0, 0]) == 1 + 0.5 * 2


def riccati():
    """P of the optimal value -P x^2, and k of the optimal action -k x (undiscounted)."""
    p = 0.0
    for _ in range(1000):
        # -V(x) = min_a R a^2 + (Q + p) (A x + B a)^2
        gain = (Q + p) * A * B / (R + (Q + p) * B**2)
        p = R * gain**2 + (Q + p) * (A - B * gain) ** 2
    return p, gain


def linear(params, key, start, actions):
    """The system from starts ``[N, 1]`` as a rollout."""
    del params, key
    x = jnp.broadcast_to(start[:, None, 0], actions.shape[:2])
    rewards = []
    for t in range(actions.shape[2]):
        a = actions[:, :, t, 0]
        x = A * x + B * a
        rewards.append(-(Q * x**2 + R * a**2))
    return Future(jnp.stack(rewards, -1), last=x[..., None])


@pytest.mark.parametrize("name", ["cem", "mppi"])
def test_with_the_optimal_value_one_step_is_enough(name):
    """Within 1% of the optimal gain; without it a planner of one step is far away."""
    p, gain = riccati()
    start = jnp.array([[0.6], [-0.3]])
    value = lambda params, key, states: -p * states[..., 0] ** 2  # noqa: E731
    options = {"actions": box(1), "horizon": 1, "iterations": 12, "candidates": 500}
    if name == "mppi":
        options |= {"elites": 50, "std_range": (1e-4, 1.0), "temperature": 0.01}
    plan = jax.jit(lambda rollout, key: PLANNERS[name](rollout, {}, key, start, **options),
                   static_argnums=0)  # fmt: skip
    best = -gain * start[:, 0]
    with_it = plan(with_value(linear, value), jax.random.key(0)).action[:, 0]
    np.testing.assert_allclose(with_it, best, rtol=0.01)
    without = plan(linear, jax.random.key(0)).action[:, 0]
    assert (np.abs(without / best - 1) > 0.1).all()


@pytest.mark.parametrize("name", PLANNERS)
def test_a_reward_beyond_the_horizon_is_found(name):
    """A chain of ten places, a reward at the right end, a smaller one at the left, in sight."""

    def rollout(params, key, start, actions):
        place, rewards = jnp.broadcast_to(start[:, None, 0], actions.shape[:2]), []
        for t in range(actions.shape[2]):
            place = jnp.clip(place + jnp.where(actions[:, :, t, 1] > 0, 1, -1), 0, 9)
            rewards.append(0.1 * (place == 0) + 1.0 * (place == 9))
        return Future(jnp.stack(rewards, -1), last=place[..., None])

    def value(params, key, states):
        return 0.9 ** (9 - states[..., 0])

    options = {"actions": choice(2), "horizon": 3, "candidates": 64, "discount": 0.9}
    options |= {"cem": {"top": 8}, "mppi": {"temperature": 0.01}, "shooting": {}}[name]
    start = jnp.array([[3.0], [2.0]])
    plan = PLANNERS[name](rollout, {}, jax.random.key(0), start, **options)
    assert plan.action[1].argmax() == 0  # Nothing else is in sight.
    plan = PLANNERS[name](with_value(rollout, value), {}, jax.random.key(0), start, **options)
    np.testing.assert_array_equal(plan.action.argmax(-1), 1)


@pytest.mark.parametrize("name", PLANNERS)
def test_a_cliff_inside_the_horizon_is_avoided_by_each_of_many_environments(name):
    """Beyond 1 all is over; what lies behind it looks best. Half of them stand at the cliff."""

    def rollout(params, key, start, actions):
        place = start[:, None, None, 0] + jnp.cumsum(0.5 * actions[..., 0], -1)
        return Future(place, (place < 1.0).astype(jnp.float32), last=place[..., -1:])

    def value(params, key, states):
        return 20 * states[..., 0]

    start = jnp.tile(jnp.array([[0.9], [-1.0]]), (4, 1))
    options = {"actions": box(1), "horizon": 3, "candidates": 400}
    options |= {"top": 20} if name == "cem" else {}
    plan = PLANNERS[name](with_value(rollout, value), {}, jax.random.key(0), start, **options)
    reached = start[:, 0] + 0.5 * plan.action[:, 0]
    assert (reached[::2] < 1).all() and (plan.action[1::2, 0] > 0.2).all()


@pytest.mark.parametrize("name", PLANNERS)
def test_a_constant_on_the_value_changes_nothing(name):
    value = lambda params, key, states: params - 2 * states[..., 0] ** 2  # noqa: E731
    start, options = jnp.array([[0.6]]), {"actions": box(1), "horizon": 2}
    rollout = with_value(linear, value)
    plans = [PLANNERS[name](rollout, c, jax.random.key(0), start, **options) for c in (0.0, 64.0)]
    np.testing.assert_allclose(plans[0].action, plans[1].action, atol=2e-3)
    np.testing.assert_allclose(plans[0].value + 64, plans[1].value, rtol=1e-4)


@pytest.mark.parametrize("name", PLANNERS)
def test_environments_with_values_and_proposals_do_not_see_each_other(name):
    guide = Guide(
        value=lambda params, key, states: -(states[..., 0] ** 2)[None],
        policy=lambda params, key, states: jnp.clip(
            0.1 * jax.random.normal(key, states.shape) - states, -1, 1
        ),
        step=lambda params, key, states, actions: A * states + B * actions,
        discount=0.9,
    )
    config = PlannerConfig(
        method=name, horizon=3, candidates=50, top=10, value=True, policy_candidates=5
    )
    searcher = make_searcher(linear, config, box(1), guide)
    search = jax.jit(searcher.search)
    start = jnp.array([[0.1], [0.7], [-0.3]])
    args = {}, jax.random.key(0)
    one = search(*args, start, searcher.initial(3), np.ones(3, bool))
    start = start.at[1].set(-5.0)
    other = search(*args, start, searcher.initial(3), np.ones(3, bool))
    for got, want in zip(jax.tree.leaves(other), jax.tree.leaves(one), strict=True):
        np.testing.assert_array_equal(np.asarray(got)[[0, 2]], np.asarray(want)[[0, 2]])
    assert (other.action[1] != one.action[1]).all()


def test_a_value_that_includes_its_reward_stands_in_its_place():
    """V(s) = r(s) + d V(s'), as of DreamerV2: nothing is counted twice."""
    value = lambda params, key, states: jnp.full(states.shape[:-1], 7.0)  # noqa: E731
    actions = jnp.zeros((1, 1, 3, 1))
    start = jnp.array([[1.0]])
    future = with_value(linear, value, includes_reward=True)({}, jax.random.key(0), start, actions)
    want = -(A**2) - 0.5 * A**4 + 0.25 * 7
    assert float(future.returns(0.5)[0, 0]) == pytest.approx(want, rel=1e-5)


def test_caution_prefers_what_critics_agree_about():
    values = jnp.array([[[1.0, 3.0]], [[1.0, -0.5]]])  # Means 1 and 1.25, deviations 0 and 1.75.
    ensemble = lambda params, key, states: values  # noqa: E731
    np.testing.assert_allclose(careful(ensemble)({}, None, None), [[1.0, 1.25]])
    np.testing.assert_allclose(careful(ensemble, 2.0)({}, None, None), [[1.0, 1.25 - 3.5]])


def test_a_policy_proposes_what_it_does_in_the_model():
    """Each of its sequences follows its own states; environments stay apart."""
    policy = lambda params, key, states: params * states  # noqa: E731
    step = lambda params, key, states, actions: states + actions  # noqa: E731
    start = jnp.array([[1.0], [-2.0]])
    got = follow(step, policy, 2, 3)(0.5, jax.random.key(0), start)
    assert got.shape == (2, 2, 3, 1)
    np.testing.assert_allclose(got[0, :, :, 0], [[0.5, 0.75, 1.125]] * 2)
    np.testing.assert_allclose(got[1], -2 * got[0])
    drawn = follow(step, lambda p, key, x: jax.random.normal(key, x.shape), 3, 4)(
        {}, jax.random.key(0), start
    )
    assert len(np.unique(drawn)) == drawn.size


@pytest.mark.parametrize("name", ["cem", "mppi"])
def test_proposals_that_are_kept_are_tried_in_every_iteration(name):
    """They are made once, and what they are decides from the first iteration on."""
    made = []

    def propose(params, key, start):
        made.append(True)
        return jnp.full((2, 1, 2, 1), 0.9)

    rollout = lambda p, k, s, actions: -jnp.abs(actions - 0.9).sum((2, 3))  # noqa: E731
    options = {"actions": box(1), "horizon": 2, "iterations": 4, "candidates": 3}
    options |= {"top": 1} if name == "cem" else {"temperature": 1e-3}
    plan = PLANNERS[name](
        rollout, {}, jax.random.key(0), jnp.zeros((2, 1)), kept=propose, **options
    )
    np.testing.assert_allclose(plan.action, 0.9, atol=1e-3)
    assert len(made) == 1


@pytest.mark.parametrize("name", ["cem", "mppi"])
def test_an_action_can_be_drawn_among_the_sequences(name):
    """By what each counted for, and with ends of one-hot blocks whole."""
    rollout = lambda p, k, s, actions: jnp.log(1.0 + 2 * actions[:, :, 0, 1])  # noqa: E731
    options = {"actions": choice(2), "horizon": 1, "iterations": 1, "candidates": 512}
    options |= {"top": 512} if name == "cem" else {}
    plan = jax.jit(
        lambda key: PLANNERS[name](rollout, {}, key, jnp.zeros((400, 1)), draw=True, **options)
    )(jax.random.key(0))
    np.testing.assert_array_equal(plan.action.sum(-1), 1)
    share = 0.5 if name == "cem" else 0.75  # All the same, or 1 to 3 by their returns.
    assert float(plan.action[:, 1].mean()) == pytest.approx(share, abs=0.06)
    assert plan.value[0] == pytest.approx(share * np.log(3), abs=0.06)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"value": True}, "planner.value is true, and this model has learned no value"),
        ({"policy_candidates": 3}, "planner.policy_candidates is 3, and this model has"),
    ],
)
def test_a_model_that_learned_neither_can_t_be_asked(options, words):
    with pytest.raises(UserError, match=words):
        make_searcher(linear, PlannerConfig(**options), box(1))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"horizon": 0}, "horizon is 0; expected at least 1"),
        (
            {"method": "mppi", "candidates": 20, "policy_candidates": 4, "elites": 25},
            "elites is 25; expected at most the 24 sequences that are tried",
        ),
        ({"refit_std": True, "min_std": 2.0}, "min_std is 2; expected at most .*std, which is 1"),
        ({"discount": 1.5}, "discount is 1.5; expected"),
    ],
)
def test_options_that_do_not_go_together(options, words):
    with pytest.raises(UserError, match=words):
        PlannerConfig(**options)


def test_a_rollout_that_tells_no_states_has_no_value():
    value = lambda params, key, states: jnp.zeros((1, 1))  # noqa: E731
    returns = lambda p, k, s, a: jnp.zeros((1, 1))  # noqa: E731
    with pytest.raises(ValueError, match="needs the last states"):
        with_value(returns, value)({}, jax.random.key(0), jnp.zeros((1, 1)), None)
