"""KL divergences and the KL loss against slow sums, two literal terms and tfp."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.distributions import Normal, OneHot, kl_divergence
from common.dynamics.kl import KLConfig, kl_loss, kl_terms
from common.errors import UserError
from tests.reference import kl as reference

FAMILIES = ("categorical", "gaussian")


def _latents(family, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    if family == "categorical":
        logits = (spread * rng.normal(size=(2, 2, 3, 4, 5))).astype(np.float32)
        return OneHot(logits[0], 2), OneHot(logits[1], 2)
    mean = (spread * rng.normal(size=(2, 2, 3, 4))).astype(np.float32)
    std = rng.uniform(0.2, 2, (2, 2, 3, 4)).astype(np.float32)
    return Normal(mean[0], std[0]), Normal(mean[1], std[1])


@pytest.mark.parametrize("family", FAMILIES)
def test_divergence_equals_the_slow_sum(family):
    lhs, rhs = _latents(family)
    got = np.asarray(kl_divergence(lhs, rhs))
    for b, t in np.ndindex(got.shape):
        if family == "categorical":
            want = reference.categorical_kl(lhs.logits[b, t], rhs.logits[b, t])
        else:
            want = reference.normal_kl(lhs.loc[b, t], lhs.std[b, t], rhs.loc[b, t], rhs.std[b, t])
        np.testing.assert_allclose(got[b, t], want, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_divergence_from_itself_is_zero_with_zero_gradient(family):
    lhs, _ = _latents(family)
    np.testing.assert_allclose(kl_divergence(lhs, lhs), 0, atol=1e-6)
    gradient = jax.grad(lambda x: kl_divergence(x, lhs).sum())(lhs)
    for leaf in jax.tree.leaves(gradient):
        np.testing.assert_allclose(leaf, 0, atol=1e-6)


def test_divergence_equals_tfp():
    tfd = pytest.importorskip("tensorflow_probability.substrates.jax").distributions
    lhs, rhs = _latents("categorical")
    want = tfd.OneHotCategorical(lhs.logits).kl_divergence(tfd.OneHotCategorical(rhs.logits))
    np.testing.assert_allclose(kl_divergence(lhs, rhs), want.sum(-1), rtol=1e-4)
    lhs, rhs = _latents("gaussian")
    want = tfd.Normal(lhs.loc, lhs.std).kl_divergence(tfd.Normal(rhs.loc, rhs.std))
    np.testing.assert_allclose(kl_divergence(lhs, rhs), want.sum(-1), rtol=1e-4)


def _two_terms(posterior, prior, config):
    """The balanced loss as the paper has it, with both divergences and stopped gradients."""
    stop = jax.lax.stop_gradient
    lhs, rhs = (prior, posterior) if config.forward else (posterior, prior)
    mix = config.balance if config.forward else 1 - config.balance
    loss = 0.0
    pairs = [(mix, lhs, stop(rhs)), (1 - mix, stop(lhs), rhs)]
    for weight, left, right in pairs:
        value = kl_divergence(left, right)
        clipped = jnp.maximum(value, config.free).mean()
        averaged = jnp.maximum(value.mean(), config.free)
        loss += weight * (averaged if config.free_avg else clipped)
    return loss


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("forward", [False, True])
def test_balanced_loss_equals_its_two_terms(family, forward):
    latents = _latents(family, seed=1)
    for balance, free, average in itertools.product((0.0, 0.8, 1.0), (0.0, 4.0), (False, True)):
        config = KLConfig(1.0, balance, free, average, forward)
        own = jax.value_and_grad(lambda x, c=config: kl_loss(*x, c)[0].mean())
        literal = jax.value_and_grad(lambda x, c=config: _two_terms(*x, c))
        (got, gradient), (want, expected) = own(latents), literal(latents)
        np.testing.assert_allclose(got, want, rtol=1e-5)
        for x, y in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("balance", [0.5, 0.8])
def test_free_nats_equal_the_loop(balance, average):
    posterior, prior = _latents("gaussian", seed=2)
    value = np.asarray(kl_divergence(posterior, prior))
    free = float(np.sort(value.ravel())[3])  # some steps below, some above
    loss, got = kl_loss(posterior, prior, KLConfig(1.0, balance, free, average))
    np.testing.assert_allclose(got, value, rtol=1e-5)
    np.testing.assert_allclose(
        loss.mean(), reference.kl_loss(value, balance, free, average), rtol=1e-5
    )


def test_no_gradient_below_the_free_nats():
    latents = _latents("categorical", spread=0.01)
    for balance, average in itertools.product((0.5, 0.8), (False, True)):
        config = KLConfig(1.0, balance, 1.0, average)
        loss, gradient = jax.value_and_grad(lambda x, c=config: kl_loss(*x, c)[0].mean())(latents)
        assert loss == 1
        assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(gradient))


def test_balance_weighs_the_prior():
    """0.8 of the gradient goes to the prior; swapping the two would still train."""
    latents = _latents("gaussian", seed=3)
    plain = jax.grad(lambda x: kl_divergence(*x).mean())(latents)
    config = KLConfig(balance=0.8, free=0.0)
    balanced = jax.grad(lambda x: kl_loss(*x, config)[0].mean())(latents)
    for share, part, whole in zip((0.2, 0.8), balanced, plain, strict=True):
        np.testing.assert_allclose(part.loc, share * whole.loc, rtol=1e-4, atol=1e-8)
        np.testing.assert_allclose(part.std, share * whole.std, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("family", FAMILIES)
def test_two_terms_of_their_own_weigh_as_one_with_a_balance(family):
    """The gradients of V3's pair are those of V2's loss with free nats on each step."""
    latents = _latents(family, seed=4)
    value = np.sort(np.ravel(kl_divergence(*latents)))
    free = float(value[len(value) // 2])  # Some steps below, some above.
    pair = KLConfig(dyn_scale=1.0, rep_scale=0.1, free=free)
    one = KLConfig(scale=1.1, balance=1 / 1.1, free=free, free_avg=False)

    def two(latents):
        terms, _ = kl_terms(*latents, pair)
        return sum(scale * terms[name].mean() for name, scale in pair.scales.items())

    got, gradients = jax.value_and_grad(two)(latents)
    want, expected = jax.value_and_grad(lambda x: 1.1 * kl_loss(*x, one)[0].mean())(latents)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    for x, y in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-7)
    terms, unclipped = kl_terms(*latents, KLConfig())
    assert terms.keys() == {"kl"} and KLConfig().scales == {"kl": 1.0}
    np.testing.assert_allclose(unclipped, kl_divergence(*latents), rtol=1e-5)


def test_two_terms_are_not_turned_round():
    with pytest.raises(UserError, match="forward true needs .*dyn_scale 0 and .*rep_scale 0"):
        KLConfig(forward=True, rep_scale=0.1)


def test_extreme_logits_stay_finite():
    lhs = OneHot(jnp.array([[[60.0, -60.0]]]), 2)
    rhs = OneHot(jnp.array([[[-60.0, 60.0]]]), 2)
    value, gradient = jax.value_and_grad(lambda x: kl_divergence(*x).sum())((lhs, rhs))
    np.testing.assert_allclose(value, 120, rtol=1e-5)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
