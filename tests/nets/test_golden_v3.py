"""Norms, symlog, block-diagonal layers and padded convolutions against the numbers of DreamerV3."""

from __future__ import annotations

import haiku as hk
import jax
import pytest

from common.distributions import symexp, symlog
from common.nets.config import DecoderConfig
from common.nets.layers import BlockDense, Dense, layer_norm, rms_norm
from common.nets.padded import PaddedConv, double
from tests.golden_data import FOLDER_V3, assert_elementwise, every_array, load

ARRAYS = load("misc", FOLDER_V3)


@pytest.mark.parametrize(
    ("name", "function", "epsilon"),
    [
        ("norm_rms", rms_norm, 1e-4),
        ("norm_rms1em6", rms_norm, 1e-6),
        ("norm_layer", layer_norm, 1e-4),
        ("norm_layer1em2", layer_norm, 1e-2),
    ],
)
def test_norm(name, function, epsilon):
    with every_array(ARRAYS.case(name)) as case:
        weights = [case[f"w.{part}"] for part in ("scale", "shift") if f"w.{part}" in case]
        normalise = lambda x: function(x, *weights, epsilon=epsilon)  # noqa: E731
        assert_elementwise(normalise(case["in.x"]), case["out"], "out")
        cotangent = case["in.cotangent"]
        got = jax.grad(lambda x: (normalise(x) * cotangent).sum())(case["in.x"])
        assert_elementwise(got, case["grad_x"], "grad_x")


def test_symlog_and_its_inverse():
    with every_array(ARRAYS.case("symlog")) as case:
        x = case["in.x"]
        assert_elementwise(symlog(x), case["out"], "out")
        assert_elementwise(jax.vmap(jax.grad(symlog))(x), case["grad"], "grad")
    with every_array(ARRAYS.case("symexp")) as case:
        assert_elementwise(symexp(case["in.x"]), case["out"], "out")


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("block_linear", lambda g, x: BlockDense(12, int(g["cfg.blocks"]), name="layer")(x)),
        ("linear_multi", lambda g, x: Dense(6, name="layer")(x).reshape(g["out"].shape)),
        ("conv", lambda g, x: PaddedConv(3, 5, "glorot", "layer", 1)(x)),
        ("conv_stride2", lambda g, x: PaddedConv(3, 5, "glorot", "layer", 2)(x)),
        (
            "conv_transp2",
            lambda g, x: PaddedConv(3, 5, "glorot", "layer")(
                double(x, DecoderConfig(convolutions="stride"))
            ),
        ),
    ],
)
def test_layer(name, layer):
    with every_array(ARRAYS.case(name)) as case:
        net = hk.without_apply_rng(hk.transform(lambda x: layer(case, x)))
        params = {"layer": {leaf: case[f"w.{leaf}"] for leaf in ("kernel", "bias")}}
        assert_elementwise(net.apply(params, case["in.x"]), case["out"], "out")
