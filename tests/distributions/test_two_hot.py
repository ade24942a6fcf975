"""Numbers as mixtures of two bins: any magnitude comes back, and nothing is made of nothing."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.distributions import SymlogTwoHot, TwoHot, mix_uniform, two_hot_bins
from tests.reference import distributions as reference

NUMBERS = st.builds(
    lambda sign, exponent: sign * 10.0**exponent, st.sampled_from([-1, 1]), st.floats(-32, 8)
)


@hypothesis.given(
    numbers=st.lists(NUMBERS, min_size=8, max_size=8), size=st.sampled_from([255, 26])
)
def test_round_trip_over_forty_decades(numbers, size):
    """A mixture's mean is the number itself, to rounding of the bins it lies between."""
    x = np.float32(numbers)
    weights = TwoHot(jnp.zeros((len(x), size))).weights(x)
    assert ((weights > 0).sum(-1) <= 2).all()
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)
    bins = np.float64(two_hot_bins(size))
    # Weights are rounded to 2^-24 of one, and count as much as the bins that they stand for.
    above = np.clip(np.searchsorted(bins, x), 1, size - 1)
    rounding = 2.0**-23 * (np.abs(bins[above - 1]) + np.abs(bins[above]))
    error = np.abs((np.float64(weights) * bins).sum(-1) - x)
    assert (error <= 2e-6 * np.abs(x) + rounding).all()
    for got, number in zip(weights, x, strict=True):
        np.testing.assert_allclose(got, reference.two_hot(number, bins), rtol=1e-5, atol=1e-6)


def test_what_is_learned_is_predicted():
    """Logits of the mixture itself have the number as their mean."""
    x = np.float32([-3e5, -3.0, -0.05, 0, 0.5, 1000, 4e8])
    logits = jnp.log(TwoHot(jnp.zeros((x.size, 255))).weights(x) + 1e-30)
    np.testing.assert_allclose(TwoHot(logits).mean(), x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("number", "places", "weights"),
    [
        (0.5, (129, 130), (0.444608, 0.555392)),
        (-3.0, (118, 119), (0.790317, 0.209683)),
        (1000.0, (170, 171), (0.138449, 0.861551)),
        (1e12, (254, 253), (1, 0)),
        (-1e12, (0, 1), (1, 0)),
        (0.0, (127, 128), (1, 0)),
    ],
)
def test_known_weights(number, places, weights):
    got = TwoHot(jnp.zeros((1, 255))).weights(jnp.float32([number]))[0]
    np.testing.assert_allclose(got[jnp.array(places)], weights, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [TwoHot, SymlogTwoHot])
@pytest.mark.parametrize("shapes", [((3, 4, 26), (4,)), ((4, 26), (3, 4)), ((26,), ())])
def test_log_probabilities_are_cross_entropies(kind, shapes):
    """Of whole mixtures, gradients as well, where logits and numbers are of different shapes."""
    rng = np.random.default_rng(0)
    logits, x = (
        scale * rng.normal(size=shape) for scale, shape in zip((3, 300), shapes, strict=True)
    )
    logits, x = jnp.float32(logits), jnp.float32(x)
    cotangent = rng.normal(size=np.broadcast_shapes(shapes[0][:-1], shapes[1])).astype(np.float32)

    def dense(logits):
        return (kind(logits).weights(x) * jax.nn.log_softmax(logits)).sum(-1)

    got, want = kind(logits).log_prob(x), dense(logits)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    gradients = [
        jax.grad(lambda logits, of=of: (cotangent * of(logits)).sum())(logits)
        for of in (lambda logits: kind(logits).log_prob(x), dense)
    ]
    np.testing.assert_allclose(*gradients, rtol=1e-4, atol=1e-5)
    assert not jax.grad(lambda x: kind(logits).log_prob(x).sum())(x).any()


@pytest.mark.parametrize("size", [255, 26, 3])
def test_symmetric_probabilities_have_a_mean_of_zero(size):
    """Exactly, compiled as well: a head that starts at zero predicts zero."""
    half = np.random.default_rng(0).normal(size=(50, (size + 1) // 2)).astype(np.float32)
    logits = np.concatenate([half, half[:, : size // 2][:, ::-1]], -1)
    for x in (logits, np.zeros_like(logits)):
        assert (jax.jit(lambda x: TwoHot(x).mean())(x) == 0).all()
    assert TwoHot(jnp.zeros((1, 255))).log_prob(jnp.ones(1)) == pytest.approx(-np.log(255))


@hypothesis.settings(max_examples=25)
@hypothesis.given(share=st.floats(0, 1), scale=st.sampled_from([0.0, 1.0, 100.0]))
def test_no_class_of_a_mixture_is_impossible(share, scale):
    logits = scale * np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    probs = jax.nn.softmax(mix_uniform(logits, share))
    want = (1 - share) * np.float64(jax.nn.softmax(logits)) + share / 5
    np.testing.assert_allclose(probs, want, rtol=1e-4, atol=1e-7)
