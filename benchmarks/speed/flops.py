"""Counts the floating-point operations of a function's matrix products and convolutions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn


def count_flops(function: Callable[..., Any], *args: Any) -> int:
    """Counts what the traced function computes, two operations per multiplication.

    Bodies of scans count once per step, of conditionals once for the dearest branch, of what
    depends on the platform once for the cheapest, of while loops once. Elementwise work and
    later dead-code removal are left out.
    """
    return _count(jax.make_jaxpr(function)(*args).jaxpr)


def _count(jaxpr: Jaxpr) -> int:
    return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation: JaxprEqn) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return 2 * equation.outvars[0].aval.size * math.prod(shape[i] for i in contracted)
    if name == "conv_general_dilated":
        numbers = params["dimension_numbers"]
        kernel = equation.invars[1].aval
        per_output = kernel.size // kernel.shape[numbers.rhs_spec[0]]
        # A dilated input is mostly zeros, whose products nobody needs.
        zeros = math.prod(params["lhs_dilation"])
        return 2 * equation.outvars[0].aval.size * per_output // zeros
    inner = [_count(jaxpr) for value in params.values() for jaxpr in _jaxprs(value)]
    if name == "cond":
        return (min if params.get("branches_platforms") else max)(inner)
    return sum(inner) * (params["length"] if name == "scan" else 1)


def _jaxprs(value: Any) -> list[Jaxpr]:
    if isinstance(value, ClosedJaxpr):
        return [value.jaxpr]
    if isinstance(value, Jaxpr):
        return [value]
    if isinstance(value, tuple | list):
        return [jaxpr for item in value for jaxpr in _jaxprs(item)]
    return []
