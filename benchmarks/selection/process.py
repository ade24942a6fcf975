"""A Gaussian process over policies: what the returns of some say about all of them.

Active offline policy selection (A-OPS, Konyushkova et al., 2021): a policy is an arm, its return
a draw of ``f(arm)`` and noise, and arms that act alike are worth about the same:

    k(a, b) = variance * exp(-d(a, b) / lengthscale) + bias

with d the mean distance of their actions in the same states, a constant offset, and normal noise.
Hyperparameters are those of the largest marginal likelihood. Everything is in float64.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from common.types import Array

STEPS, RATE = 300, 0.1
"""Of the search for hyperparameters, by Adam."""
APART = 1e6
"""A distance, in units of ``scaled``, at which policies have nothing in common."""
PRIOR_SHAPE, PRIOR_SCALE = 1.0, 0.2
"""Of the inverse-gamma priors of variance and noise, of returns with unit variance."""


class Pulls(NamedTuple):
    """Returns of each arm, merged without loss.

    Attributes:
        counts: Number of returns ``[K]``.
        means: Their means ``[K]``, 0 where there is none.
        squares: Sums of the squared deviations from these means ``[K]``.
    """

    counts: Array
    means: Array
    squares: Array


class Hyper(NamedTuple):
    """Hyperparameters, those of the equation above.

    Attributes:
        variance: Of what differs between policies.
        lengthscale: Distance at which a correlation has fallen to 1/e.
        bias: Variance of what all policies have in common.
        noise: Variance of one return around the mean of its policy.
        offset: What a policy is worth of which nothing is known.
    """

    variance: Array
    lengthscale: Array
    bias: Array
    noise: Array
    offset: Array


_BOUNDS = Hyper((1e-2, 1e2), (5e-2, 5e1), (1e-4, 1e1), (1e-6, 1e1), (-5.0, 5.0))
"""Of returns with zero mean and unit variance, and of distances whose median is 1."""
_START = Hyper(1.0, 1.0, 1.0, 0.3, 0.0)


class Belief(NamedTuple):
    """What is known of each arm's mean return: normal, with these means and deviations ``[K]``."""

    mean: np.ndarray
    std: np.ndarray


def merge(arms: Sequence[int] | np.ndarray, returns: Sequence[float], amount: int) -> Pulls:
    """Merges single returns.

    Args:
        arms: Arm of each return.
        returns: The returns.
        amount: Number of arms, K.
    """
    arms, values = np.asarray(arms, np.int64), np.asarray(returns, np.float64)
    counts = np.bincount(arms, minlength=amount).astype(np.float64)
    means = np.bincount(arms, values, minlength=amount) / np.maximum(counts, 1)
    squares = np.bincount(arms, (values - means[arms]) ** 2, minlength=amount)
    return Pulls(counts, means, squares)


def scaled(distances: np.ndarray) -> np.ndarray:
    """Returns distances ``[K, K]`` of which the median between two different arms is 1."""
    between = distances[~np.eye(len(distances), dtype=bool)]
    median = np.median(between)
    if median <= 0:  # More than half of them act alike; those that do not are told apart.
        median = between.max()
    return distances / median if median > 0 else distances


def apart(amount: int) -> np.ndarray:
    """Returns distances of arms that say nothing about each other, in units of ``scaled``."""
    return APART * (1 - np.eye(amount))


def log_likelihood(hyper: Hyper, distances: Array, pulls: Pulls) -> Array:
    """Returns the logarithm of the density of all returns.

    Of n returns of one arm with mean m and squared deviations S, the density is that of m with
    the variance noise/n, times a factor that does not depend on the arm's own mean:

        (2 pi noise)^(-(n - 1) / 2) n^(-1/2) exp(-S / (2 noise))
    """
    seen = pulls.counts > 0
    counts = jnp.where(seen, pulls.counts, 1)
    both = seen[:, None] & seen[None]
    prior = jnp.where(both, covariance(hyper, distances), 0)
    # An arm without a return is one of unit variance that is where it should be: a factor apart.
    matrix = prior + jnp.diag(jnp.where(seen, hyper.noise / counts, 1))
    factor = jnp.linalg.cholesky(matrix)
    rest = jnp.where(seen, pulls.means - hyper.offset, 0)
    white = jax.scipy.linalg.solve_triangular(factor, rest, lower=True)
    joint = (white**2).sum() + 2 * jnp.log(jnp.diag(factor)).sum()
    joint += seen.sum() * jnp.log(2 * jnp.pi)
    within = (counts - 1) * jnp.log(2 * jnp.pi * hyper.noise) + jnp.log(counts)
    within += pulls.squares / hyper.noise
    return -0.5 * (joint + jnp.where(seen, within, 0).sum())


def covariance(hyper: Hyper, distances: Array) -> Array:
    """Returns the prior covariance of the arms' means ``[K, K]``."""
    return hyper.variance * jnp.exp(-distances / hyper.lengthscale) + hyper.bias


