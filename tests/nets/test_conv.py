"""Both implementations of the convolutions against loops and against each other."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.nets import conv
from tests.reference import conv as reference

FUNCTIONS = {"conv2d": conv.conv2d, "conv2d_transpose": conv.conv2d_transpose}
IMPLEMENTATIONS = ("library", "matmul", None)


@st.composite
def cases(draw: st.DrawFn) -> dict:
    """Sizes of a convolution whose kernel fits the image, and the size of a chunk."""
    kernel = draw(st.integers(2, 6)), draw(st.integers(2, 6))
    return {
        "stride": draw(st.integers(1, 3).filter(lambda stride: stride <= min(kernel))),
        "kernel": kernel,
        "image": (kernel[0] + draw(st.integers(0, 6)), kernel[1] + draw(st.integers(0, 6))),
        "channels": (draw(st.integers(1, 4)), draw(st.integers(1, 4))),
        "batch": draw(st.integers(1, 7)),
        "chunk_bytes": draw(st.sampled_from([1, 3000, 2**30])),
    }


def arrays(name: str, case: dict) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    channels = case["channels"]
    x = rng.standard_normal((case["batch"], *case["image"], channels[0]))
    if name == "conv2d_transpose":
        channels = channels[::-1]
    kernel = rng.standard_normal((*case["kernel"], *channels))
    return x.astype(np.float32), kernel.astype(np.float32)


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=6, deadline=None)
@given(case=cases())
def test_values_match_loops(name: str, case: dict):
    x, kernel = arrays(name, case)
    want = getattr(reference, name)(x, kernel, case["stride"])
    for implementation in IMPLEMENTATIONS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(conv, "CHUNK_BYTES", case["chunk_bytes"])
            function = functools.partial(
                FUNCTIONS[name], stride=case["stride"], implementation=implementation
            )
            got = jax.jit(function)(x, kernel)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4, err_msg=str(implementation))


@pytest.mark.parametrize("implementation", ["matmul", None])
@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=6, deadline=None)
@given(case=cases())
def test_gradients_of_the_implementations_agree(name: str, implementation: str, case: dict):
    x, kernel = arrays(name, case)

    def gradients(implementation: str | None) -> tuple[jax.Array, jax.Array]:
        def loss(x: jax.Array, kernel: jax.Array) -> jax.Array:
            out = FUNCTIONS[name](x, kernel, case["stride"], implementation)
            return jnp.sum(jnp.sin(out * (1 + jnp.arange(out.size).reshape(out.shape) % 5)))

        gradient = jax.grad(loss, (0, 1))
        return jax.jit(gradient)(x, kernel)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv, "CHUNK_BYTES", case["chunk_bytes"])
        got = gradients(implementation)
    for ours, theirs in zip(got, gradients("library"), strict=True):
        assert ours.dtype == theirs.dtype
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * scale + 1e-5)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_eager_equals_jit(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(conv, "CHUNK_BYTES", 1000)
    rng = np.random.default_rng(4)
    x = rng.standard_normal((3, 7, 8, 2)).astype(np.float32)
    kernel = rng.standard_normal((4, 5, 2, 2)).astype(np.float32)
    gradient = jax.grad(lambda *args: jnp.sum(FUNCTIONS[name](*args, 2, "matmul") ** 2), (0, 1))
    for eager, compiled in zip(gradient(x, kernel), jax.jit(gradient)(x, kernel), strict=True):
        np.testing.assert_allclose(eager, compiled, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_transposed_convolution_is_the_adjoint(implementation: str):
    rng = np.random.default_rng(1)
    x, y, kernel = (
        rng.standard_normal(shape).astype(np.float32)
        for shape in ((2, 10, 12, 3), (2, 4, 5, 4), (4, 4, 3, 4))
    )
    left = np.vdot(conv.conv2d(x, kernel, 2, implementation), y)
    right = np.vdot(x, conv.conv2d_transpose(y, kernel, 2, implementation))
    np.testing.assert_allclose(left, right, rtol=1e-4)


@pytest.mark.parametrize("amount", [1, 7, 12, 13])
def test_batches_of_any_size_give_the_same(amount: int, monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((amount, 9, 9, 2)).astype(np.float32)
    kernel = rng.standard_normal((4, 4, 2, 3)).astype(np.float32)

    def both(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        value, pullback = jax.vjp(lambda kernel: conv.conv2d(x, kernel, 2, "matmul"), kernel)
        return value, pullback(value)[0]

    whole = jax.jit(both)(x, kernel)
    for chunk_bytes in (1, 2500, 5000):
        monkeypatch.setattr(conv, "CHUNK_BYTES", chunk_bytes)
        for got, want in zip(jax.jit(lambda *args: both(*args))(x, kernel), whole, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_vmap_over_kernels(name: str):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 8, 8, 3)).astype(np.float32)
    kernels = rng.standard_normal((3, 4, 4, 3, 3)).astype(np.float32)

    def gradient(kernel: jax.Array) -> jax.Array:
        return jax.grad(lambda kernel: jnp.sum(FUNCTIONS[name](x, kernel, 2, "matmul") ** 2))(
            kernel
        )

    got = jax.vmap(gradient)(kernels)
    for i, kernel in enumerate(kernels):
        np.testing.assert_allclose(got[i], gradient(kernel), rtol=1e-3, atol=1e-2)


def test_bfloat16_stays_bfloat16():
    x, kernel = jnp.ones((2, 8, 8, 3), jnp.bfloat16), jnp.ones((4, 4, 3, 5), jnp.bfloat16)
    value, pullback = jax.vjp(lambda *args: conv.conv2d(*args, 2, "matmul"), x, kernel)
    assert {value.dtype, *(g.dtype for g in pullback(value))} == {jnp.dtype("bfloat16")}
    np.testing.assert_array_equal(value.astype(jnp.float32), 48)


def test_unknown_implementation():
    with pytest.raises(ValueError, match="library or matmul"):
        conv.conv2d(jnp.ones((1, 8, 8, 1)), jnp.ones((4, 4, 1, 1)), 2, "fast")
