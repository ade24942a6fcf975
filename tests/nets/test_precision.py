"""Computing in bfloat16 with float32 at the borders."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.nets.precision import wrap


def _apply(params, x, *, seen=None, noise=None):
    if seen is not None:
        seen.append((params["w"].dtype, x["image"].dtype, x["count"].dtype))
    y = x["image"] @ params["w"]
    return y if noise is None else (y, noise)


def _inputs():
    rng = np.random.default_rng(0)
    params = {"w": jnp.asarray(rng.normal(size=(3, 2)), jnp.float32)}
    image = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)
    return params, {"image": image, "count": jnp.arange(4)}


def test_bfloat16_inside_float32_outside():
    params, x = _inputs()
    seen = []
    y = wrap(_apply, "bfloat16")(params, x, seen=seen)
    assert seen == [(jnp.bfloat16, jnp.bfloat16, jnp.int32)]
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, x["image"] @ params["w"], rtol=0.05, atol=0.05)


def test_gradients_stay_float32():
    params, x = _inputs()
    gradient = jax.grad(lambda p: wrap(_apply, "bfloat16")(p, x).sum())(params)
    assert gradient["w"].dtype == jnp.float32


def test_noise_by_keyword_keeps_its_tails():
    params, x = _inputs()
    noise = jnp.float32([1 - 2.0**-24])
    _, passed = wrap(_apply, "bfloat16")(params, x, noise=noise)
    np.testing.assert_array_equal(passed, noise)


@pytest.mark.parametrize("name", ["float32", "auto"])
def test_float32_is_the_function_itself(name):
    assert wrap(_apply, name) is _apply


@pytest.mark.parametrize("backend", ["gpu", "tpu"])
def test_auto_is_bfloat16_where_that_is_fast(backend, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    params, x = _inputs()
    seen = []
    wrap(_apply, "auto")(params, x, seen=seen)
    assert seen == [(jnp.bfloat16, jnp.bfloat16, jnp.int32)]
