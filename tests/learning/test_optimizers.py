"""The optimiser against a float64 loop, hand-worked first steps, and non-finite gradients."""

from __future__ import annotations

import dataclasses

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from common.errors import UserError
from common.learning.optimizers import OptimizerConfig, gradient_transformation, make_optimizer
from tests.reference import optimizers as reference

CONFIG = OptimizerConfig(lr=1e-2, eps=1e-4, clip=3.0, weight_decay=1e-3)
SCHEDULES = {
    "1": lambda step: 1,
    "0.5": lambda step: 0.5,
    "linear(1,0.1,3)": lambda step: max(0.1, 1 - 0.3 * step),
    "warmup(2,1)": lambda step: min(1, step / 2),
}
SHAPES = {"dense": (4, 3), "norm": (3,), "scalar": ()}


def _arrays(rng, scale=1.0):
    return {
        name: (scale * rng.normal(size=shape)).astype(np.float32) for name, shape in SHAPES.items()
    }


@hypothesis.settings(max_examples=10, deadline=None)
@hypothesis.given(
    seed=st.integers(0, 1000),
    scale=st.sampled_from([1e-5, 1.0, 100.0]),
    clip=st.sampled_from([0.0, 3.0]),
    weight_decay=st.sampled_from([0.0, 1e-3]),
    schedule=st.sampled_from(sorted(SCHEDULES)),
)
def test_steps_equal_the_loop(seed, scale, clip, weight_decay, schedule):
    rng = np.random.default_rng(seed)
    config = dataclasses.replace(CONFIG, clip=clip, weight_decay=weight_decay, lr_schedule=schedule)
    params, grads = _arrays(rng), [_arrays(rng, scale) for _ in range(4)]
    names = ("lr", "eps", "clip", "weight_decay", "beta1", "beta2")
    options = {name: getattr(config, name) for name in names} | {"factor": SCHEDULES[schedule]}
    steps = [list(step.values()) for step in grads]
    wanted = reference.run_adam(list(params.values()), steps, **options)
    _compare(config, params, grads, wanted)


@hypothesis.settings(max_examples=5, deadline=None)
@hypothesis.given(
    seed=st.integers(0, 1000),
    scale=st.sampled_from([1e-5, 1.0, 100.0]),
    agc=st.sampled_from([0.0, 0.3]),
    weight_decay=st.sampled_from([0.0, 0.1]),
    nesterov=st.booleans(),
)
def test_steps_of_laprop_equal_the_loop(seed, scale, agc, weight_decay, nesterov):
    rng = np.random.default_rng(seed)
    options = {"lr": 1e-2, "eps": 1e-8, "agc": agc, "weight_decay": weight_decay}
    options |= {"beta1": 0.9, "beta2": 0.99, "nesterov": nesterov}
    config = OptimizerConfig(**options, clip=0.0, adam="laprop", decay="kernels")
    params, grads = _arrays(rng), [_arrays(rng, scale) for _ in range(4)]
    steps = [list(step.values()) for step in grads]
    _compare(config, params, grads, reference.run_laprop(list(params.values()), steps, **options))


def _compare(config, params, grads, wanted):
    """Takes the steps and compares the weights after each of them."""
    optimizer = make_optimizer(config)
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for step, want in zip(grads, wanted, strict=True):
        params, state, _ = update(step, state, params)
        for got, x in zip((params[name] for name in SHAPES), want, strict=True):
            np.testing.assert_allclose(got, x, rtol=1e-5, atol=1e-6)


def test_first_step_by_hand():
    """With eps = |g| sqrt(1 - beta2) on the uncorrected root the step is half the rate."""
    gradient = 0.1
    eps = gradient * float(np.sqrt(1 - 0.999))
    params = {"w": jnp.ones(1)}
    grads = {"w": jnp.full(1, gradient)}
    for adam, step in (("tensorflow", 0.5), ("standard", gradient / (gradient + eps))):
        config = OptimizerConfig(lr=0.01, eps=eps, clip=0, weight_decay=0, adam=adam)
        optimizer = make_optimizer(config)
        after, _, _ = optimizer.update(grads, optimizer.init(params), params)
        np.testing.assert_allclose(1 - after["w"], 0.01 * step, rtol=1e-4)


