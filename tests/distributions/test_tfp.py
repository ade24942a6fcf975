"""Every distribution against its counterpart in tensorflow-probability."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.distributions import (
    Bernoulli,
    Joint,
    Normal,
    OneHot,
    TanhNormal,
    TruncatedNormal,
    UnitNormal,
    to_tfp,
    uniform_noise,
)


def draw(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


CASES = {
    "one variable": (OneHot(draw(0, 5, 4)), True),
    "row of variables": (OneHot(draw(1, 5, 3, 4), event_ndims=2), True),
    "normal vector": (Normal(draw(2, 5, 3), jnp.exp(draw(3, 5, 3))), True),
    "normal image": (Normal(draw(4, 2, 3, 3, 1), jnp.ones((2, 3, 3, 1)), event_ndims=3), True),
    "truncated normal": (TruncatedNormal.from_outputs(draw(5, 5, 3), draw(6, 5, 3)), True),
    "tanh normal": (TanhNormal.from_outputs(draw(7, 5, 3), draw(8, 5, 3)), False),
    "unit normal": (UnitNormal(draw(13, 5)), False),
    "unit normal image": (UnitNormal(draw(14, 2, 3, 3, 1), event_ndims=3), False),
    "joint": (
        Joint((OneHot(draw(9, 5, 4)), Normal(draw(10, 5, 2), jnp.exp(draw(11, 5, 2))))),
        False,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_log_prob_and_entropy_agree(name):
    ours, has_entropy = CASES[name]
    theirs = to_tfp(ours)
    sample = theirs.sample(seed=jax.random.key(20))
    np.testing.assert_allclose(ours.log_prob(sample), theirs.log_prob(sample), rtol=2e-4, atol=2e-4)
    if has_entropy:
        np.testing.assert_allclose(ours.entropy(), theirs.entropy(), rtol=1e-4, atol=1e-4)


def test_bernoulli_agrees():
    ours = Bernoulli(draw(12, 6), event_ndims=1)
    sample = jnp.array([0.0, 1.0, 1.0, 0.0, 1.0, 0.0])
    np.testing.assert_allclose(ours.log_prob(sample), to_tfp(ours).log_prob(sample), rtol=1e-5)


def test_samples_have_the_same_mean():
    ours = TruncatedNormal.from_outputs(jnp.array([0.3, -1.0]), jnp.array([0.5, -2.0]))
    samples = ours.sample(uniform_noise(jax.random.key(21), (40_000, 2)))
    np.testing.assert_allclose(samples.mean(0), to_tfp(ours).mean(), atol=0.01)


def test_other_objects_are_refused():
    with pytest.raises(TypeError, match="no counterpart"):
        to_tfp(3)
