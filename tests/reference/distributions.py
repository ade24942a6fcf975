"""Truncated normal on [-1, 1] and inverse-CDF sampling of classes, in float64."""

from __future__ import annotations

import numpy as np
import scipy.special
import scipy.stats


def truncated_normal(loc, scale):
    """The same distribution from scipy."""
    loc, scale = np.asarray(loc, np.float64), np.asarray(scale, np.float64)
    return scipy.stats.truncnorm((-1 - loc) / scale, (1 - loc) / scale, loc, scale)


def truncated_normal_sample(loc, scale, uniform):
    """Inverse CDF of the truncated normal; differentiable by finite differences."""
    low, high = scipy.special.ndtr((-1 - loc) / scale), scipy.special.ndtr((1 - loc) / scale)
    return loc + scale * scipy.special.ndtri(low + uniform * (high - low))


def truncated_normal_outputs(raw_loc, raw_scale, init_std, min_std):
    """Mean and scale from the two outputs of a network."""
    scale = 2 / (1 + np.exp(-(raw_scale + init_std) / 2)) + min_std
    return np.tanh(raw_loc), scale


def pick_class(probs, uniform):
    """Walks through the classes until their probabilities add up to the uniform."""
    reached = 0.0
    for index, probability in enumerate(probs):
        reached += probability
        if reached >= uniform:
            return index
    return len(probs) - 1


def two_hot(number, bins):
    """Weights of the two bins that a number lies between, in proportion to how near they are."""
    weights = np.zeros(len(bins))
    above = [place for place, one in enumerate(bins) if one > number]
    if not above or above[0] == 0:
        weights[-1 if not above else 0] = 1
        return weights
    upper, lower = above[0], above[0] - 1
    weights[upper] = (number - bins[lower]) / (bins[upper] - bins[lower])
    weights[lower] = 1 - weights[upper]
    return weights
