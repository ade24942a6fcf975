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
