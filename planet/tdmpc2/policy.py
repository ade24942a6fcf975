"""The policy's distribution: the tanh of a normal, as TD-MPC2's public code writes it."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from common.distributions.gaussian import HALF_LOG_TWO_PI
from common.types import Array


class Draw(NamedTuple):
    """One drawn action and what is known of it.

    Attributes:
        action: ``[..., A]`` in [-1, 1].
        mean: The tanh of the mean, ``[..., A]``.
        log_std: Logarithm of the standard deviation before the tanh, ``[..., A]``.
        log_prob: Log-density of the action, ``[...]``.
        scaled_entropy: Estimate of the entropy *before* the tanh times A, ``[...]``.
    """

    action: Array
    mean: Array
    log_std: Array
    log_prob: Array
    scaled_entropy: Array


def draw_action(
    raw: Array, noise: Array, low: float, high: float, mask: Array | None = None
) -> Draw:
    """Draws ``a = tanh(mean + noise * std)``.

    The public code scales the entropy ``-log p(a)`` by ``A g / (log p(a) + 1e-8)``, g the
    log-density before the tanh. What is left but for rounding, and is computed here, is
    ``-A g``: the bonus pushes every ``log_std`` up at one rate and does not touch the mean.

    Args:
        raw: Outputs of the network ``[..., 2 A]``: mean before the tanh, and what
            ``bounded_log_std`` maps.
        noise: Standard normals ``[..., A]``.
        low: Least logarithm of the standard deviation.
        high: The largest one.
        mask: 1 for entries that the task uses ``[..., A]``; the others are 0, and add but a
            constant to the densities. A is then the number of those in use.
    """
    mean, raw_std = jnp.split(raw, 2, -1)
    log_std = bounded_log_std(raw_std, low, high)
    size: Array | int = noise.shape[-1]
    if mask is not None:
        mean, log_std, noise, size = mean * mask, log_std * mask, noise * mask, mask.sum(-1)
    before = mean + noise * jnp.exp(log_std)
    density = gaussian_log_prob(noise, log_std)
    log_prob = density - log_slope(before)
    return Draw(jnp.tanh(before), jnp.tanh(mean), log_std, log_prob, -size * density)


def bounded_log_std(raw: Array, low: float, high: float) -> Array:
    """Returns ``low + (high - low) (tanh(raw) + 1) / 2``."""
    return low + 0.5 * (high - low) * (jnp.tanh(raw) + 1)


def gaussian_log_prob(noise: Array, log_std: Array) -> Array:
    """Returns the log-density ``[...]`` of ``mean + noise * std`` for noise ``[..., A]``."""
    return (-0.5 * jnp.square(noise) - log_std - HALF_LOG_TWO_PI).sum(-1)


def log_slope(before: Array) -> Array:
    """Returns ``sum ln(1 - tanh(x)^2 + 1e-6)``, the log-slope of the tanh, for x ``[..., A]``.

    With ``e = exp(-2 |x|)`` it is ``4 e / (1 + e)^2``: the difference itself, of which the public
    code takes the logarithm, has lost its digits where the tanh is near 1.
    """
    shrunk = jnp.exp(-2 * jnp.abs(before))
    return jnp.log(4 * shrunk / jnp.square(1 + shrunk) + 1e-6).sum(-1)
