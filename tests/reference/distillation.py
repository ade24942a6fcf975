"""Losses of distillation, and the small actor itself, in NumPy, one row at a time."""

from __future__ import annotations

import numpy as np
import scipy.stats

from tests.reference.cells import gru

_GRID = 5_001


def categorical_kl(p_logits, q_logits):
    """KL of two choices, class by class."""
    p, q = (np.exp(x - x.max()) / np.exp(x - x.max()).sum() for x in (p_logits, q_logits))
    return sum(a * np.log(a / b) for a, b in zip(p, q, strict=True))


def integrated_kl(p_log, q_log, low, high):
    """KL of two densities of one number, given by their logarithms, by the trapezoid rule."""
    x = np.linspace(low, high, _GRID)
    return np.trapezoid(np.exp(p_log(x)) * (p_log(x) - q_log(x)), x)


def truncated_log(loc, scale):
    """Log-density of a normal truncated to [-1, 1]."""
    return scipy.stats.truncnorm((-1 - loc) / scale, (1 - loc) / scale, loc, scale).logpdf


def value_loss(predicted, target):
    """Half the mean squared error of symlogs."""
    total = 0.0
    for one, other in zip(predicted.ravel(), target.ravel(), strict=True):
        total += 0.5 * (one - np.sign(other) * np.log(1 + abs(other))) ** 2
    return total / predicted.size


def _elu(x):
    return np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1)


def small_actor(params, vectors, actions, is_first, hidden, recurrent):
    """Returns hidden states ``[T, D]`` of one window, of a small actor of one dense layer.

    Args:
        params: Of Haiku, by module.
        vectors: ``[T, D]`` as the encoder sees them.
        actions: Previous ones ``[T, A]``.
        is_first: ``[T]``.
        hidden: Before the window ``[D]``.
        recurrent: Whether it is a GRU.
    """
    encoder, states = params["small_actor/~/encoder/dense0"], []
    for vector, action, first in zip(vectors, actions, is_first, strict=True):
        embed = _elu(vector @ encoder["kernel"] + encoder["bias"])
        if recurrent:
            cell = params["small_actor/~/core/gru"]
            order = "input_kernel", "state_kernel", "input_bias", "state_bias"
            before = np.zeros_like(hidden) if first else hidden
            given = np.concatenate([embed, np.zeros_like(action) if first else action])
            hidden = gru(given, before, *(cell[name] for name in order))
        else:
            last = params["small_actor/~/core/last"]
            hidden = _elu(embed @ last["kernel"] + last["bias"])
        states.append(hidden)
    return np.array(states)
