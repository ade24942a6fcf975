"""Layers of TD-MPC2 against the numbers of the public code."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from common.nets.layers import layer_norm, mish, sim_norm
from tests.golden_data import (
    FOLDER_TDMPC2,
    assert_gradients,
    assert_values,
    every_array,
    load,
)

ARRAYS = load("layers", FOLDER_TDMPC2)
WEIGHTS = ("dense.kernel", "dense.bias", "norm.scale", "norm.offset")
EPSILON = 1e-5
"""The default of PyTorch."""


def names(marker, present):
    found = sorted({name.split(".")[0] for name in ARRAYS})
    return [name for name in found if (f"{name}.{marker}" in ARRAYS) == present]


def activation(case):
    size = case.get("cfg.simnorm_dim")
    return mish if size is None else lambda x: sim_norm(x, int(size))


@pytest.mark.parametrize("name", names("w.dense.kernel", True))
def test_normed_layer(name):
    """Affine map, dropout by a given mask, layer norm, activation."""
    with every_array(ARRAYS.case(name)) as case:

        def layer(x, weights, keep=1.0):
            y = (x @ weights["dense.kernel"] + weights["dense.bias"]) * keep
            normed = layer_norm(y, weights["norm.scale"], weights["norm.offset"], EPSILON)
            return activation(case)(normed)

        x, weights = jnp.asarray(case["in.x"]), {one: case[f"w.{one}"] for one in WEIGHTS}
        keep = 1.0
        if "in.keep" in case:
            keep = case["in.keep"] / (1 - case["cfg.dropout"])
            assert_values(layer(x, weights), case["out_eval"], "out_eval")
        assert_values(layer(x, weights, keep), case["out"], "out")
        scalar = lambda *args: (layer(*args, keep) * case["in.cotangent"]).sum()  # noqa: E731
        to_x, to_weights = jax.grad(scalar, (0, 1))(x, weights)
        for one, gradient in {"x": to_x, **to_weights}.items():
            assert_gradients(gradient, case[f"grad.{one}"], one)


@pytest.mark.parametrize("name", names("w.dense.kernel", False))
def test_activation_alone(name):
    with every_array(ARRAYS.case(name)) as case:
        function, x = activation(case), jnp.asarray(case["in.x"])
        assert_values(function(x), case["out"], "out")
        cotangent = case["in.cotangent"] if "in.cotangent" in case else 1.0
        gradient = jax.grad(lambda x: (function(x) * cotangent).sum())(x)
        assert_gradients(gradient, case["grad.x"], "grad")


def test_entries_of_a_group_are_probabilities():
    out = sim_norm(jax.random.normal(jax.random.key(0), (4, 3, 24)), 8)
    assert_values(out.reshape(4, 3, 3, 8).sum(-1), jnp.ones((4, 3, 3)))
