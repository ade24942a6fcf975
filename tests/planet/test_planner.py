"""Planners from options, and searches that go on where the last one ended."""

from __future__ import annotations

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.errors import UserError
from common.planner import PlannerConfig
from planet import cem, mppi, shooting
from planet.planner import make_searcher
from planet.search import Future
from planet.value import Guide
from tests.tiny import box


def test_each_environment_starts_anew_with_its_own_episode():
    """A single candidate, drawn with the same noise around what was left."""
    config = PlannerConfig(method="shooting", horizon=3, candidates=1, warm_start=True)
    searcher = make_searcher(lambda *args: jnp.zeros((3, 1)), config, box(1))
    new = searcher.initial(3)
    left = new._replace(mean=new.mean.at[:, 1].set(0.125))
    is_first = np.array([True, False, True])
    start, key = jnp.zeros((3, 1)), jax.random.key(2)
    cold, warm = (searcher.search({}, key, start, x, is_first).action for x in (new, left))
    assert np.abs(cold[1]) < 0.8  # Nothing is clipped there.
    np.testing.assert_allclose(warm - cold, [[0], [0.125], [0]], atol=1e-6)


def test_a_model_says_what_differs_between_its_starts():
    """Masks and discounts of a guide, whoever asks for its value; options come first."""
    guide = Guide(
        lambda params, key, states: jnp.zeros((1, *states.shape[:2])), None, None,
        discount=lambda start: start[:, 0],
        mask=lambda start: jnp.stack([start[:, 0] > 0.7] * 2, 1),
    )  # fmt: skip
    start, first = jnp.array([[0.5], [0.9]]), np.ones(2, bool)

    def rollout(params, key, start, actions):
        shape = actions.shape[:3]
        return Future(jnp.ones(shape), last=jnp.zeros((*shape[:2], 1)))

    for options, value in (
        ({}, [3, 3]),
        ({"value": True}, [1.75, 2.71]),
        ({"value": True, "discount": 0.1}, [1.11] * 2),
    ):  # fmt: skip
        config = PlannerConfig(method="shooting", horizon=3, candidates=4, **options)
        searcher = make_searcher(rollout, config, box(2), guide)
        plan = searcher.search({}, jax.random.key(0), start, searcher.initial(2), first)
        np.testing.assert_allclose(plan.value, value, rtol=1e-5)
        np.testing.assert_array_equal((plan.action != 0).all(1), [False, True])


def test_more_sequences_chosen_than_there_are():
    start = jnp.zeros((2, 1))
    with pytest.raises(UserError, match="cem chooses the best 100 of 50 candidates"):
        cem.plan(lambda *args: jnp.zeros((2, 50)), {}, jax.random.key(0), start,
                 actions=box(1), candidates=50)  # fmt: skip


@pytest.mark.parametrize("plan", [cem.plan, mppi.plan, shooting.plan])
def test_planners_have_the_defaults_of_the_options(plan):
    """Who calls one of them plans as an agent does that was given no options."""
    defaults = {name: x.default for name, x in inspect.signature(plan).parameters.items()}
    config = dataclasses.asdict(PlannerConfig())
    shared = (defaults.keys() & config.keys()) - {"discount"}
    assert defaults["discount"] == 1  # What the options' 0 means without a value.
    assert shared >= {"horizon", "candidates"}
    assert {name: defaults[name] for name in shared} == {name: config[name] for name in shared}
