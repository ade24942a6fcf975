"""What ``import planet`` gives, and how little it loads."""

from __future__ import annotations

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planet
from planet import Plan, cem
from tests.test_layering import ROOT
from tests.tiny import box


def test_every_public_name_is_there():
    names = {name: getattr(planet, name) for name in planet.__all__}
    assert set(names) <= set(dir(planet))
    assert {name for name, value in names.items() if hasattr(value, "plan")} == {
        "cem", "mppi", "shooting"
    }  # fmt: skip
    with pytest.raises(AttributeError, match="has no attribute 'cme'"):
        planet.cme  # noqa: B018


def test_importing_it_loads_no_jax():
    code = "import planet, sys; assert 'jax' not in sys.modules; planet.mppi.plan; planet.Rollout"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_any_model_can_be_planned_in():
    """As the README shows it: a model is a function from sequences to returns."""

    def rollout(params, key, start, actions):
        return -jnp.square(start[:, None, None] + actions - params).sum((2, 3))

    start = jnp.array([[0.0], [0.5]])
    plan = cem.plan(rollout, 0.3, jax.random.key(0), start, actions=box(1), iterations=4)
    assert isinstance(plan, Plan)
    np.testing.assert_allclose(plan.action, [[0.3], [-0.2]], atol=0.05)
