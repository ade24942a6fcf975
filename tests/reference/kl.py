"""Slow sums for KL divergences and the KL loss in float64."""

from __future__ import annotations

import numpy as np


def categorical_kl(lhs, rhs):
    """KL between rows of categorical variables given by logits [S, K]."""
    total = 0.0
    for left, right in zip(lhs, rhs, strict=True):
        p = np.exp(left) / np.exp(left).sum()
        q = np.exp(right) / np.exp(right).sum()
        total += sum(a * (np.log(a) - np.log(b)) for a, b in zip(p, q, strict=True))
    return total


def normal_kl(lhs_mean, lhs_std, rhs_mean, rhs_std):
    """KL between diagonal normals of one dimension after the other."""
    total = 0.0
    for m1, s1, m2, s2 in zip(lhs_mean, lhs_std, rhs_mean, rhs_std, strict=True):
        total += np.log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - 0.5
    return total


def kl_loss(value, balance, free, free_avg):
    """Loss from divergences [B, T]; both balanced terms have the same value."""
    if balance == 0.5 or not free_avg:
        return np.mean([max(entry, free) for entry in np.ravel(value)])
    return max(np.mean(value), free)
