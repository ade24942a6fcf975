"""Planning in the token-level dynamics: returns, and a linear system learned and controlled."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.tokens import tdm
from common.tokens.steps import Steps
from planet import cem
from planet.token_model import token_rollout
from tests.planet.linear_system import (
    BIN_WIDTHS,
    BODIES,
    CONFIG,
    SIZES,
    best_return,
    draw,
    simulate,
    trained,
)
from tests.tiny import box, random_params

ORDERS = ("autoregressive", "parallel")
LEARNED = ("autoregressive", pytest.param("parallel", marks=pytest.mark.slow))
"""The same, where a model must learn first, which takes a minute."""
PAST, HORIZON = 2, 5


def first(steps, time):
    """The first rows of each sequence."""
    return Steps(*(x[:, :time] for x in steps[:4]), *steps[4:])


@pytest.mark.parametrize("order", ORDERS)
def test_returns_are_sums_of_imagined_rewards(order):
    """Candidates of all environments, each against a context and a future of its own."""
    model = tdm.functions(dataclasses.replace(CONFIG, order=order), *SIZES)
    params, steps = random_params(model.init), draw("plane", jax.random.key(3), batch=2, time=PAST)
    actions = np.random.default_rng(0).uniform(-1, 1, (2, 3, 4, 1)).astype(np.float32)
    start, imagine_step = jax.jit(model.start), jax.jit(model.imagine_step)
    key = jax.random.key(0)
    future = jax.jit(token_rollout(model))(params, key, start(params, steps), actions)
    returns = future.returns()
    for env in range(2):
        context = start(params, jax.tree.map(lambda x, env=env: x[env : env + 1], steps))
        for candidate in range(3):
            futures, total = tdm.branch(context, 1, 4), 0.0
            for step in range(4):
                action = jnp.pad(actions[env, candidate, step], (0, 1)).reshape(1, 1, 2)
                _, reward, futures = imagine_step(params, key, futures, action)
                total += reward[0, 0]
            np.testing.assert_allclose(returns[env, candidate], total, rtol=1e-4)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("order", LEARNED)
def test_error_on_linear_systems_falls_below_the_bin_width(order, body):
    """Mean and argmax stay below it for six steps; samples scatter. One model learned both."""
    config, params = trained(order)
    steps = draw(body, jax.random.key(7), batch=200, time=PAST + 6)
    want = jnp.concatenate([steps.observation, steps.reward[..., None]], -1)[:, PAST:]
    for decode, most in (("mean", 0.7), ("argmax", 1.0), ("sample", 1.4)):
        model = tdm.functions(dataclasses.replace(config, decode=decode), *SIZES)

        def imagine(params, steps, actions, model=model):
            def step(futures, now):
                observation, reward, futures = model.imagine_step(params, now[0], futures, now[1])
                return futures, jnp.concatenate([observation, reward[..., None]], -1)[:, 0]

            futures = tdm.branch(model.start(params, steps), 1, actions.shape[0])
            keys = jax.random.split(jax.random.key(1), actions.shape[0])
            return jax.lax.scan(step, futures, (keys, actions))[1].swapaxes(0, 1)

        actions = steps.action[:, PAST:].swapaxes(0, 1)[:, :, None]
        got = jax.jit(imagine)(params, first(steps, PAST), actions)
        error = np.abs(got - want).mean(0) / BIN_WIDTHS
        assert (error < most).all(), (decode, error)


@pytest.mark.parametrize("order", LEARNED)
def test_planning_on_a_linear_system_reaches_the_optimum(order):
    """The body has fewer actions than the model; doing nothing is far from the optimum."""
    config, params = trained(order)
    model = tdm.functions(config, *SIZES)
    sizes = {"horizon": HORIZON, "candidates": 200, "top": 20, "iterations": 6}

    def decide(params, key, steps):
        start = model.start(params, steps)
        return cem.plan(token_rollout(model), params, key, start, actions=box(1), **sizes)

    steps = first(draw("plane", jax.random.key(5), batch=32, time=PAST), PAST)
    plan = jax.jit(decide)(params, jax.random.key(0), steps)
    now, actions = steps.observation[:, -1], plan.belief.mean
    got, idle = (simulate("plane", now, a)[1].sum(-1).mean() for a in (actions, 0 * actions))
    best = best_return("plane", now, HORIZON).mean()
    assert got >= best - 0.05 * abs(best)
    assert idle < best - abs(best)
