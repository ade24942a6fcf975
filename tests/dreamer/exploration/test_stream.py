"""Surprise and other streams, against slow sums; noise stays surprising."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest

from common.distributions import kl_divergence
from common.model.imagine import Trajectory
from common.model.world_model import world_model
from common.nets.heads import HeadConfig
from dreamer.exploration.intrinsic import Seen, Sizes, find_sizes
from dreamer.exploration.stream import make_stream, surprise
from tests.tiny import BATCH, TIME, TINY, VECTOR, choice, random_batch, random_params

SIZES = Sizes(feature=5, stoch=6, deter=3, embed=7, action=2)


@pytest.fixture(scope="module")
def passed():
    """A model and its losses on a batch."""
    model = world_model(TINY, VECTOR, choice(3))
    params, batch = random_params(model.init), random_batch(VECTOR, choice(3))
    noise = model.draw_noise(jax.random.key(0), (BATCH, TIME))
    return model, params, batch, jax.jit(model.losses)(params, noise, batch)


def test_surprise_is_the_evidence_bound_without_its_constant(passed):
    model, params, batch, losses = passed
    kl = np.asarray(kl_divergence(losses.observed.posterior, losses.observed.prior))
    np.testing.assert_allclose(surprise(model, losses, "kl"), kl, rtol=1e-5)
    mean = model.decoder(params, model.feature(params, losses.observed.states))["x"].mean()
    squares = np.array(
        [[0.5 * ((batch["x"][b, t] - mean[b, t]) ** 2).sum() for t in range(TIME)]
         for b in range(BATCH)]
    )  # fmt: skip
    np.testing.assert_allclose(surprise(model, losses, "loss"), kl + squares, rtol=1e-4)


def test_surprise_adds_up_in_the_order_of_the_terms():
    """To the bit: the order of a set of names is another in every process."""
    rng = np.random.default_rng(0)
    terms = {f"sensor{i}": rng.normal(size=200).astype(np.float32) for i in range(20)}
    decoder = SimpleNamespace(score="other")
    observations = {name: SimpleNamespace(shape=(1,)) for name in reversed(terms)}
    model = SimpleNamespace(config=SimpleNamespace(decoder=decoder), observations=observations)
    losses = SimpleNamespace(kl_value=np.zeros(200, np.float32), log_probs={"reward": 0} | terms)
    total = np.zeros(200, np.float32)
    for term in terms.values():
        total -= term
    np.testing.assert_array_equal(surprise(model, losses, "loss"), total)


def test_sizes_are_those_of_what_the_model_infers(passed):
    model, params, batch, losses = passed
    states = losses.observed.states
    found = find_sizes(model)
    assert found.feature == model.feature(params, states).shape[-1]
    assert found.stoch == states.stoch[0, 0].size and found.deter == states.deter.shape[-1]
    assert found.embed == losses.embed.shape[-1] and found.action == 3
    # What acting sees of a row is what learning does.
    rows = {name: x[:, 1] for name, x in batch.items()}
    np.testing.assert_allclose(model.embed(params, rows), losses.embed[:, 1], rtol=1e-4, atol=1e-6)


def test_a_head_learns_the_stream_of_the_rows_that_count():
    """Rows of two kinds: what is noise to nobody, and what always is. Others count for nothing."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(2, size=(64, 4))
    features = np.concatenate([np.eye(2)[kinds], rng.normal(size=(64, 4, 3))], -1)
    values = np.where(kinds, 8 + rng.normal(size=kinds.shape), 0.1).astype(np.float32)
    counts = rng.random(kinds.shape) < 0.7
    values[~counts] = 1e3
    head = make_stream(
        HeadConfig(layers=1, units=16, likelihood="symlog"), SIZES, "float32",
        lambda seen: (values, counts),
    )  # fmt: skip
    seen = Seen({}, SimpleNamespace(), features.astype(np.float32))
    params, opt = head.init(jax.random.key(0)), optax.adam(1e-2)

    @jax.jit
    def step(params, state):
        grads, metrics = jax.grad(head.loss, has_aux=True)(params, None, seen)
        steps, state = opt.update(grads, state)
        return optax.apply_updates(params, steps), state, metrics

    state = opt.init(params)
    for _ in range(300):
        params, state, metrics = step(params, state)
    np.testing.assert_allclose(metrics["stream_mean"], values[counts].mean(), rtol=1e-5)
    found = np.asarray(head.reward(params, Trajectory(seen.features, None, None)))
    np.testing.assert_allclose(found[kinds == 0].mean(), 0.1, atol=0.2)
    np.testing.assert_allclose(found[kinds == 1].mean(), 8, atol=0.8)


def test_a_stream_of_no_row_is_no_error():
    head = make_stream(
        HeadConfig(layers=0), SIZES, "float32", lambda seen: (np.ones((1, 2)), np.zeros((1, 2)))
    )
    seen = Seen({}, SimpleNamespace(), np.zeros((1, 2, 5), np.float32))
    assert head.loss(head.init(jax.random.key(0)), None, seen)[0] == 0
