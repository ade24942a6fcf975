"""Lambda-returns and the weights of imagined steps. Time is the leading axis."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from common.types import Array


def lambda_return(
    reward: Array, value: Array, discount: Array, bootstrap: Array, lambda_: float | Array
) -> Array:
    """Returns the lambda-return of every step, by the backward recursion of Dreamer.

    ``G[t] = reward[t] + discount[t] ((1 - lambda) value[t+1] + lambda G[t+1])``
    for ``t = H-1 .. 0``, with ``value[H] = G[H] = bootstrap`` (Eq. 6 of
    arXiv:1912.01603 in recursive form; Eq. 4 of arXiv:2010.02193).

    Every argument has the index of the state it is predicted at, so that
    ``reward[t]`` and ``discount[t]`` belong to the state s[t] itself and the last target
    is ``reward[H-1] + discount[H-1] bootstrap``. ``value[0]`` takes no part.
    ``lambda_ = 0`` gives the one-step target, 1 the discounted sum with the bootstrap.

    Args:
        reward: ``[H, ...]``.
        value: ``[H, ...]``, values of the states s[0] .. s[H-1].
        discount: ``[H, ...]``, each in [0, 1]; the probability to go on is inside.
        bootstrap: ``[...]``, value of the state s[H].
        lambda_: Mixing weight in [0, 1], or those of all steps ``[H, ...]``.

    Returns:
        Returns ``[H, ...]``, differentiable in all four arrays.
    """
    chex.assert_equal_shape([reward, value, discount])
    chex.assert_equal_shape([value[0], bootstrap])
    next_value = jnp.concatenate([value[1:], bootstrap[None]], 0)
    one_step = reward + (1 - lambda_) * discount * next_value

    def step(following: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        target, decay = inputs
        current = target + decay * following
        return current, current

    return jax.lax.scan(step, bootstrap, (one_step, lambda_ * discount), reverse=True)[1]


def discount_weights(discount: Array) -> Array:
    """Returns how much of each imagined step is still reached, without a gradient.

    ``weight[t] = discount[0] discount[1] .. discount[t-1]`` and ``weight[0] = 1``: shifted by
    one step, so that a terminal state still weighs its own loss and only what follows
    it is left out.

    Args:
        discount: ``[H, ...]``, discounts of the states s[0] .. s[H-1].

    Returns:
        Weights ``[H, ...]``.
    """
    shifted = jnp.concatenate([jnp.ones_like(discount[:1]), discount[:-1]], 0)
    # jnp.cumprod is a windowed reduction, and of a constant discount XLA spends seconds on it.
    return jax.lax.stop_gradient(jax.lax.associative_scan(jnp.multiply, shifted))
