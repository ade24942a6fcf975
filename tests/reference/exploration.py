"""Rewards, labels and memories of exploration in NumPy, one number at a time."""

from __future__ import annotations

import numpy as np


def mlp(params, x, layers):
    """Returns the output of a network of ELU layers for one vector."""
    for layer in range(layers):
        weights = params[f"dense{layer}"]
        x = x @ weights["kernel"] + weights["bias"]
        x = np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1)
    return x @ params["out"]["kernel"] + params["out"]["bias"]


def disagreement(members):
    """Returns the mean over entries of the standard deviation over members ``[K, D]``."""
    total = 0.0
    for entry in range(len(members[0])):
        values = [member[entry] for member in members]
        mean = sum(values) / len(values)
        total += np.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    return total / len(members[0])


def ensemble_loss(predict, features, actions, targets, is_first):
    """Returns the ensemble's loss on sequences ``[B, T, ...]``; ``predict(f, a) -> [K, D]``."""
    losses = []
    for b, flags in enumerate(is_first):
        for t in range(1, len(flags)):
            if not flags[t]:
                members = predict(features[b, t - 1], actions[b, t])
                losses.append([0.5 * ((targets[b, t] - one) ** 2).sum() for one in members])
    return np.mean(losses, 0).sum()


def reachable(is_first, i, j, steps, gap):
    """Returns whether row j of a stream is near row i, True, far, False, or neither, None."""
    if i >= j or any(is_first[i + 1 : j + 1]):
        return None
    if j - i <= steps:
        return True
    return False if j - i > steps * gap else None


class Memory:
    """Savinov et al.'s memory of one environment; ``compare(m, e)`` is a probability."""

    def __init__(self, compare, capacity, threshold, percentile, replacement):
        self.compare, self.capacity, self.threshold = compare, capacity, threshold
        self.percentile, self.replacement = percentile, replacement
        self.held = []
        self.places = []

    def step(self, embed, first, last, uniform):
        """Takes one row; returns its bonus."""
        if first:
            self.held, self.places = [embed], [0]
            return 0.0
        near = np.percentile([self.compare(one, embed) for one in self.held], self.percentile)
        if near < self.threshold:
            if len(self.held) < self.capacity:
                self.held.append(embed)
                self.places.append(len(self.places))
            elif self.replacement == "random":
                self.held[int(uniform * self.capacity)] = embed
            else:  # The one that came first goes, and the newest stands at its place.
                oldest = self.places.pop(0)
                self.held[oldest] = embed
                self.places.append(oldest)
        return 0.0 if last else 0.5 - near
