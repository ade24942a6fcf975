"""Distributions against scipy, tfp, quadrature and the noise that their samples are made from."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from common.distributions import (
    Bernoulli,
    Joint,
    Normal,
    OneHot,
    TanhNormal,
    TruncatedNormal,
    action_noise_size,
    normal_noise,
    uniform_noise,
    uniform_to_normal,
    unit_normal_log_prob,
)
from common.spaces import ActionPart, ActionSpec
from tests.reference import distributions as reference

GRID = np.linspace(-1, 1, 20001)


def _uniforms(amount):
    """Evenly spread noise: averages over it are integrals over the distribution."""
    return (np.arange(amount, dtype=np.float32) + 0.5) / amount


def test_uniform_noise_stays_inside_the_open_interval():
    noise = np.asarray(uniform_noise(jax.random.key(0), (1000, 1000)))
    assert noise.dtype == np.float32 and noise.min() > 0 and noise.max() < 1
    # Odd multiples of 2^-24: halfway between the multiples of 2^-23, so never 0 or 1.
    np.testing.assert_array_equal((noise * 2.0**24) % 2, 1)
    assert np.isfinite(uniform_to_normal(np.float32([2.0**-24, 1 - 2.0**-24]))).all()
    np.testing.assert_allclose(noise.mean(), 0.5, atol=2e-3)
    assert normal_noise(jax.random.key(0), [4, 2]).shape == (4, 2)


def test_uniform_to_normal_equals_scipy():
    uniform = _uniforms(1000)
    np.testing.assert_allclose(
        uniform_to_normal(uniform), scipy.special.ndtri(np.float64(uniform)), rtol=1e-4, atol=1e-6
    )


def test_noise_depends_on_the_key_alone():
    one, same, other = (uniform_noise(jax.random.key(seed), (5,)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(seed=st.integers(0, 10_000), spread=st.sampled_from([0.1, 1.0, 10.0]))
def test_onehot_samples_equal_the_walk_through_the_classes(seed, spread):
    rng = np.random.default_rng(seed)
    logits = (spread * rng.normal(size=(7, 3, 5))).astype(np.float32)
    noise = rng.uniform(0.01, 0.99, (7, 3)).astype(np.float32)
    sample = np.asarray(OneHot(logits, 2).sample(noise))
    np.testing.assert_array_equal(sample.sum(-1), 1)
    probs = scipy.special.softmax(np.float64(logits), -1)
    for index in np.ndindex(noise.shape):
        gap = np.abs(np.cumsum(probs[index]) - noise[index]).min()
        if gap > 1e-5:  # nearer than that, rounding decides
            assert sample[index].argmax() == reference.pick_class(probs[index], noise[index])


def test_onehot_frequencies_are_the_probabilities():
    dist = OneHot(np.tile(np.float32([0.3, -1, 2, 0]), (4000, 1)))
    np.testing.assert_allclose(dist.sample(_uniforms(4000)).mean(0), dist.probs[0], atol=5e-4)


def test_onehot_never_picks_an_impossible_class():
    impossible = -1e9
    logits = np.float32([impossible, 0, impossible, 0, impossible])
    extremes = np.float32([2.0**-24, 0.5, 1 - 2.0**-24, 1.0])
    sample = np.asarray(OneHot(np.tile(logits, (4, 1))).sample(extremes))
    np.testing.assert_array_equal(sample.argmax(-1), [1, 1, 3, 3])


def test_onehot_gradient_is_straight_through():
    rng = np.random.default_rng(0)
    logits, cotangent = rng.normal(size=(2, 6, 5)).astype(np.float32)
    noise = rng.uniform(size=6).astype(np.float32)
    got = jax.grad(lambda x: (cotangent * OneHot(x).sample(noise)).sum())(logits)
    want = jax.grad(lambda x: (cotangent * jax.nn.softmax(x)).sum())(logits)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)


def test_onehot_log_prob_stops_at_the_sample():
    """Otherwise reinforce would leak a pathwise term through the straight-through sample."""
    logits = jnp.float32([[0.2, -0.4, 1.0]])
    leaked = jax.grad(lambda x: OneHot(logits).log_prob(x).sum())(jnp.eye(3)[:1])
    np.testing.assert_array_equal(leaked, 0)


def test_onehot_sums_over_its_variables():
    logits = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    single, joint = OneHot(logits), OneHot(logits, 2)
    x = single.mode()
    np.testing.assert_allclose(joint.log_prob(x), single.log_prob(x).sum(-1), rtol=1e-5)
    np.testing.assert_allclose(joint.entropy(), single.entropy().sum(-1), rtol=1e-5)
    uniform = OneHot(np.zeros((32, 32), np.float32), 2)
    np.testing.assert_allclose(uniform.entropy(), 32 * np.log(32), rtol=1e-5)  # 110.9 nats


def test_onehot_samples_in_bfloat16_from_sums_in_float32():
    logits = jnp.zeros((1000, 18), jnp.bfloat16)
    sample = OneHot(logits).sample(_uniforms(1000))
    assert sample.dtype == jnp.bfloat16
    frequencies = np.asarray(sample, np.float32).mean(0)
    np.testing.assert_allclose(frequencies, 1 / 18, atol=1.1e-3)


def test_bernoulli_with_soft_targets_is_the_cross_entropy():
    logits = np.linspace(-8, 8, 33)
    for target in (0.0, 0.5, 0.99, 1.0):
        probs = scipy.special.expit(logits)
        want = target * np.log(probs) + (1 - target) * np.log1p(-probs)
        np.testing.assert_allclose(Bernoulli(logits).log_prob(target), want, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(
        Bernoulli(logits).entropy(), scipy.stats.entropy([probs, 1 - probs]), rtol=1e-3, atol=1e-5
    )
    np.testing.assert_array_equal(Bernoulli(logits).mode(), logits > 0)


def test_bernoulli_is_finite_at_large_logits():
    logits = jnp.float32([-1000.0, 1000.0])
    value, gradient = jax.value_and_grad(lambda x: Bernoulli(x, 1).log_prob(0.99))(logits)
    np.testing.assert_allclose(value, -1000, rtol=1e-5)
    np.testing.assert_allclose(gradient, [0.99, -0.01], atol=1e-5)


def test_normal_equals_scipy():
    rng = np.random.default_rng(0)
    mean, x = rng.normal(size=(2, 4, 3)).astype(np.float32)
    std = rng.uniform(0.1, 3, (4, 3)).astype(np.float32)
    want = scipy.stats.norm(mean, std)
    np.testing.assert_allclose(Normal(mean, std).log_prob(x), want.logpdf(x).sum(-1), rtol=1e-4)
    np.testing.assert_allclose(Normal(mean, std).entropy(), want.entropy().sum(-1), rtol=1e-4)
    np.testing.assert_allclose(Normal(mean, std).sample(x), mean + std * x, rtol=1e-5)
    np.testing.assert_array_equal(Normal(mean, std).mode(), Normal(mean, std).mean())


@pytest.mark.parametrize("event_ndims", [0, 1, 3])
def test_unit_normal_sums_over_the_event(event_ndims):
    mean, x = np.random.default_rng(0).normal(size=(2, 2, 4, 4, 3)).astype(np.float32)
    got = unit_normal_log_prob(mean, x, event_ndims)
    np.testing.assert_allclose(
        got, Normal(mean, np.ones_like(mean), event_ndims).log_prob(x), rtol=1e-5
    )
    assert got.shape == mean.shape[: 4 - event_ndims]


def test_perfect_image_has_the_published_floor():
    for channels, floor in ((3, 11291.92), (1, 3763.97)):
        image = np.zeros((64, 64, channels), np.float32)
        np.testing.assert_allclose(unit_normal_log_prob(image, image, 3), -floor, rtol=1e-6)


def _truncated(rows=40):
    rng = np.random.default_rng(0)
    loc = np.tanh(rng.normal(size=(rows, 1)) * 3).astype(np.float32)
    scale = rng.uniform(0.1, 2.1, (rows, 1)).astype(np.float32)
    return TruncatedNormal(loc, scale), reference.truncated_normal(loc, scale)


def test_truncated_normal_equals_scipy():
    dist, want = _truncated()
    x = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
    np.testing.assert_allclose(dist.log_prob(x), want.logpdf(x)[:, 0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dist.entropy(), want.entropy()[:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dist.mean(), want.mean(), rtol=1e-4, atol=1e-5)
    noise = _uniforms(40)[:, None]
    np.testing.assert_allclose(dist.sample(noise), want.ppf(noise), rtol=1e-4, atol=1e-5)


def test_truncated_normal_equals_tfp():
    tfd = pytest.importorskip("tensorflow_probability.substrates.jax").distributions
    x = np.float32([[-0.9], [0.2], [1.0]])

    def total(loc, scale, library):
        dist = TruncatedNormal(loc, scale) if library == "own" else None
        dist = dist or tfd.Independent(tfd.TruncatedNormal(loc, scale, -1.0, 1.0), 1)
        return (dist.log_prob(x) + 0.3 * dist.entropy()).sum()

    inputs = np.float32([[-0.999], [0.1], [0.95]]), np.float32([[0.1], [2.1], [0.3]])
    gradient = jax.jit(jax.value_and_grad(total, (0, 1)), static_argnums=2)
    got, want = (gradient(*inputs, name) for name in ("own", "tfp"))
    for x1, x2 in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(x1, x2, rtol=1e-4, atol=1e-4)


def test_truncated_normal_integrates_to_one_over_its_support():
    for loc, scale in ((0.0, 0.1), (0.99, 0.05), (-0.6, 2.1)):
        dist = TruncatedNormal(np.full((1, 1), loc, np.float32), np.full((1, 1), scale, np.float32))
        density = np.exp(dist.log_prob(np.float32(GRID)[:, None]))
        np.testing.assert_allclose(np.trapezoid(density, GRID), 1, rtol=2e-3)
        outside = dist.log_prob(np.float32([[-1.001], [1.001]]))
        np.testing.assert_array_equal(outside, -np.inf)


def test_truncated_normal_sample_gradient_is_the_registered_one():
    dist, _ = _truncated()
    noise = _uniforms(40)[:, None]
    sample = np.asarray(dist.sample(noise))
    gradient = jax.grad(lambda d: d.sample(noise).sum())(dist)
    np.testing.assert_array_equal(gradient.loc, 1)
    np.testing.assert_allclose(gradient.scale, (sample - dist.loc) / dist.scale, atol=1e-4)


def test_truncated_normal_survives_extreme_noise():
    dist, _ = _truncated()
    for uniform in (0.0, 2.0**-24, 1 - 2.0**-24, 1.0):
        noise = np.full_like(dist.loc, uniform)
        sample = dist.sample(noise)
        assert np.abs(sample).max() <= np.float32(1 - 1e-6)
        assert np.isfinite(dist.log_prob(sample)).all()
        gradient = jax.grad(lambda d, n=noise: d.log_prob(d.sample(n)).sum())(dist)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_truncated_normal_starts_as_published():
    dist = TruncatedNormal.from_outputs(jnp.zeros((1, 2)), jnp.zeros((1, 2)))
    np.testing.assert_allclose(dist.loc, 0)
    np.testing.assert_allclose(dist.scale, 1.1, rtol=1e-6)


@pytest.mark.parametrize(("loc", "std"), [(0.0, 0.5), (1.0, 1.0), (-0.5, 1.5)])
def test_tanh_normal_against_quadrature(loc, std):
    dist = TanhNormal(np.full((1, 1), loc, np.float32), np.full((1, 1), std, np.float32))
    z = np.linspace(loc - 7 * std, loc + 7 * std, 4001)
    weights = scipy.stats.norm.pdf(z, loc, std)
    log_density = scipy.stats.norm.logpdf(z, loc, std) - np.log(1 / np.cosh(z) ** 2)
    inner = np.abs(np.tanh(z)) < 0.999
    got = dist.log_prob(np.tanh(z)[inner][:, None].astype(np.float32))
    np.testing.assert_allclose(got, log_density[inner], rtol=1e-3, atol=1e-3)
    entropy = -np.trapezoid(weights * log_density, z)
    np.testing.assert_allclose(dist.entropy()[0], entropy, atol=0.02)
    np.testing.assert_allclose(dist.mean()[0, 0], np.trapezoid(weights * np.tanh(z), z), atol=0.005)
    best = np.tanh(z[log_density.argmax()])
    np.testing.assert_allclose(dist.mode()[0, 0], best, atol=0.03)


def test_tanh_normal_stays_finite_when_saturated():
    """Dreamer V1 starts with a standard deviation of 5: most samples round to +-1."""
    loc, std = jnp.float32([[4.9, -4.9]]), jnp.float32([[5.0, 5.0]])

    def total(loc, std, noise):
        dist = TanhNormal(loc, std)
        sample = dist.sample(noise)
        return (dist.log_prob(sample) + dist.entropy()).sum() + sample.sum()

    gradient_of_total = jax.jit(jax.value_and_grad(total, (0, 1)))
    for noise in (0.0, 3.0, -5.0):
        value, gradient = gradient_of_total(loc, std, noise)
        assert np.isfinite(value)
        assert all(np.isfinite(x).all() for x in gradient)


def test_tanh_normal_mode_is_per_element():
    dist = TanhNormal(jnp.float32([[2.0], [-2.0]]), jnp.float32([[0.3], [0.3]]))
    noise = normal_noise(jax.random.key(0), (100, 2, 1))
    for mode in (dist.mode(noise), dist.mode()):
        assert mode[0, 0] > 0.5 and mode[1, 0] < -0.5


def test_tanh_normal_entropy_gradient_widens_a_narrow_policy():
    narrow = TanhNormal(jnp.zeros((1, 2)), jnp.full((1, 2), 0.05))
    gradient = jax.grad(lambda d: d.entropy().sum())(narrow)
    np.testing.assert_allclose(gradient.std, 1 / 0.05, rtol=0.02)  # d ln(std) / d std


SPEC = ActionSpec(
    (
        ActionPart(("a",), "categorical", 4),
        ActionPart(("b",), "continuous", 2),
        ActionPart(("c",), "categorical", 2),
        ActionPart(("d",), "continuous", 3),
    )
)


def _joint(batch=(6,)):
    rng = np.random.default_rng(0)
    raw = [rng.normal(size=(*batch, n)).astype(np.float32) for n in (4, 2, 2, 2, 3, 3)]
    parts = OneHot(raw[0]), TruncatedNormal.from_outputs(*raw[1:3]), OneHot(raw[3])
    return Joint((*parts, TanhNormal.from_outputs(*raw[4:])))


def test_joint_puts_parts_side_by_side():
    dist = _joint()
    assert dist.size == SPEC.size == 11
    assert dist.noise_size == action_noise_size(SPEC) == 7
    noise = uniform_noise(jax.random.key(0), (6, 7))
    assert dist.mode().shape == dist.mean().shape == (6, 11)

    def evaluate(dist, sample):
        return dist.sample(noise), dist.log_prob(sample), dist.entropy()

    def by_hand(dist, x):
        one, two, three, four = dist.parts
        samples = one.sample(noise[:, 0]), two.sample(noise[:, 1:3]), three.sample(noise[:, 3])
        samples += (four.sample(uniform_to_normal(noise[:, 4:])),)
        log_prob = one.log_prob(x[:, :4]) + two.log_prob(x[:, 4:6])
        log_prob += three.log_prob(x[:, 6:8]) + four.log_prob(x[:, 8:])
        return jnp.concatenate(samples, -1), log_prob, sum(p.entropy() for p in dist.parts)

    x = jax.jit(lambda d: d.sample(noise[::-1]))(dist)
    got, want = (jax.jit(function)(dist, x) for function in (evaluate, by_hand))
    for left, right in zip(got, want, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


def test_joint_rejects_other_sizes():
    with pytest.raises(ValueError, match="last axis has 5 entries, the parts need 7"):
        _joint().sample(np.zeros((6, 5), np.float32))


def test_distributions_pass_through_transformations():
    dist = _joint((5, 6))
    noise = uniform_noise(jax.random.key(0), (5, 6, 7))
    want = jax.jit(lambda d, n: d.sample(n))(dist, noise)
    mapped = jax.jit(jax.vmap(lambda d, n: d.sample(n)))(dist, noise)
    np.testing.assert_allclose(mapped, want, atol=1e-5)
    scanned = jax.lax.scan(lambda c, x: (c, x[0].log_prob(x[1])), 0, (dist, want))[1]
    np.testing.assert_allclose(scanned, jax.jit(lambda d: d.log_prob(want))(dist), rtol=1e-4)
    latent = OneHot(jnp.zeros((5, 3, 4)), 2)
    assert jax.tree.map(lambda x: x[0], latent).entropy().shape == ()
