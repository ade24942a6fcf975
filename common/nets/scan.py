"""A scan whose weights' gradients are computed outside of the loop, where kernels are launched.

On a GPU a loop over short steps waits for the launches of its kernels, and ordinary reverse
differentiation has many: every step stores what its backward step reads, and every backward step
adds to the gradient of every weight. Here the loop stores the carries alone. Backwards it computes
a step again and pulls the carry's cotangent through; what weights and inputs get then follows of
all steps at once, in one product each. On a CPU to compute again costs more than that saves.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

Step = Callable[..., tuple[Any, Any]]
"""(carry, x) -> next carry and output; with weights behind where they are given."""
Saved = tuple[Any, Any, tuple[Any, ...]]
"""Carries before all steps, inputs of all steps, and weights."""


def recurrent_scan(
    step: Step, carry: Any, xs: Any, policy: Callable[..., bool] | None = None
) -> tuple[Any, Any]:
    """Returns ``jax.lax.scan(step, carry, xs)``, with gradients as said above but on a CPU.

    Args:
        step: ``(carry, x) -> (carry, y)``, free of Haiku; it may close over weights, to which
            gradients flow.
        carry: What the first step takes; floats.
        xs: Inputs, time-major; floats.
        policy: On a CPU, what ``jax.checkpoint`` keeps for the backward pass; None keeps all.
    """
    function, weights = jax.closure_convert(step, carry, jax.tree.map(lambda x: x[0], xs))

    def plainly(carry: Any, xs: Any, *weights: Any) -> tuple[Any, Any]:
        def one(carry: Any, x: Any) -> tuple[Any, Any]:
            return function(carry, x, *weights)

        if policy is not None:
            one = jax.checkpoint(one, policy=policy, prevent_cse=False)
        return jax.lax.scan(one, carry, xs)

    def apart(carry: Any, xs: Any, *weights: Any) -> tuple[Any, Any]:
        return scan_apart(function, carry, xs, weights)

    return jax.lax.platform_dependent(carry, xs, *weights, cpu=plainly, default=apart)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def scan_apart(function: Step, carry: Any, xs: Any, weights: tuple[Any, ...]) -> tuple[Any, Any]:
    """The scan of ``function(carry, x, *weights)``, with gradients as said above anywhere."""
    return jax.lax.scan(lambda carry, x: function(carry, x, *weights), carry, xs)


def _forward(
    function: Step, carry: Any, xs: Any, weights: tuple[Any, ...]
) -> tuple[tuple[Any, Any], Saved]:
    def step(carry: Any, x: Any) -> tuple[Any, tuple[Any, Any]]:
        following, y = function(carry, x, *weights)
        return following, (carry, y)

    last, (carries, ys) = jax.lax.scan(step, carry, xs)
    return (last, ys), (carries, xs, weights)


def _backward(
    function: Step, saved: Saved, cotangents: tuple[Any, Any]
) -> tuple[Any, Any, tuple[Any, ...]]:
    carries, xs, weights = saved
    of_last, of_ys = cotangents

    def step(of_following: Any, now: tuple[Any, Any, Any]) -> tuple[Any, Any]:
        carry, x, of_y = now
        _, pull = jax.vjp(lambda carry: function(carry, x, *weights), carry)
        return pull((of_following, of_y))[0], of_following

    of_first, of_followings = jax.lax.scan(step, of_last, (carries, xs, of_ys), reverse=True)

    def all_steps(xs: Any, weights: tuple[Any, ...]) -> tuple[Any, Any]:
        return jax.vmap(lambda carry, x: function(carry, x, *weights))(carries, xs)

    _, pull = jax.vjp(all_steps, xs, weights)
    return (of_first, *pull((of_followings, of_ys)))


scan_apart.defvjp(_forward, _backward)