def test_standard_adam_is_the_one_of_optax():
    rng = np.random.default_rng(0)
    params, grads = _arrays(rng), _arrays(rng)
    config = OptimizerConfig(lr=1e-3, eps=1e-4, clip=0, weight_decay=0, adam="standard")
    optimizer, oracle = make_optimizer(config), optax.adam(1e-3, eps=1e-4)
    after, _, _ = optimizer.update(grads, optimizer.init(params), params)
    updates, _ = oracle.update(grads, oracle.init(params), params)
    for got, want in zip(
        jax.tree.leaves(after), jax.tree.leaves(optax.apply_updates(params, updates)), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_weight_decay_is_not_scaled_by_the_learning_rate():
    params = {"w": jnp.full(3, 2.0)}
    optimizer = make_optimizer(OptimizerConfig(lr=1e-8, weight_decay=0.1))
    after, _, _ = optimizer.update({"w": jnp.zeros(3)}, optimizer.init(params), params)
    np.testing.assert_allclose(after["w"], 1.8, rtol=1e-6)


def test_clipping_scales_all_gradients_together():
    chain = gradient_transformation(dataclasses.replace(CONFIG, clip=1.0))
    grads = {"a": jnp.float32([30.0]), "b": jnp.float32([40.0])}
    _, state = chain.update(grads, chain.init(grads), grads)
    means = optax.tree.get(state, "mu")  # 0.1 of the clipped gradients 0.6 and 0.8
    np.testing.assert_allclose(means["a"], 0.06, rtol=1e-5)
    np.testing.assert_allclose(means["b"], 0.08, rtol=1e-5)


def test_only_laprop_looks_ahead():
    with pytest.raises(UserError, match="nesterov needs OptimizerConfig.adam laprop, not standard"):
        OptimizerConfig(adam="standard", nesterov=True)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_gradients_change_nothing_and_are_counted(bad):
    rng = np.random.default_rng(0)
    optimizer = make_optimizer(CONFIG)
    update = jax.jit(optimizer.update)
    params = _arrays(rng)
    params, state, metrics = update(_arrays(rng), optimizer.init(params), params)
    assert metrics["grad_skipped"] == 0 and np.isfinite(metrics["grad_norm"])
    poisoned = {**_arrays(rng), "norm": np.float32([1, bad, 2])}
    after, state_after, metrics = update(poisoned, state, params)
    assert metrics["grad_skipped"] == 1 and not np.isfinite(metrics["grad_norm"])
    same = (after, state_after.inner), (params, state.inner)
    for got, want in zip(*map(jax.tree.leaves, same), strict=True):
        np.testing.assert_array_equal(got, want)
    good = _arrays(rng)
    resumed, *_ = update(good, state_after, after)
    want, *_ = update(good, state, params)
    for got, expected in zip(jax.tree.leaves(resumed), jax.tree.leaves(want), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_state_keeps_its_structure_and_types():
    optimizer = make_optimizer(CONFIG)
    params = _arrays(np.random.default_rng(0))
    state = optimizer.init(params)
    after, state_after, _ = jax.jit(optimizer.update)(params, state, params)
    for before, later in ((params, after), (state, state_after)):
        assert jax.tree.structure(before) == jax.tree.structure(later)
        for x, y in zip(jax.tree.leaves(before), jax.tree.leaves(later), strict=True):
            assert x.dtype == y.dtype and x.shape == y.shape


@pytest.mark.parametrize("adam", ["tensorflow", "standard", "laprop"])
def test_state_and_parameters_can_be_donated(adam):
    optimizer = make_optimizer(dataclasses.replace(CONFIG, adam=adam))
    params = jax.tree.map(jnp.asarray, _arrays(np.random.default_rng(0)))
    state = optimizer.init(params)
    update = jax.jit(optimizer.update, donate_argnums=(1, 2))
    grads = jax.tree.map(jnp.ones_like, params)
    for _ in range(2):
        params, state, _ = update(grads, state, params)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(params))


def test_update_minimises():
    optimizer = make_optimizer(OptimizerConfig(lr=0.05))
    params = {"w": jnp.float32([3.0, -2.0])}
    state = optimizer.init(params)
    update = jax.jit(lambda p, s: optimizer.update({"w": 2 * (p["w"] - 1)}, s, p))
    for _ in range(300):
        params, state, _ = update(params, state)
    np.testing.assert_allclose(params["w"], 1, atol=0.01)


def test_unknown_adam_is_a_user_error():
    with pytest.raises(UserError, match="did you mean 'tensorflow'"):
        make_optimizer(OptimizerConfig(adam="tensorflo"))


def test_rates_scale_the_steps_of_named_parameters():
    """By the name of a component and by that of a layer; both count for one in the other."""
    params = {
        "rssm": {
            "rssm/~/img_in": {"kernel": jnp.ones((2, 2))},
            "rssm/~/gru": {"bias": jnp.ones(2)},
        },
        "reward": {"reward/out": {"kernel": jnp.ones((2, 1))}},
    }
    grads = jax.tree.map(lambda x: 0.1 * jnp.ones_like(x), params)
    config = OptimizerConfig(lr=1e-2, clip=0.0, weight_decay=0.0)
    scaled = dataclasses.replace(config, rates={"rssm": 0.5, "gru": 0.1})

    def steps(config):
        optimizer = make_optimizer(config)
        after, _, _ = optimizer.update(grads, optimizer.init(params), params)
        return jax.tree.map(lambda new, old: new - old, after, params)

    got, plain = steps(scaled), steps(config)
    for path, factor in (
        (("rssm", "rssm/~/img_in", "kernel"), 0.5),
        (("rssm", "rssm/~/gru", "bias"), 0.05),
        (("reward", "reward/out", "kernel"), 1.0),
    ):
        one, other = got, plain
        for key in path:
            one, other = one[key], other[key]
        np.testing.assert_allclose(one, factor * other, rtol=1e-4)


def test_rates_of_nothing_are_refused():
    optimizer = make_optimizer(OptimizerConfig(rates={"rsm": 0.5}))
    params = {"rssm": {"kernel": jnp.ones(2)}}
    with pytest.raises(UserError, match="rates names 'rsm', which no parameter has; .* 'rssm'"):
        optimizer.update(params, optimizer.init(params), params)
    with pytest.raises(UserError, match=r"rates\.rssm is -1; expected at least 0"):
        OptimizerConfig(rates={"rssm": -1})
    with pytest.raises(UserError, match=r"rates\.rssm is 'fast'; expected at least 0"):
        OptimizerConfig(rates={"rssm": "fast"})
