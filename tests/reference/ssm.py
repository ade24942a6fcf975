"""State space layers in NumPy: one step, one mode and one row at a time, in float64."""

from __future__ import annotations

import cmath
import math

import numpy as np

from tests.reference.attention import gelu, layer_norm


def hippo_normal(size):
    """The matrix of HiPPO-LegS plus its rank-one correction, which makes it normal."""
    matrix = np.zeros((size, size))
    for n in range(size):
        for k in range(size):
            if n > k:
                matrix[n, k] = -math.sqrt((2 * n + 1) * (2 * k + 1))
            elif n == k:
                matrix[n, k] = -(n + 1)
    low_rank = np.sqrt(np.arange(size) + 0.5)
    return matrix + np.outer(low_rank, low_rank)


def mode(inputs, is_first, start, decay, frequency, step, weights):
    """One mode of one row: ``x' = exp(lambda step) x + (exp(lambda step) - 1) / lambda b u``."""
    eigenvalue = complex(-decay, frequency)
    transition = cmath.exp(eigenvalue * step)
    state, result = start, []
    for value, first in zip(inputs, is_first, strict=True):
        if first:
            state = 0
        driven = sum(weight * entry for weight, entry in zip(weights, value, strict=True))
        state = transition * state + (transition - 1) / eigenvalue * driven
        result.append(state)
    return np.array(result)


def layer(tokens, is_first, start, params, module, index):
    """One layer on one row: ``[T, D]`` and complex ``[P]`` to tokens and modes ``[T, P]``."""
    driving = {
        name: np.asarray(params[f"{module}/ssm"][f"{name}{index}"], np.float64)
        for name in ("log_decay", "frequency", "log_step", "kernel")
    }
    rest = params[f"{module}/layer{index}"]
    norm, gate = params[f"{module}/layer{index}/norm"], params[f"{module}/layer{index}/gate"]
    inputs = np.stack([layer_norm(x, **norm) for x in tokens])
    size, modes = len(driving["log_decay"]), []
    for p in range(size):
        weights = driving["kernel"][:, p] + 1j * driving["kernel"][:, size + p]
        numbers = (math.exp(driving["log_decay"][p]), driving["frequency"][p])
        step = math.exp(driving["log_step"][p])
        modes.append(mode(inputs, is_first, start[p], *numbers, step, weights))
    modes = np.stack(modes, -1)
    result = []
    for token, now, u in zip(tokens, modes, inputs, strict=True):
        output = np.concatenate([now.real, now.imag]) @ rest["readout"] + rest["through"] * u
        value, opening = np.split(gelu(output) @ gate["kernel"] + gate["bias"], 2)
        result.append(token + value / (1 + np.exp(-opening)))
    return np.stack(result), modes
