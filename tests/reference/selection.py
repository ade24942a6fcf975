"""A Gaussian process over arms, return by return, with explicit inverses."""

from __future__ import annotations

import numpy as np


def kernel(hyper, distances):
    """``variance * exp(-d / lengthscale) + bias`` of every pair."""
    amount = len(distances)
    out = np.zeros((amount, amount))
    for a in range(amount):
        for b in range(amount):
            correlation = np.exp(-distances[a, b] / hyper.lengthscale)
            out[a, b] = hyper.variance * correlation + hyper.bias
    return out


def returns_covariance(hyper, distances, arms):
    """Covariance of single returns ``[n, n]``, each with noise of its own."""
    arms = np.asarray(arms)
    return kernel(hyper, distances)[np.ix_(arms, arms)] + hyper.noise * np.eye(len(arms))


def log_likelihood(hyper, distances, arms, returns):
    """Logarithm of the density of all returns, none of them merged."""
    covariance = returns_covariance(hyper, distances, arms)
    rest = np.asarray(returns, np.float64) - hyper.offset
    quadratic = rest @ np.linalg.inv(covariance) @ rest
    return -0.5 * (quadratic + np.linalg.slogdet(2 * np.pi * covariance)[1])


def posterior(hyper, distances, arms, returns):
    """Mean and deviation of each arm's worth, by conditioning on every single return."""
    prior = kernel(hyper, distances)
    inverse = np.linalg.inv(returns_covariance(hyper, distances, arms))
    rest = np.asarray(returns, np.float64) - hyper.offset
    mean, std = np.zeros(len(prior)), np.zeros(len(prior))
    for arm in range(len(prior)):
        cross = np.array([prior[arm, other] for other in arms])
        mean[arm] = hyper.offset + cross @ inverse @ rest
        std[arm] = np.sqrt(prior[arm, arm] - cross @ inverse @ cross)
    return mean, std


def pull(hyper, distances, arms, returns, boldness):
    """The arm whose upper bound is the highest."""
    mean, std = posterior(hyper, distances, arms, returns)
    best, found = -np.inf, None
    for arm in range(len(mean)):
        if mean[arm] + boldness * std[arm] > best:
            best, found = mean[arm] + boldness * std[arm], arm
    return found
