"""Distributions against the numbers of DreamerV3; its policy's normal is tested with the policy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.distributions import (
    Bernoulli,
    OneHot,
    Squared,
    TwoHot,
    kl_divergence,
    mix_uniform,
    symlog,
    two_hot_bins,
)
from tests.golden_data import FOLDER_V3, assert_elementwise, assert_exact, every_array, load

ARRAYS = load("dists", FOLDER_V3)
TWO_HOT, ONE_HOT = (
    sorted({".".join(name.split(".")[:2]) for name in ARRAYS if name.startswith(start)})
    for start in ("twohot.", "onehot.")
)


@pytest.mark.parametrize("name", TWO_HOT)
def test_two_hot(name):
    with every_array(ARRAYS.case(name)) as case:
        logits, target = case["in.logits"], case["in.target"]
        assert_elementwise(two_hot_bins(logits.shape[-1]), case["bins"], "bins")
        loss = lambda x: -TwoHot(x).log_prob(target)  # noqa: E731
        assert_elementwise(TwoHot(logits).weights(target), case["target_probs"], "target_probs")
        assert_elementwise(jax.jit(loss)(logits), case["loss"], "loss")
        got = jax.jit(jax.grad(lambda x: loss(x).sum()))(logits)
        assert_elementwise(got, case["grad_loss"], "grad_loss")
        # The mean of numbers up to 4.85e8 cancels: what is left depends on the order of the sum.
        scale = (jax.nn.softmax(logits) * np.abs(case["bins"])).sum(-1)
        error = np.abs(jax.jit(lambda x: TwoHot(x).mean())(logits) - case["pred"])
        assert (error <= 1e-6 * scale + 1e-6).all(), error
        got = jax.jit(jax.grad(lambda x: TwoHot(x).mean().sum()))(logits)
        error = np.abs(got - case["grad_pred"]).max(-1)
        assert (error <= 1e-4 * np.abs(case["grad_pred"]).max(-1) + 1e-6).all(), error


@pytest.mark.parametrize("name", ONE_HOT)
def test_mixed_one_hot(name):
    with every_array(ARRAYS.case(name)) as case:
        share, raw, other = case["cfg.unimix"].item(), case["in.raw"], case["in.raw_other"]
        mixed = lambda x: OneHot(mix_uniform(x, share), 2)  # noqa: E731
        check = lambda got, name: assert_elementwise(got, case[name], name)  # noqa: E731
        shift = mixed(raw).logits - case["mixed_logits"]
        assert_elementwise(shift, np.broadcast_to(shift[..., :1], shift.shape), "mixed_logits")
        check(mixed(raw).probs, "probs")
        check(mixed(raw).log_prob(case["in.event"]), "logp")
        check(mixed(raw).entropy(), "entropy")
        check(jax.grad(lambda x: mixed(x).entropy().sum())(raw), "grad_entropy")
        kl = lambda x, y: kl_divergence(mixed(x), mixed(y))  # noqa: E731
        check(kl(raw, other), "kl")
        gradients = jax.grad(lambda x, y: kl(x, y).sum(), (0, 1))(raw, other)
        check(gradients[0], "grad_kl")
        check(gradients[1], "grad_kl_other")
        log_probs = jax.nn.log_softmax(mixed(raw).logits)
        drawn = jax.nn.one_hot((log_probs + case["in.gumbel"]).argmax(-1), raw.shape[-1])
        assert_exact(drawn, case["sample"], "sample")
        passed = lambda x: (mixed(x).straight_through(drawn) * case["in.cotangent"]).sum()  # noqa: E731
        assert_exact(mixed(raw).straight_through(drawn), case["sample"], "sample")
        check(jax.grad(passed)(raw), "grad_sample")
        assert_exact(mixed(raw).mode(), case["mode"], "mode")
        most = lambda x: (mixed(x).straight_through(mixed(x).mode()) * case["in.cotangent"]).sum()  # noqa: E731
        check(jax.grad(most)(raw), "grad_mode")


def test_binary():
    with every_array(ARRAYS.case("binary")) as case:
        raw, target = case["in.raw"], case["in.target"]
        assert_elementwise(-Bernoulli(raw).log_prob(target), case["loss"], "loss")
        got = jax.grad(lambda x: -Bernoulli(x).log_prob(target).sum())(raw)
        assert_elementwise(got, case["grad_loss"], "grad_loss")
        assert_elementwise(Bernoulli(raw).log_prob(jnp.ones(raw.shape)), case["logp1"], "logp1")
        assert_elementwise(Bernoulli(raw).mean(), case["prob1"], "prob1")
        got = jax.grad(lambda x: Bernoulli(x).mean().sum())(raw)
        assert_elementwise(got, case["grad_prob1"], "grad_prob1")
        assert_exact(Bernoulli(raw).mode().astype(bool), case["pred"], "pred")


@pytest.mark.parametrize("name", ["mse", "symlog_mse"])
def test_squared_errors(name):
    """Of vectors, whose target the model takes the symlog of."""
    with every_array(ARRAYS.case(name)) as case:
        target = symlog(case["in.target"]) if name.startswith("symlog") else case["in.target"]
        loss = lambda raw: -Squared(raw, 1).log_prob(target)  # noqa: E731
        assert_elementwise(loss(case["in.raw"]), case["loss"], "loss")
        got = jax.grad(lambda raw: loss(raw).sum())(case["in.raw"])
        assert_elementwise(got, case["grad_loss"], "grad_loss")
        assert_exact(Squared(case["in.raw"], 1).mean(), case["pred"], "pred")


def test_choices_of_a_policy_are_not_mixed():
    """Nor are they where the reference is told to, which the presets follow."""
    with every_array(ARRAYS.case("categorical")) as case:
        raw = case["in.raw"]
        event = jax.nn.one_hot(case["in.event"], raw.shape[-1])
        log_prob = lambda raw: OneHot(raw, 2).log_prob(event)  # noqa: E731
        assert_elementwise(log_prob(raw), case["logp"], "logp")
        assert_elementwise(-log_prob(raw), case["loss"], "loss")
        got = jax.grad(lambda raw: log_prob(raw).sum())(raw)
        assert_elementwise(got, case["grad_logp"], "grad_logp")
        assert_elementwise(OneHot(raw, 2).entropy(), case["entropy"], "entropy")
        got = jax.grad(lambda raw: OneHot(raw, 2).entropy().sum())(raw)
        assert_elementwise(got, case["grad_entropy"], "grad_entropy")
        assert_exact(OneHot(raw, 2).mode().argmax(-1), case["pred"], "pred")
        drawn = (jax.nn.log_softmax(raw) + case["in.gumbel"]).argmax(-1)
        assert_exact(drawn, case["sample"], "sample")


def test_every_case_is_compared():
    """But for two that no preset has: a Huber loss, and a normal of a log deviation."""
    here = {"twohot", "onehot", "binary", "mse", "symlog_mse", "categorical"}
    there = {"bounded_normal0", "bounded_normal1"}  # tests/dreamer/test_golden_v3_policy.py
    assert {name.split(".")[0] for name in ARRAYS} == here | there | {"huber", "normal_logstd"}
