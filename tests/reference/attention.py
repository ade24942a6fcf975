"""Transformer blocks over a sliding window in NumPy: one token and one head at a time."""

from __future__ import annotations

import math

import numpy as np


def layer_norm(x, scale, offset, epsilon=1e-3):
    """Mean 0 and variance 1 over the entries of one token, then scaled and shifted."""
    return (x - x.mean()) / np.sqrt(x.var() + epsilon) * scale + offset


def gelu(x):
    """x times the normal distribution function, by its usual approximation with tanh."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def block(tokens, first, weights, prefix, heads, kv_heads, window):
    """One block on a whole sequence ``[T, D]``; ``first[t]`` is the start of t's episode."""

    def dense(name, x):
        layer = weights[f"{prefix}_{name}"]
        return x @ layer["kernel"] + layer["bias"]

    bias = weights[f"{prefix}_distance"]["bias"]
    width = tokens.shape[1]
    size = width // heads
    mixed = [dense("mix_in", layer_norm(x, **weights[f"{prefix}_norm"])) for x in tokens]
    query = [row[:width].reshape(heads, size) for row in mixed]
    shared = [row[width:].reshape(2, kv_heads, size) for row in mixed]
    result = []
    for t, token in enumerate(tokens):
        seen = range(max(first[t], t - window + 1), t + 1)
        parts = []
        for head in range(heads):
            group = head // (heads // kv_heads)
            scores = np.array([
                query[t][head] @ shared[s][0][group] / math.sqrt(size) + bias[head, t - s]
                for s in seen
            ])  # fmt: skip
            chances = np.exp(scores) / np.exp(scores).sum()
            parts.append(sum(p * shared[s][1][group] for p, s in zip(chances, seen, strict=True)))
        y = token + dense("mix_out", np.concatenate(parts))
        hidden = gelu(dense("feed_in", layer_norm(y, **weights[f"{prefix}_feed_norm"])))
        result.append(y + dense("feed_out", hidden))
    return np.stack(result)
