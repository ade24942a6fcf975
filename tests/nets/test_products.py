"""Products of operands that are rounded to bfloat16, with float32 sums."""

from __future__ import annotations

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from common.nets import conv
from common.nets.layers import Dense, block_dense
from common.nets.patches import cut_patches, outer_product
from common.nets.precision import wrap
from common.nets.products import kernel_gradient, product

CONVOLUTIONS = {
    "conv2d": lambda x, k, form: conv.conv2d(x, k, 2, form),
    "conv2d_transpose": lambda x, k, form: conv.conv2d_transpose(x, k.swapaxes(2, 3), 2, form),
}


def rounded(x):
    """What is left of numbers as bfloat16, in double precision."""
    return np.asarray(x).astype(ml_dtypes.bfloat16).astype(np.float64)


def draw(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def with_gradients(function, weights, *args):
    """The result of a function, and the gradients of its product with weights."""
    value, pullback = jax.vjp(wrap(function, "bfloat16_products"), *args)
    return value, *pullback(jnp.asarray(weights))


def test_operands_are_rounded_and_sums_are_not():
    """By hand; sums of 500 products in bfloat16 would be off by a hundredth."""
    x, kernel, weights = draw((3, 4, 500), (500, 6), (3, 4, 6))
    got = with_gradients(product, weights, x, kernel)
    flat = rounded(x).reshape(-1, 500), rounded(weights).reshape(-1, 6)
    want = (
        rounded(x) @ rounded(kernel),
        rounded(weights) @ rounded(kernel).T,
        flat[0].T @ flat[1],
    )
    for a, b in zip(got, want, strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)
    assert np.abs(got[0] - x @ kernel).max() > 1e-2


@pytest.mark.parametrize("rows", [3, 300])
@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_both_forms_of_block_layers_round(rows, platform):
    """Few rows and many; a trace in float32 before leaves no trace."""
    x, kernel, weights = draw((rows, 12), (3, 4, 5), (rows, 15))
    block_dense(x, kernel)
    got = with_gradients(block_dense, weights, x, kernel)
    for block in range(3):
        inputs, outputs = slice(4 * block, 4 * block + 4), slice(5 * block, 5 * block + 5)
        args = x[:, inputs], kernel[block]
        want = with_gradients(product, weights[:, outputs], *args)
        parts = got[0][:, outputs], got[1][:, inputs], got[2][block]
        for a, b in zip(parts, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    run = jax.jit(functools.partial(with_gradients, block_dense)).trace(weights, x, kernel)
    assert_all_rounded(run.lower(lowering_platforms=(platform,)).as_text(), "f32")


@pytest.mark.parametrize("implementation", ["matmul", "library"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_round_in_both_forms(name, implementation, monkeypatch):
    """They equal those of rounded operands in float32; the library rounds its results as well."""
    monkeypatch.setattr(conv, "CHUNK_BYTES", 2500)
    function = functools.partial(CONVOLUTIONS[name], form=implementation)
    x, kernel = draw((7, 9, 9, 3), (4, 4, 3, 5))
    weights = draw(function(x, kernel).shape, seed=1)[0]
    got = with_gradients(function, weights, x, kernel)
    low = [jnp.asarray(rounded(x), jnp.float32) for x in (x, kernel, weights)]
    value, pullback = jax.vjp(function, *low[:2])
    tolerance = 1e-5 if implementation == "matmul" else 2**-8
    for a, b in zip(got, (value, *pullback(low[2])), strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=1e-4)
    assert np.abs(got[0] - function(x, kernel)).max() > 1e-3


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_of_each_platform_round(name):
    x, kernel = draw((7, 9, 9, 3), (4, 4, 3, 5))
    function = functools.partial(CONVOLUTIONS[name], form=None)
    weights = draw(function(x, kernel).shape)[0]
    run = jax.jit(functools.partial(with_gradients, function)).trace(weights, x, kernel)
    for platform, result in (("cpu", "f32"), ("cuda", "bf16")):
        text = run.lower(lowering_platforms=(platform,)).as_text()
        assert assert_all_rounded(text, result) == 3


def assert_all_rounded(text, result):
    """Returns how many products there are."""
    lines = [x for x in text.splitlines() if "dot_general" in x or "stablehlo.convolution" in x]
    for line in lines:
        operands, out = line.rsplit(" : ", 1)[1].split(" -> ")
        assert operands.count("xbf16>") == 2 and out.endswith(f"x{result}>"), line
    return len(lines)


@pytest.mark.parametrize("axes", [(None, 0), (0, None), (0, 0)])
@pytest.mark.parametrize("rows, m, n", [(1, 1, 1), (4, 8, 16), (4, 16, 8), (300, 5, 9)])
def test_gradients_of_kernels(rows, m, n, axes):
    """By hand, and those of ensembles; the first factor is summed over along its last axis."""
    x, y = draw((3, rows, m), (3, rows, n))
    low = [jnp.asarray(a, jnp.bfloat16) for a in (x, y)]
    want = np.swapaxes(rounded(x[0]), 0, 1) @ rounded(y[0])
    for function in (kernel_gradient, outer_product):
        got = function(*(a[0] for a in low))
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-4)
    given = [a if axis == 0 else a[0] for a, axis in zip(low, axes, strict=True)]
    each = [[*rounded(a)] if a.ndim == 3 else [rounded(a)] * 3 for a in given]
    want = [a.T @ b for a, b in zip(*each, strict=True)]
    got = jax.jit(jax.vmap(kernel_gradient, axes))(*given)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-4)
    text = jax.jit(kernel_gradient).lower(low[0][0], low[1][0]).as_text()
    assert assert_all_rounded(text, "f32") == 1 and "contracting_dims = [1] x [0]" in text


def test_patches_of_bfloat16_are_moved_as_integers():
    """XLA would make float32 of what it joins, on a CPU."""
    (x,) = draw((3, 9, 8, 5))
    cut = functools.partial(cut_patches, size=(4, 3), stride=2)
    low = jnp.asarray(x, jnp.bfloat16)
    np.testing.assert_array_equal(rounded(cut(low)), cut(rounded(x)))
    joins = [a for a in jax.jit(cut).lower(low).as_text().splitlines() if "concatenate" in a]
    assert joins and all("xui16>" in line and "bf16" not in line for line in joins)


def test_several_inputs_of_a_dense_layer():
    parts = draw((4, 3), (4, 2))
    dense = hk.without_apply_rng(hk.transform(lambda *parts: Dense(5)(*parts)))
    params = dense.init(jax.random.key(0), *parts)
    got = wrap(dense.apply, "bfloat16_products")(params, *parts)
    want = rounded(np.concatenate(parts, -1)) @ rounded(params["dense"]["kernel"])
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_nothing_is_rounded_elsewhere():
    x, kernel = draw((4, 3), (3, 2))
    assert "bf16" in str(jax.make_jaxpr(wrap(product, "bfloat16_products"))(x, kernel))
    assert "bf16" not in str(jax.make_jaxpr(product)(x, kernel))
    with pytest.raises(TypeError, match="contracting"):
        wrap(lambda x: product(x, x), "bfloat16_products")(x)
    assert "bf16" not in str(jax.make_jaxpr(lambda *args: product(*args) + 0)(x, kernel))
