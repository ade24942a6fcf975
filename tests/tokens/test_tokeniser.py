"""Tokenisers: bounds of the round trip, order, clipping and means."""

from __future__ import annotations

import hypothesis
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies

from common.errors import UserError
from common.tokens.tokeniser import MuLaw, Uniform

# Rounding in float32 is far below a bin, yet it may put a value on the other side of an edge.
SLACK = 1.002
TOKENISERS = {
    "gato": (MuLaw(), 256.0),
    "few mu-law bins": (MuLaw(bins=31, limit=10.0), 10.0),
    "symlog": (MuLaw(bins=255, mu=1.0, limit=20.0), 20.0),
    "uniform": (Uniform(bins=256, low=(-3.0,), high=(5.0,)), 3.0),
    "few uniform bins": (Uniform(bins=3), 1.0),
}


@pytest.mark.parametrize("name", TOKENISERS)
@hypothesis.given(share=strategies.floats(-1, 1, width=32))
@hypothesis.settings(deadline=None, max_examples=100)
def test_round_trip_is_within_its_bound(name, share):
    tokeniser, limit = TOKENISERS[name]
    x = np.array([share * limit], np.float32)
    token = tokeniser.encode(x)
    assert 0 <= token < tokeniser.bins
    assert abs(tokeniser.decode(token) - x) <= SLACK * tokeniser.bound(x)


@pytest.mark.parametrize("name", TOKENISERS)
def test_every_token_survives_the_round_trip_and_tokens_are_ordered(name):
    tokeniser, _ = TOKENISERS[name]
    tokens = jnp.arange(tokeniser.bins)
    values = tokeniser.decode(tokens)
    np.testing.assert_array_equal(tokeniser.encode(values), tokens)
    assert (np.diff(values) > 0).all()


@pytest.mark.parametrize("name", TOKENISERS)
def test_the_bound_is_nearly_reached_somewhere(name):
    """A bound that is far too wide would say nothing."""
    tokeniser, limit = TOKENISERS[name]
    x = np.linspace(-limit, limit, 20_001, dtype=np.float32)
    error = np.abs(tokeniser.decode(tokeniser.encode(x)) - x)
    assert (error / tokeniser.bound(x)).max() > 0.9


@pytest.mark.parametrize("name", TOKENISERS)
def test_what_lies_beyond_is_clipped(name):
    tokeniser, _ = TOKENISERS[name]
    x = np.array([-1e6, 1e6, -np.inf, np.inf], np.float32)
    last = tokeniser.bins - 1
    np.testing.assert_array_equal(tokeniser.encode(x), [0, last, 0, last])


def test_resolution_of_gato():
    """Bins of 2e-4 near 0, 0.02 at 1 and 0.2 at 10, which are 256 at most."""
    x = np.array([0.0, 1.0, 10.0], np.float32)
    np.testing.assert_allclose(2 * MuLaw().bound(x), [2e-4, 0.02, 0.2], rtol=0.02)
    np.testing.assert_allclose(MuLaw().decode(jnp.array(1023)), 256, rtol=0.01)


@pytest.mark.parametrize("name", TOKENISERS)
def test_mean_is_the_mean_of_values(name):
    tokeniser, _ = TOKENISERS[name]
    probs = np.random.default_rng(0).dirichlet(np.full(tokeniser.bins, 0.1), 4).astype(np.float32)
    want = probs @ np.asarray(tokeniser.decode(jnp.arange(tokeniser.bins)))
    got = tokeniser.from_unit(tokeniser.mean(probs))
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)


def test_ranges_may_differ_from_entry_to_entry():
    tokeniser = Uniform(bins=10, low=(0.0, -10.0), high=(1.0, 10.0))
    np.testing.assert_array_equal(tokeniser.encode(np.array([[0.55, 1.0]])), [[5, 5]])
    np.testing.assert_allclose(tokeniser.decode(jnp.array([5, 5])), [0.55, 1.0], rtol=1e-5)
    np.testing.assert_allclose(tokeniser.bound(np.zeros((3, 2))), [[0.05, 1.0]] * 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MuLaw(bins=1), "MuLaw.bins is 1; expected at least 2"),
        (lambda: MuLaw(mu=0.0), "MuLaw.mu is 0.0; expected at least"),
        (lambda: MuLaw(limit=-1.0), "MuLaw.limit is -1.0; expected at least"),
        (lambda: Uniform(low=(1.0,), high=(1.0,)), "expected low < high"),
        (lambda: Uniform(low=(1.0,), high=(2.0, 3.0)), "1 entries and Uniform.high 2"),
    ],
)
def test_impossible_options_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
