"""Dense layers, norms and activations against NumPy."""

from __future__ import annotations

import typing

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.errors import UserError
from common.nets import layers
from common.nets.coders import Conv
from common.nets.layers import GLOROT, INITS, BlockDense, Dense, scaled
from common.nets.padded import PaddedConv


def build(function):
    return hk.without_apply_rng(hk.transform(function))


def test_dense_is_affine_with_glorot_uniform_kernel():
    net = build(lambda x: layers.Dense(300, name="dense")(x))
    x = np.random.default_rng(0).standard_normal((2, 5, 200)).astype(np.float32)
    params = net.init(jax.random.key(0), x)
    kernel, bias = params["dense"]["kernel"], params["dense"]["bias"]
    limit = np.sqrt(6 / (200 + 300))
    assert kernel.shape == (200, 300) and np.abs(kernel).max() <= limit
    assert np.std(kernel) == pytest.approx(limit / np.sqrt(3), rel=0.02)
    np.testing.assert_array_equal(bias, np.zeros(300))
    params["dense"]["bias"] = jnp.arange(300.0)
    want = x @ np.asarray(kernel) + np.arange(300)
    np.testing.assert_allclose(net.apply(params, x), want, rtol=1e-5, atol=1e-4)


def test_layer_norm():
    net = build(lambda x: layers.LayerNorm(name="norm")(x))
    x = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32) * 5 + 2
    params = {"norm": {"scale": np.arange(8.0), "offset": np.full(8, 0.5)}}
    want = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3)
    np.testing.assert_allclose(net.apply(params, x), want * np.arange(8) + 0.5, atol=1e-5)
    assert jax.tree.map(jnp.shape, net.init(jax.random.key(0), x)) == {
        "norm": {"scale": (8,), "offset": (8,)}
    }


def test_rms_norm():
    net = build(lambda x: layers.RMSNorm(name="norm")(x))
    x = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32) * 5 + 2
    want = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-4) * np.arange(8)
    params = {"norm": {"scale": np.arange(8.0)}}
    np.testing.assert_allclose(net.apply(params, x), want, rtol=1e-5, atol=1e-6)
    assert jax.tree.map(jnp.shape, net.init(jax.random.key(0), x)) == {"norm": {"scale": (8,)}}


def test_layer_norm_computes_in_float32():
    net = build(lambda x: layers.LayerNorm(name="norm")(x))
    x = jnp.asarray(1000 + np.arange(8.0), jnp.bfloat16)[None]
    out = net.apply(net.init(jax.random.key(0), x), x)
    wide = np.asarray(x, np.float32)
    want = (wide - wide.mean()) / np.sqrt(wide.var() + 1e-3)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(out.astype(jnp.float32), want, atol=0.02)


@pytest.mark.parametrize("name", sorted(layers.ACTIVATIONS))
def test_activation_matches_its_formula(name: str):
    x = np.linspace(-6, 6, 49, dtype=np.float32)
    sigmoid = 1 / (1 + np.exp(-x))
    want = {
        "elu": np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1),
        "relu": np.maximum(x, 0),
        "tanh": np.tanh(x),
        "silu": x * sigmoid,
        "gelu": 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        "mish": x * np.tanh(np.log1p(np.exp(x))),
    }[name]
    np.testing.assert_allclose(layers.ACTIVATIONS[name](x), want, atol=1e-6)


def test_elu_gradient_matches_the_library():
    x = jnp.linspace(-30, 5, 57)
    ours, theirs = (jax.vmap(jax.grad(f))(x) for f in (layers.elu, jax.nn.elu))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert jnp.isfinite(jax.grad(layers.elu)(1000.0))


