"""Compute in bfloat16 with parameters and results in float32, or multiply alone in bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import jmp

from common.nets.products import rounded_operands
from common.types import Params

Precision = Literal["auto", "float32", "bfloat16", "bfloat16_products"]
"""Number format of computations; "auto" is float32 on a CPU, which is slower with bfloat16, and
bfloat16 elsewhere. With "bfloat16_products" all is float32 but the operands of the products of
dense layers and convolutions, and of their gradients; the sums are float32."""

EXACT_MODULE, EXACT_ENTRY = "ssm", "modes"
"""Names of the module whose parameters, and of the entry of states that, keep float32 everywhere:
recurrences that add less in a step than bfloat16 tells apart."""

_CASTS = jmp.Policy(param_dtype=jnp.float32, compute_dtype=jnp.bfloat16, output_dtype=jnp.float32)


def wrap(apply: Callable[..., Any], name: Precision) -> Callable[..., Any]:
    """Makes a function compute in another precision.

    All floating-point arrays among the positional arguments (parameters and inputs, in
    any nesting) are cast on the way in, and the results back to float32 on the way out, so
    that losses, gradients and optimiser state stay float32. bfloat16 has the range of
    float32: no loss scaling is needed. Integers, booleans and keys are left alone, and so
    are keyword arguments: noise goes there, since uniforms lose their tails in bfloat16; and so
    is what is named ``EXACT_MODULE`` or ``EXACT_ENTRY``.
    "bfloat16_products" casts nothing here: layers round what they multiply.

    Args:
        apply: The function, for example ``apply(params, inputs)``.
        name: "float32" (returns ``apply`` itself), "bfloat16", "auto", which is one of them, or
            "bfloat16_products".
    """
    if _formatted(name) == "float32":
        return apply
    if name == "bfloat16_products":

        def rounding(*args: Any, **kwargs: Any) -> Any:
            with rounded_operands():
                return apply(*args, **kwargs)

        return rounding

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return _CASTS.cast_to_output(apply(*_narrow(args), **kwargs))

    return wrapped


def ready(params: Params, name: Precision) -> Params:
    """Returns parameters as functions of ``wrap`` cast them, so that a loop need not at every step.

    Gradients of them are then summed over the steps in that format too.
    """
    return _narrow(params) if _formatted(name) == "bfloat16" else params


def _narrow(tree: Any) -> Any:
    def cast(path: tuple[Any, ...], x: Any) -> Any:
        return x if any(map(_is_exact, path)) else _CASTS.cast_to_compute(x)

    return jax.tree_util.tree_map_with_path(cast, tree)


def _is_exact(entry: Any) -> bool:
    if isinstance(entry, jax.tree_util.DictKey):
        return str(entry.key).rpartition("/")[2] == EXACT_MODULE
    return getattr(entry, "name", None) == EXACT_ENTRY


def _formatted(name: Precision) -> Precision:
    """What "auto" stands for here."""
    if name == "auto":
        return "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return name
