"""Compute in bfloat16 with parameters and results in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import jmp

from common.errors import UserError, nearest

PRECISIONS = ("float32", "bfloat16")


def policy(name: str) -> jmp.Policy:
    """Returns the policy of a precision: dtype of computations, float32 for all else.

    Args:
        name: "float32" or "bfloat16".

    Raises:
        UserError: Any other name.
    """
    if name not in PRECISIONS:
        raise UserError(f"unknown precision {name!r}{nearest(name, PRECISIONS)}")
    return jmp.Policy(
        param_dtype=jnp.float32, compute_dtype=jnp.dtype(name), output_dtype=jnp.float32
    )


def wrap(apply: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Makes a function compute in another precision.

    All floating-point arrays among the positional arguments (parameters and inputs, in
    any nesting) are cast on the way in, and the results back to float32 on the way out, so
    that losses, gradients and optimiser state stay float32. bfloat16 has the range of
    float32: no loss scaling is needed. Integers, booleans and keys are left alone, and so
    are keyword arguments: noise goes there, since uniforms lose their tails in bfloat16.

    Args:
        apply: The function, for example ``apply(params, inputs)``.
        name: "float32" (returns ``apply`` itself) or "bfloat16".

    Raises:
        UserError: Any other name.
    """
    casts = policy(name)
    if name == "float32":
        return apply

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return casts.cast_to_output(apply(*casts.cast_to_compute(args), **kwargs))

    return wrapped