@pytest.mark.parametrize("name", ["silu", "mish"])
def test_gradients_that_are_computed_anew_are_those_of_the_formula(name: str):
    """Against differences of the formula in float64; and however large the input is."""
    x = np.linspace(-25, 25, 401)
    formula = {
        "silu": lambda x: x / (1 + np.exp(-x)),
        "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    }[name]
    want = (formula(x + 1e-5) - formula(x - 1e-5)) / 2e-5
    gradient = jax.vmap(jax.grad(layers.ACTIVATIONS[name]))
    np.testing.assert_allclose(gradient(x.astype(np.float32)), want, atol=2e-6)
    np.testing.assert_array_equal(gradient(jnp.array([-1e4, 1e4])), [0, 1])
    low = layers.ACTIVATIONS[name]
    assert jax.grad(lambda x: low(x).astype(jnp.float32))(jnp.bfloat16(0.5)).dtype == jnp.bfloat16


def test_parts_of_an_input_give_what_they_give_joined():
    x, y = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    whole = build(lambda x, y: Dense(4, "dense")(jnp.concatenate([x, y], -1)))
    parts = build(lambda x, y: Dense(4, "dense")(x, y))
    params = whole.init(jax.random.key(0), x, y)
    assert jax.tree.map(jnp.shape, parts.init(jax.random.key(0), x, y)) == jax.tree.map(
        jnp.shape, params
    )
    np.testing.assert_allclose(parts.apply(params, x, y), whole.apply(params, x, y), atol=1e-6)


def test_unknown_names_get_a_hint():
    with pytest.raises(UserError, match="did you mean 'relu'"):
        layers.MLP(1, 2, "rellu")
    with pytest.raises(UserError, match="MLP.norm cannot be 'batch'.*layer, none"):
        layers.MLP(1, 2, norm="batch")


def test_every_activation_that_may_be_named_is_there():
    assert typing.get_args(layers.Activation) == tuple(layers.ACTIVATIONS)


def test_mlp_order_and_names():
    class Net(hk.Module):
        def __call__(self, x):
            return layers.MLP(2, 5, "relu", "layer", "densenorm")(x)

    net = build(lambda x: Net(name="net")(x))
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    params = net.init(jax.random.key(1), x)
    assert sorted(params) == ["net/dense0", "net/dense1", "net/densenorm0", "net/densenorm1"]
    want = x
    for i in range(2):
        want = want @ np.asarray(params[f"net/dense{i}"]["kernel"])
        want = want - want.mean(-1, keepdims=True)
        want = np.maximum(want / np.sqrt(want.var(-1, keepdims=True) + 1e-3), 0)
    np.testing.assert_allclose(net.apply(params, x), want, atol=1e-5)


def test_layers_compute_in_the_type_of_their_parameters():
    net = build(lambda x: hk.Sequential([layers.Dense(4), jnp.tanh, layers.Dense(2)])(x))
    x = jnp.ones((3, 5))
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), net.init(jax.random.key(0), x))
    assert net.apply(params, x).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("make", "shape", "fan"),
    [
        (lambda x: Dense(64, init=INITS["trunc_normal"])(x), (1, 400), 400),
        # Of a block-diagonal kernel the fan is all of the input, not a block's.
        (lambda x: BlockDense(640, 8, "trunc_normal")(x), (1, 640), 640),
        (lambda x: PaddedConv(48, 5, "trunc_normal", "conv")(x), (1, 8, 8, 32), 800),
        (
            lambda x: Conv(32, (5, 5), "trunc_normal", transpose=True)(x),
            (1, 4, 4, 48),
            25 * 48,
        ),
    ],
    ids=["dense", "blocks", "padded", "transposed"],
)
def test_truncated_normals_have_the_variance_of_one_over_the_fan(make, shape, fan):
    net = hk.without_apply_rng(hk.transform(make))
    (leaves,) = net.init(jax.random.key(0), jnp.zeros(shape)).values()
    kernel = np.asarray(leaves["kernel"])
    np.testing.assert_allclose(kernel.std(), fan**-0.5, rtol=0.02)
    largest = np.abs(kernel).max() * fan**0.5
    assert 2.2 < largest <= 2 * 1.1369  # Cut at two of the deviations before the cut.
    assert not np.asarray(leaves["bias"]).any()


def test_an_initialiser_is_scaled():
    shape, key = (30, 20), jax.random.key(0)

    def draw(init):
        net = hk.transform(lambda: hk.get_parameter("w", shape, init=init))
        return net.init(key)["~"]["w"]

    np.testing.assert_allclose(draw(scaled(GLOROT, 0.01)), 0.01 * draw(GLOROT), rtol=1e-6)
    assert scaled(GLOROT, 1.0) is GLOROT
