"""Slow loops for lambda-returns and discount weights."""

from __future__ import annotations

import numpy as np


def lambda_return(reward, value, discount, bootstrap, lambda_):
    """Walks backwards from the bootstrap; time is the leading axis."""
    values = [*value, bootstrap]
    target = np.array(bootstrap, np.float64)
    targets = []
    for t in reversed(range(len(reward))):
        target = reward[t] + discount[t] * ((1 - lambda_) * values[t + 1] + lambda_ * target)
        targets.insert(0, target)
    return np.stack(targets)


def discount_weights(discount):
    """Multiplies the discounts of all earlier steps."""
    weights = [np.ones_like(discount[0])]
    for step in discount[:-1]:
        weights.append(weights[-1] * step)
    return np.stack(weights)
