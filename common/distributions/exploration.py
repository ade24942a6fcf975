"""Noise added to actions while experience is collected."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from common.distributions import OneHot, uniform_to_normal
from common.spaces import ActionSpec
from common.types import Array


def add_action_noise(action: Array, noise: Array, amount: float | Array, spec: ActionSpec) -> Array:
    """Disturbs flat actions block by block.

    A continuous block gets ``noisy_continuous``, a categorical one is drawn anew from
    ``noisy_probs``.

    Args:
        action: ``[..., A]``.
        noise: Uniforms on (0, 1), ``[..., action_noise_size(spec)]``.
        amount: Standard deviation of the noise on continuous blocks, and probability of a
            random choice of categorical ones; 0 changes nothing.
        spec: The blocks of the flat action.

    Returns:
        Valid actions ``[..., A]``, without a gradient to categorical blocks.
    """
    blocks, offset, used = [], 0, 0
    for part in spec.parts:
        block = action[..., offset : offset + part.size]
        offset += part.size
        if part.kind == "categorical":
            logits = jax.lax.stop_gradient(jnp.log(noisy_probs(block, amount)))
            blocks.append(OneHot(logits).sample(noise[..., used]))
            used += 1
        else:
            normal = uniform_to_normal(noise[..., used : used + part.size])
            blocks.append(noisy_continuous(block, normal, amount))
            used += part.size
    return jnp.concatenate(blocks, -1)


def noisy_probs(action: Array, amount: float | Array) -> Array:
    """Returns the probabilities ``amount / K + (1 - amount) * action`` of one-hot ``[..., K]``."""
    return amount / action.shape[-1] + (1 - amount) * action


def noisy_continuous(action: Array, noise: Array, amount: float | Array) -> Array:
    """Returns ``clip(action + amount * noise, -1, 1)`` for standard normals ``[..., A]``."""
    return jnp.clip(action + amount * noise, -1, 1)
