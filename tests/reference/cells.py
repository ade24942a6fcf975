"""Recurrent cells in NumPy, unit by unit."""

from __future__ import annotations

import numpy as np


def _sigmoid(x: float) -> float:
    return 1 / (1 + np.exp(-x))


def gru(x, h, input_kernel, state_kernel, input_bias, state_bias):
    """The GRU whose reset gate follows the recurrent product; kernel update, reset, candidate."""
    size = len(h)
    result = np.zeros(size)
    for unit in range(size):
        columns = unit, size + unit, 2 * size + unit
        given = [x @ input_kernel[:, c] + input_bias[c] for c in columns]
        kept = [h @ state_kernel[:, c] + state_bias[c] for c in columns]
        update, reset = _sigmoid(given[0] + kept[0]), _sigmoid(given[1] + kept[1])
        candidate = np.tanh(given[2] + reset * kept[2])
        result[unit] = update * h[unit] + (1 - update) * candidate
    return result


def layer_norm_gru(x, h, kernel, bias, scale, offset, epsilon=1e-3):
    """DreamerV2's cell: one norm over all three products; kernel reset, candidate, update."""
    size = len(h)
    mixed = np.concatenate([x, h]) @ kernel + bias
    normed = (mixed - mixed.mean()) / np.sqrt(mixed.var() + epsilon) * scale + offset
    result = np.zeros(size)
    for unit in range(size):
        reset = _sigmoid(normed[unit])
        candidate = np.tanh(reset * normed[size + unit])
        update = _sigmoid(normed[2 * size + unit] - 1)
        result[unit] = update * candidate + (1 - update) * h[unit]
    return result


def original_gru(x, h, gates, gates_bias, candidate, candidate_bias):
    """Cho's cell: the reset gate scales the state before its product; gates reset, update."""
    size = len(h)
    both = np.concatenate([x, h])
    reset = [_sigmoid(both @ gates[:, unit] + gates_bias[unit]) for unit in range(size)]
    kept = np.concatenate([x, np.array(reset) * h])
    result = np.zeros(size)
    for unit in range(size):
        update = _sigmoid(both @ gates[:, size + unit] + gates_bias[size + unit])
        new = np.tanh(kept @ candidate[:, unit] + candidate_bias[unit])
        result[unit] = update * h[unit] + (1 - update) * new
    return result
