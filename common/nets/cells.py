"""Recurrent cells as pure functions of their weights.

The weights are fetched from Haiku once, outside the time scan, so that the scan's
body is plain JAX and nothing is looked up or created inside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from common.nets.layers import GLOROT, Dense, LayerNorm, layer_norm
from common.nets.products import product
from common.types import Array

Cell = Callable[[Array, Array], Array]
"""(input [..., X], state [..., D]) -> next state [..., D]."""
CellName = Literal["layer_norm_gru", "gru", "original_gru"]


def make_cell(name: CellName, inputs: int, size: int) -> Cell:
    """Creates the weights of a cell inside a Haiku transform.

    Args:
        name: "layer_norm_gru" (DreamerV2), "gru" (Dreamer V1) or "original_gru" (PlaNet).
        inputs: Entries of the cell's input, X.
        size: Entries of the state, D.

    Returns:
        The cell as a pure function.
    """
    cells = {"layer_norm_gru": _layer_norm_gru, "gru": _gru, "original_gru": _original_gru}
    return cells[name](inputs, size)


def _layer_norm_gru(inputs: int, size: int) -> Cell:
    """The cell of DreamerV2.

    [ρ, c, u] = split(LN(W [x; h] + b));  ρ' = σ(ρ), c' = tanh(ρ' ⊙ c), u' = σ(u − 1)
    h' = u' ⊙ c' + (1 − u') ⊙ h

    Unlike in the textbook's cell, the reset gate scales the mixed candidate, the
    update gate weighs the candidate, and its bias of −1 makes the state slow at first.
    """
    kernel, bias = Dense(3 * size, name="gru").parameters(inputs + size)
    norm = LayerNorm(name="gru_norm").parameters(3 * size)
    of_x, of_h = kernel[:inputs], kernel[inputs:]

    def step(x: Array, h: Array) -> Array:
        mixed = layer_norm(product(x, of_x) + product(h, of_h) + bias, *norm)
        reset, candidate, update = jnp.split(mixed, 3, -1)
        candidate = jnp.tanh(jax.nn.sigmoid(reset) * candidate)
        update = jax.nn.sigmoid(update - 1)
        return update * candidate + (1 - update) * h

    return step


class _GRUWeights(NamedTuple):
    """Weights of the plain GRU; the last axis is split into update, reset, candidate."""

    input_kernel: Array  # [X, 3 D]
    state_kernel: Array  # [D, 3 D]
    input_bias: Array  # [3 D]
    state_bias: Array  # [3 D]


class _GRUParameters(hk.Module):
    """Creates the weights of the plain GRU (recurrent kernel orthogonal, as in Keras)."""

    def __call__(self, inputs: int, size: int) -> _GRUWeights:
        return _GRUWeights(
            hk.get_parameter("input_kernel", (inputs, 3 * size), init=GLOROT),
            hk.get_parameter("state_kernel", (size, 3 * size), init=hk.initializers.Orthogonal()),
            hk.get_parameter("input_bias", (3 * size,), init=jnp.zeros),
            hk.get_parameter("state_bias", (3 * size,), init=jnp.zeros),
        )


def _gru(inputs: int, size: int) -> Cell:
    """The GRU of Dreamer V1's code (Keras' GRUCell with ``reset_after``).

    z = σ(Wz x + Uz h + bz),  r = σ(Wr x + Ur h + br)
    c = tanh(Wc x + bc + r ⊙ (Uc h + dc)),  h' = z ⊙ h + (1 − z) ⊙ c
    """
    weights = _GRUParameters(name="gru")(inputs, size)

    def step(x: Array, h: Array) -> Array:
        from_input = jnp.split(product(x, weights.input_kernel) + weights.input_bias, 3, -1)
        from_state = jnp.split(product(h, weights.state_kernel) + weights.state_bias, 3, -1)
        update = jax.nn.sigmoid(from_input[0] + from_state[0])
        reset = jax.nn.sigmoid(from_input[1] + from_state[1])
        candidate = jnp.tanh(from_input[2] + reset * from_state[2])
        return update * h + (1 - update) * candidate

    return step


def _original_gru(inputs: int, size: int) -> Cell:
    """The GRU of Cho et al. (arXiv:1406.1078), in PlaNet's code TensorFlow's GRUBlockCell.

    [r, u] = σ(W [x; h] + b),  c = tanh(W_c [x; r ⊙ h] + b_c),  h' = u ⊙ h + (1 − u) ⊙ c
    """
    gates = Dense(2 * size, name="gru_gates").parameters(inputs + size)
    candidate = Dense(size, name="gru_candidate").parameters(inputs + size)
    (of_x, of_h), (to_new, from_reset) = (
        (kernel[:inputs], kernel[inputs:]) for kernel, _ in (gates, candidate)
    )

    def step(x: Array, h: Array) -> Array:
        both = jax.nn.sigmoid(product(x, of_x) + product(h, of_h) + gates[1])
        reset, update = jnp.split(both, 2, -1)
        new = jnp.tanh(product(x, to_new) + product(reset * h, from_reset) + candidate[1])
        return update * h + (1 - update) * new

    return step
