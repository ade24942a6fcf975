"""Recurrent cells against NumPy."""

from __future__ import annotations

import haiku as hk
import jax
import numpy as np
import pytest

from common.nets.cells import make_cell
from tests.reference import cells

INPUTS, SIZE, ROWS = 3, 4, 5


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    return rng.normal(size=(ROWS, INPUTS)), rng.normal(size=(ROWS, SIZE))


def _apply(name, params, vectors):
    cell = hk.without_apply_rng(hk.transform(lambda x, h: make_cell(name, INPUTS, SIZE)(x, h)))
    shapes = jax.eval_shape(cell.init, jax.random.key(0), *vectors)
    given = jax.tree.map(np.shape, params)
    assert given == jax.tree.map(lambda x: x.shape, shapes)
    return jax.jit(cell.apply)(params, *vectors)


def test_gru(vectors):
    rng = np.random.default_rng(1)
    shapes = {
        "input_kernel": (INPUTS, 3 * SIZE),
        "state_kernel": (SIZE, 3 * SIZE),
        "input_bias": (3 * SIZE,),
        "state_bias": (3 * SIZE,),
    }
    weights = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    got = _apply("gru", {"gru": weights}, vectors)
    want = [cells.gru(x, h, **weights) for x, h in zip(*vectors, strict=True)]
    np.testing.assert_allclose(got, want, atol=2e-6)


def test_original_gru(vectors):
    rng = np.random.default_rng(3)
    weights = {
        name: {"kernel": rng.normal(size=(INPUTS + SIZE, size)), "bias": rng.normal(size=size)}
        for name, size in (("gru_gates", 2 * SIZE), ("gru_candidate", SIZE))
    }
    got = _apply("original_gru", weights, vectors)
    flat = [weights[name][part] for name in weights for part in ("kernel", "bias")]
    want = [cells.original_gru(x, h, *flat) for x, h in zip(*vectors, strict=True)]
    np.testing.assert_allclose(got, want, atol=2e-6)


def test_layer_norm_gru(vectors):
    rng = np.random.default_rng(2)
    dense = {
        "kernel": rng.normal(size=(INPUTS + SIZE, 3 * SIZE)),
        "bias": rng.normal(size=3 * SIZE),
    }
    norm = {"scale": rng.normal(size=3 * SIZE), "offset": rng.normal(size=3 * SIZE)}
    got = _apply("layer_norm_gru", {"gru": dense, "gru_norm": norm}, vectors)
    want = [cells.layer_norm_gru(x, h, **dense, **norm) for x, h in zip(*vectors, strict=True)]
    np.testing.assert_allclose(got, want, atol=2e-6)


def test_layer_norm_gru_is_slow_at_first(vectors):
    zeros = {"kernel": np.zeros((INPUTS + SIZE, 3 * SIZE)), "bias": np.zeros(3 * SIZE)}
    norm = {"scale": np.ones(3 * SIZE), "offset": np.zeros(3 * SIZE)}
    got = _apply("layer_norm_gru", {"gru": zeros, "gru_norm": norm}, vectors)
    kept = 1 - 1 / (1 + np.e)  # The update gate starts at sigmoid(-1).
    np.testing.assert_allclose(got, kept * vectors[1], rtol=1e-6)