def posterior(hyper: Hyper, distances: Array, pulls: Pulls) -> tuple[Array, Array]:
    """Returns mean and standard deviation ``[K]`` of what each arm is worth, without noise.

    With W the covariance of the means of those arms that have returns, and k their covariance
    with all arms: offset + k' W^-1 (means - offset), and the variances of K - k' W^-1 k.
    """
    seen = pulls.counts > 0
    prior = covariance(hyper, distances)
    both = seen[:, None] & seen[None]
    noise = jnp.where(seen, hyper.noise / jnp.where(seen, pulls.counts, 1), 1)
    matrix = jnp.where(both, prior, 0) + jnp.diag(noise)
    cross = jnp.where(seen[:, None], prior, 0)
    factor = jnp.linalg.cholesky(matrix)
    white = jax.scipy.linalg.solve_triangular(factor, cross, lower=True)
    rest = jnp.where(seen, pulls.means - hyper.offset, 0)
    mean = hyper.offset + white.T @ jax.scipy.linalg.solve_triangular(factor, rest, lower=True)
    variance = jnp.diag(prior) - (white**2).sum(0)
    return mean, jnp.sqrt(jnp.maximum(variance, 0))


def fit(distances: Array, pulls: Pulls, priors: bool) -> Hyper:
    """Returns the hyperparameters of the largest marginal likelihood, within wide bounds.

    Args:
        distances: Those of ``scaled`` or ``apart``, ``[K, K]``.
        pulls: At least one return.
        priors: Whether variance and noise have inverse-gamma priors, for where nothing but a few
            returns is known.
    """
    place, size = _unit(pulls)
    unit = Pulls(
        pulls.counts,
        jnp.where(pulls.counts > 0, (pulls.means - place) / size, 0),
        pulls.squares / size**2,
    )

    def loss(free: Array) -> Array:
        hyper = _bounded(free)
        value = log_likelihood(hyper, distances, unit)
        if priors:
            value += _log_prior(hyper.variance) + _log_prior(hyper.noise)
        return -value

    optimizer = optax.adam(RATE)

    def step(state: Any, _: None) -> tuple[Any, None]:
        free, memory = state
        updates, memory = optimizer.update(jax.grad(loss)(free), memory, free)
        return (optax.apply_updates(free, updates), memory), None

    start = jnp.asarray(_freed(_START), jnp.float64)
    (free, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), None, length=STEPS)
    found = _bounded(free)
    return Hyper(
        found.variance * size**2,
        found.lengthscale,
        found.bias * size**2,
        found.noise * size**2,
        found.offset * size + place,
    )


def judge(distances: np.ndarray, pulls: Pulls, priors: bool) -> tuple[Belief, Hyper]:
    """Fits hyperparameters and returns what is known of every arm.

    Args:
        distances: ``[K, K]``, or of several independent processes ``[R, K, K]``.
        pulls: Their returns, ``[K]`` or ``[R, K]``.
        priors: As of ``fit``.
    """
    with jax.enable_x64(True):
        function = _judge(priors, distances.ndim > 2)
        mean, std, hyper = jax.device_get(function(distances, pulls))
    return Belief(mean, std), hyper


@functools.cache
def _judge(priors: bool, several: bool) -> Callable[[Array, Pulls], tuple[Array, Array, Hyper]]:
    def one(distances: Array, pulls: Pulls) -> tuple[Array, Array, Hyper]:
        hyper = fit(distances, pulls, priors)
        return *posterior(hyper, distances, pulls), hyper

    return jax.jit(jax.vmap(one) if several else one)


def _unit(pulls: Pulls) -> tuple[Array, Array]:
    """Returns mean and deviation of all returns; 1 for the latter where they are all the same."""
    amount = pulls.counts.sum()
    place = (pulls.counts * pulls.means).sum() / amount
    between = (pulls.counts * (pulls.means - place) ** 2).sum()
    variance = (between + pulls.squares.sum()) / amount
    return place, jnp.where(variance > 0, jnp.sqrt(variance), 1)


def _log_prior(value: Array) -> Array:
    """Returns the logarithm of an inverse-gamma density, up to a constant."""
    return -(PRIOR_SHAPE + 1) * jnp.log(value) - PRIOR_SCALE / value


def _bounded(free: Array) -> Hyper:
    """Turns free numbers into hyperparameters: positive ones by their logarithms."""
    share = jax.nn.sigmoid(free)
    found = []
    for name, (low, high), one in zip(Hyper._fields, _BOUNDS, share, strict=True):
        if name == "offset":
            found.append(low + (high - low) * one)
        else:
            found.append(jnp.exp(np.log(low) + (np.log(high) - np.log(low)) * one))
    return Hyper(*found)


def _freed(hyper: Hyper) -> np.ndarray:
    """The inverse of ``_bounded``."""
    shares = [
        (value - low) / (high - low)
        if name == "offset"
        else np.log(value / low) / np.log(high / low)
        for name, (low, high), value in zip(Hyper._fields, _BOUNDS, hyper, strict=True)
    ]
    return np.log(np.array(shares)) - np.log1p(-np.array(shares))
