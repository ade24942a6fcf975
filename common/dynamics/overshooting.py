"""Latent overshooting of PlaNet (arXiv:1811.04551, Eq. 7 and Appendix): KL over many steps.

With D the distance, q_t the posterior and p_{t|s} the prior of step t that is predicted from
a posterior sample of step s by actions alone:

    L = 1/D sum_{d=1..D} E_t max(0, KL(sg q_{t+d} ‖ p_{t+d|t-1}) − free)

The mean runs over the steps whose whole way lies inside the sequence and crosses no start of
an episode. The distance 0, the ordinary KL, is left to ``common.dynamics.kl``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from common.distributions import kl_divergence
from common.dynamics.base import Noise, Observed, State
from common.types import Array


def overshooting_loss(
    imagine_step: Callable[[State, Array, Noise], State],
    prior: Callable[[State], Any],
    observed: Observed,
    action: Array,
    is_first: Array,
    noise: Noise,
    *,
    distance: int,
    free: float,
) -> Array:
    """Returns the term ``[B, T]``, whose mean is the loss; 0 where no sequence is long enough.

    Args:
        imagine_step: ``(state [N], action [N, A], noise [N, ...]) -> state``.
        prior: ``(state) -> distribution`` from which ``imagine_step`` drew its latent.
        observed: Posterior states and distributions ``[B, T]``.
        action: Actions that led to each row ``[B, T, A]``.
        is_first: Where episodes start ``[B, T]``.
        noise: For ``distance + 1`` steps from every row ``[distance + 1, B, T, ...]``, or
            None for modes.
        distance: Steps beyond the first, D, at least 1.
        free: Free nats of each step.
    """
    chex.assert_rank([action, is_first], [3, 2])
    chex.assert_equal_shape_prefix([action, is_first, *jax.tree.leaves(observed)], 2)
    batch, time = is_first.shape
    flat = lambda x: x.reshape(batch * time, *x.shape[2:])  # noqa: E731
    state = jax.tree.map(flat, observed.states)
    target = jax.lax.stop_gradient(observed.posterior)
    inside = jnp.ones((batch, time), bool)
    total = jnp.zeros((batch, time))
    for step in range(distance + 1):
        # From row s this step leads to row s + 1 + step; the last rows have none.
        ahead = lambda x, by=step + 1: _ahead(x, by)  # noqa: E731
        now = None if noise is None else flat(noise[step])
        state = imagine_step(state, flat(ahead(action)), now)
        reached = jnp.arange(time) + step + 1 < time
        inside = inside & reached & ~ahead(is_first)
        if step == 0:
            continue
        predicted = jax.tree.map(lambda x: x.reshape(batch, time, *x.shape[1:]), prior(state))
        value = kl_divergence(jax.tree.map(ahead, target), predicted)
        clipped = jnp.where(inside, jnp.maximum(value - free, 0), 0)
        # Scaled so that the mean over all rows is the one over those that count.
        total += clipped * (clipped.size / jnp.maximum(inside.sum(), 1))
    return total / distance


def _ahead(x: Array, by: int) -> Array:
    """Moves rows ``[B, T, ...]`` forward in time; the last row fills up what is missing."""
    time = x.shape[1]
    return jnp.take(x, jnp.minimum(jnp.arange(time) + by, time - 1), axis=1)
