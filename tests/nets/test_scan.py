"""Weights' gradients outside of the loop: equal to those of ``jax.lax.scan``."""

from __future__ import annotations

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.nets.scan import recurrent_scan, scan_apart
from tests.lowered import loops_of

STEPS, ROWS, SIZE = 6, 4, 5


def values():
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    weights = {"state": draw(SIZE, SIZE) / 2, "input": draw(3, SIZE), "out": draw(SIZE, 2)}
    return weights, draw(ROWS, SIZE), draw(STEPS, ROWS, 3)


def loss(scan, weights, carry, xs):
    """Of all outputs and of the last carry; one weight serves twice, one output is not read."""

    def step(carry, x):
        carry = jnp.tanh(carry @ weights["state"] + x @ weights["input"])
        return carry, {"y": jnp.sin(carry @ weights["out"]), "spare": carry @ weights["state"]}

    last, ys = scan(step, carry, xs)
    return (ys["y"] * jnp.arange(STEPS)[:, None, None]).sum() + jnp.square(last).sum()


def apart(step, carry, xs):
    function, weights = jax.closure_convert(step, carry, xs[0])
    return scan_apart(function, carry, xs, weights)


def close(got, want):
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=2e-6 * max(1, np.abs(y).max()))


@pytest.mark.parametrize("scan", [apart, recurrent_scan])
def test_value_and_all_gradients_are_those_of_the_ordinary_scan(scan):
    both = [
        jax.jit(jax.value_and_grad(functools.partial(loss, one), (0, 1, 2)))(*values())
        for one in (scan, jax.lax.scan)
    ]
    close(*both)


def test_several_seeds_at_once():
    weights, carry, xs = values()
    stacked = jax.tree.map(lambda x: jnp.stack([x, 2 * x, -x]), weights)
    both = [
        jax.jit(jax.vmap(jax.grad(functools.partial(loss, one)), (0, None, None)))(
            stacked, carry, xs
        )
        for one in (apart, jax.lax.scan)
    ]
    close(*both)


def test_inputs_may_be_missing():
    """As noise is where modes are taken."""

    def total(scan, weight):
        step = lambda carry, now: (carry * weight + now[0], now[1])  # noqa: E731
        last, ys = scan(step, jnp.ones(2), (jnp.ones((3, 2)), None))
        assert ys is None
        return last.sum()

    close(*(jax.grad(functools.partial(total, one))(0.5) for one in (recurrent_scan, jax.lax.scan)))


@pytest.mark.parametrize("kept", [None, jax.checkpoint_policies.dots_saveable])
def test_a_cpu_loops_as_ever_and_others_gather_no_gradients_in_loops(kept):
    def ordinary(step, carry, xs):
        if kept:
            step = jax.checkpoint(step, policy=kept, prevent_cse=False)
        return jax.lax.scan(step, carry, xs)

    def program(scan, platform):
        traced = jax.jit(jax.grad(functools.partial(loss, scan))).trace(*values())
        return traced.lower(lowering_platforms=(platform,)).as_text()

    new = functools.partial(recurrent_scan, policy=kept)
    for word in ("stablehlo.dot_general", "stablehlo.while", "dynamic_update_slice", "tanh"):
        counts = {program(scan, "cpu").count(word) for scan in (new, ordinary)}
        assert len(counts) == 1 and counts.pop() > 0, word
    gathered = rf"stablehlo.add .*tensor<{SIZE}x{SIZE}xf32>"  # Onto that of the state's kernel.
    found = [
        [len(re.findall(gathered, body)) for body in loops_of(program(scan, "cuda"))]
        for scan in (ordinary, new)
    ]
    assert found == [[0, 1], [0, 0]]
