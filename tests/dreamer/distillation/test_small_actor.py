"""The small actor: its layers against a slow loop, windows as folds of steps, its losses."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from common.checks import OptionError
from common.distributions import (
    Joint,
    Normal,
    OneHot,
    SymlogNormal,
    TanhNormal,
    TruncatedNormal,
    kl_divergence,
)
from common.spaces import ObservationSpec
from dreamer.config import ACTING_PLANNER
from dreamer.distillation.config import DistillConfig
from dreamer.distillation.losses import policy_loss, value_loss
from dreamer.distillation.network import small_functions
from dreamer.exploration.config import ExplorationConfig
from tests.dreamer.test_agent import CONFIG
from tests.reference import distillation as reference
from tests.tiny import ACTIONS, BATCH, MIXED, TIME, VECTOR, random_batch, random_params

UNITS = 6
IMAGES = {"image": ObservationSpec((32, 32, 3), "image"), **VECTOR}


def distilling(config, kind="gru", **options):
    distill = DistillConfig(kind=kind, units=UNITS, layers=1, depth=1, **options)
    return dataclasses.replace(config, distill=distill)


@pytest.mark.parametrize("kind", ["gru", "mlp"])
def test_a_window_equals_a_slow_loop(kind):
    functions = small_functions(distilling(CONFIG, kind), VECTOR, ACTIONS)
    params, batch = random_params(functions.init), random_batch(VECTOR, ACTIONS)
    batch["is_first"][0, 0] = False
    hidden = np.random.default_rng(1).normal(size=(BATCH, UNITS)).astype(np.float32)
    found = jax.jit(functions.observe)(params, {}, hidden, batch)
    assert found.shape == (BATCH, TIME, UNITS)
    for b in range(BATCH):
        wanted = reference.small_actor(
            params, batch["x"][b], batch["action"][b], batch["is_first"][b], hidden[b],
            kind == "gru",
        )  # fmt: skip
        np.testing.assert_allclose(found[b], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "kind, specs, transform",
    [("gru", VECTOR, "standard"), ("mlp", VECTOR, "symlog"), ("gru", IMAGES, "identity")],
)
def test_a_window_is_the_fold_of_steps(kind, specs, transform):
    """Also where an episode begins in it, and whatever was remembered of the one before."""
    world = dataclasses.replace(CONFIG.world_model, vector_transform=transform)
    config = distilling(dataclasses.replace(CONFIG, world_model=world), kind)
    functions = small_functions(config, specs, MIXED)
    params, batch = random_params(functions.init), random_batch(specs, MIXED)
    batch["is_first"][0, 0] = False
    moments = {"batches": np.ones(()), "mean": np.full(5, 0.3), "variance": np.full(5, 2.0)}
    statistics = {"x": jax.tree.map(np.float32, moments)} if transform == "standard" else {}
    hidden = start = np.random.default_rng(1).normal(size=(BATCH, UNITS)).astype(np.float32)
    window, step = jax.jit(functions.observe), jax.jit(functions.step)
    found = window(params, statistics, start, batch)
    for t in range(TIME):
        hidden = step(params, statistics, hidden, {key: x[:, t] for key, x in batch.items()})
        np.testing.assert_allclose(found[:, t], hidden, rtol=1e-5, atol=1e-6)
    # What came before the episode that begins last counts for nothing, if anything did.
    other = np.asarray(window(params, statistics, start + 1, batch))
    forgets = np.asarray(found) == other
    assert forgets[-1, -1].all() and forgets[1].all()
    assert forgets[0].any() == (kind == "mlp")
    if transform != "identity":
        plain = np.asarray(
            functions.observe(params, statistics, start, batch | {"x": batch["x"] * 2})
        )
        assert (plain != np.asarray(found)).any()


def _pairs(seed):
    """Two distributions of every family, of two numbers or three classes, ``[2, 3]`` of them."""
    rng = np.random.default_rng(seed)
    loc, raw = (rng.normal(size=(2, 2, 3, 2)).astype(np.float32) for _ in range(2))
    scale, mean = 0.15 + np.abs(raw), np.tanh(loc)
    logits = rng.normal(size=(2, 2, 3, 3)).astype(np.float32)
    return {
        "normal": [Normal(*x) for x in zip(loc, scale, strict=True)],
        "tanh": [TanhNormal(*x) for x in zip(loc, scale, strict=True)],
        "truncated": [TruncatedNormal(*x) for x in zip(mean, scale, strict=True)],
        "choice": [OneHot(x) for x in logits],
    }


def _slowly(family, p, q):
    """The same by sums and integrals, for one pair of numbers ``[...]``."""
    if family == "choice":
        return reference.categorical_kl(p.logits.astype(float), q.logits.astype(float))
    total = 0.0
    for i in range(2):
        if family == "truncated":
            logs = [reference.truncated_log(float(x.loc[i]), float(x.scale[i])) for x in (p, q)]
            total += reference.integrated_kl(*logs, -1, 1)
        else:
            logs = [scipy.stats.norm(float(x.loc[i]), float(x.std[i])).logpdf for x in (p, q)]
            reach = 9 * float(p.std[i])
            total += reference.integrated_kl(*logs, p.loc[i] - reach, p.loc[i] + reach)
    return total


@pytest.mark.parametrize("family", ["normal", "tanh", "truncated", "choice"])
def test_divergences_equal_sums_and_integrals(family):
    p, q = _pairs(0)[family]
    kl = jax.jit(kl_divergence)
    found = np.asarray(kl(p, q))
    assert found.shape == (2, 3)
    at = lambda x, i, j: jax.tree.map(lambda leaf: np.asarray(leaf)[i, j], x)  # noqa: E731
    for i in range(2):
        for j in range(3):
            wanted = _slowly(family, at(p, i, j), at(q, i, j))
            np.testing.assert_allclose(found[i, j], wanted, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(kl(p, p), 0, atol=1e-5)
    # A joint one is the sum of its parts, and the loss their mean.
    other = _pairs(1)["choice"]
    both = Joint((p, other[0])), Joint((q, other[1]))
    joint, loss = jax.jit(lambda *pair: (kl_divergence(*pair), policy_loss(*pair)))(*both)
    np.testing.assert_allclose(joint, found + kl_divergence(*other), rtol=1e-5)
    np.testing.assert_allclose(loss, np.mean(joint), rtol=1e-5)


def test_the_value_s_loss_equals_a_slow_loop():
    rng = np.random.default_rng(0)
    loc, target = (rng.normal(size=(2, 3)).astype(np.float32) * 5 for _ in range(2))
    found = value_loss(SymlogNormal(jnp.asarray(loc)), target)
    np.testing.assert_allclose(found, reference.value_loss(loc, target), rtol=1e-5)
    # It takes no gradient to what the learner expects.
    grad = jax.grad(lambda x: value_loss(SymlogNormal(jnp.asarray(loc)), x))(target)
    assert not np.asarray(grad).any()


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: DistillConfig(kind="gru", policy_scale=0), "policy_scale is 0"),
        (lambda: DistillConfig(regularizer=0.1), "regularizer is 0.1 and nothing is taught"),
        (
            lambda: dataclasses.replace(
                distilling(CONFIG), exploration=ExplorationConfig(method="surprise")
            ),
            "distill.kind gru lets a small actor act, and .*exploration.method surprise",
        ),
        (
            lambda: dataclasses.replace(
                distilling(CONFIG), planner=dataclasses.replace(ACTING_PLANNER, acts=True)
            ),
            "distill.kind gru lets a small actor act, and .*planner.acts true",
        ),
    ],
)
def test_what_does_not_go_together_is_one_line(make, words):
    with pytest.raises(OptionError, match=words):
        make()
