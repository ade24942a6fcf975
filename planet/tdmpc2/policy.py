"""The policy's distribution: the tanh of a normal, as TD-MPC2's public code writes it.

Choices, which the public code does not know, are ours: one-hot vectors, drawn by the Gumbel trick,
through which gradients go as if they were their probabilities.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from common.distributions.gaussian import HALF_LOG_TWO_PI
from common.spaces import ActionSpec
from common.types import Array


class Draw(NamedTuple):
    """One drawn action and what is known of it.

    Attributes:
        action: ``[..., A]`` in [-1, 1]; a choice is a one-hot vector.
        mean: The tanh of the mean, or the likeliest choice, ``[..., A]``.
        log_std: Logarithm of the standard deviation before the tanh, ``[..., A]``; 0 in choices.
        log_prob: Log-density of the action, ``[...]``.
        scaled_entropy: Estimate of the entropy times A, ``[...]``, before the tanh or after it, as
            ``draw_action`` is told; 0 of choices.
        choice_entropy: Of choices, each times its number of choices, ``[...]``; exact.
    """

    action: Array
    mean: Array
    log_std: Array
    log_prob: Array
    scaled_entropy: Array
    choice_entropy: Array


def draw_parts(
    raw: Array,
    noise: Array,
    low: float,
    high: float,
    actions: ActionSpec,
    squashed_entropy: bool = False,
) -> Draw:
    """Draws an action of several parts, each with its own distribution.

    Args:
        raw: Outputs of the network ``[..., 2 A]``; in the first half of them stand the logits of
            choices.
        noise: Standard normals ``[..., A]``.
        low: As of ``draw_action``.
        high: As of ``draw_action``.
        actions: The flat action vector.
        squashed_entropy: As of ``draw_action``.
    """
    mean, raw_std = jnp.split(raw, 2, -1)
    draws, offset = [], 0
    for part in actions.parts:
        window = slice(offset, offset + part.size)
        offset += part.size
        if part.kind == "categorical":
            draws.append(draw_choice(mean[..., window], noise[..., window]))
        else:
            own = jnp.concatenate([mean[..., window], raw_std[..., window]], -1)
            continuous = draw_action(
                own, noise[..., window], low, high, squashed_entropy=squashed_entropy
            )
            draws.append(continuous)
    if len(draws) == 1:
        return draws[0]
    action, mean, log_std, *scalars = zip(*draws, strict=True)
    join = lambda parts: jnp.concatenate(parts, -1)  # noqa: E731
    return Draw(join(action), join(mean), join(log_std), *map(sum, scalars))


def draw_choice(logits: Array, noise: Array) -> Draw:
    """Draws a one-hot vector ``[..., K]``: ``argmax(logits + g)``, g Gumbel noise.

    Its gradient is that of the probabilities (Bengio et al. 2013, arXiv:1308.3432).

    Args:
        logits: ``[..., K]``.
        noise: Standard normals ``[..., K]``, of which the Gumbel noise is made.
    """
    uniform = jnp.clip(jax.scipy.stats.norm.cdf(noise), 1e-6, 1 - 1e-6)
    size, log_probs = logits.shape[-1], jax.nn.log_softmax(logits)
    drawn = jax.nn.one_hot((logits - jnp.log(-jnp.log(uniform))).argmax(-1), size)
    probs = jnp.exp(log_probs)
    action = jax.lax.stop_gradient(drawn - probs) + probs
    likeliest = jax.nn.one_hot(logits.argmax(-1), size)
    entropy = -(probs * log_probs).sum(-1)
    log_prob, none = (drawn * log_probs).sum(-1), jnp.zeros(entropy.shape)
    return Draw(action, likeliest, jnp.zeros_like(logits), log_prob, none, size * entropy)


def draw_action(
    raw: Array,
    noise: Array,
    low: float,
    high: float,
    mask: Array | None = None,
    squashed_entropy: bool = False,
) -> Draw:
    """Draws ``a = tanh(mean + noise * std)``.

    The public code scales the entropy ``-log p(a)`` by ``A g / (log p(a) + 1e-8)``, g the
    log-density before the tanh. What is left but for rounding, and is computed here, is
    ``-A g``: the bonus pushes every ``log_std`` up at one rate and does not touch the mean.
    Nothing but the values holds the deviation back then, and where they say little it goes to
    its bound, where actions are -1 or 1 and no gradient passes the tanh. ``-A log p(a)``, the
    entropy of the action itself, is largest where actions are spread evenly.

    Args:
        raw: Outputs of the network ``[..., 2 A]``: mean before the tanh, and what
            ``bounded_log_std`` maps.
        noise: Standard normals ``[..., A]``.
        low: Least logarithm of the standard deviation.
        high: The largest one.
        mask: 1 for entries that the task uses ``[..., A]``; the others are 0, and add but a
            constant to the densities. A is then the number of those in use.
        squashed_entropy: Whether ``scaled_entropy`` is of the action and not of what the tanh
            squashes.
    """
    mean, raw_std = jnp.split(raw, 2, -1)
    log_std = bounded_log_std(raw_std, low, high)
    size: Array | int = noise.shape[-1]
    if mask is not None:
        mean, log_std, noise, size = mean * mask, log_std * mask, noise * mask, mask.sum(-1)
    before = mean + noise * jnp.exp(log_std)
    density = gaussian_log_prob(noise, log_std)
    log_prob = density - log_slope(before)
    entropy = -size * (log_prob if squashed_entropy else density)
    none = jnp.zeros(density.shape)
    return Draw(jnp.tanh(before), jnp.tanh(mean), log_std, log_prob, entropy, none)


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
