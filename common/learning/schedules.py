"""Schedules written as short expressions, as DreamerV2's configuration has them."""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Callable

import jax.numpy as jnp
import optax

from common.checks import AT, Options, refuse
from common.errors import UserError, nearest
from common.types import Array

Schedule = Callable[[Array | int], Array]


def _linear(step: Array | int, initial: float, final: float, duration: float) -> Array:
    mix = jnp.clip(jnp.asarray(step, jnp.float32) / duration, 0, 1)
    return (1 - mix) * initial + mix * final


def _warmup(step: Array | int, duration: float, value: float) -> Array:
    return jnp.clip(jnp.asarray(step, jnp.float32) / duration, 0, 1) * value


def _exp(step: Array | int, initial: float, final: float, halflife: float) -> Array:
    return (initial - final) * 0.5 ** (jnp.asarray(step, jnp.float32) / halflife) + final


def _cosine(step: Array | int, initial: float, final: float, duration: float) -> Array:
    turn = jnp.pi * jnp.clip(jnp.asarray(step, jnp.float32) / duration, 0, 1)
    return final + (initial - final) * (1 + jnp.cos(turn)) / 2


def _horizon(step: Array | int, initial: float, final: float, duration: float) -> Array:
    return 1 - 1 / _linear(step, initial, final, duration)


_SCHEDULES = {
    "linear": _linear,
    "cosine": _cosine,
    "warmup": _warmup,
    "exp": _exp,
    "horizon": _horizon,
}


def parse_schedule(text: str | float) -> Schedule:
    """Turns an expression into a function of the step that can be compiled.

    ==================================  ==============================================
    expression                          value at a step
    ==================================  ==============================================
    ``1e-4``                            the number itself
    ``linear(initial,final,duration)``  from initial to final over duration steps
    ``cosine(initial,final,duration)``  the same along half a cosine
    ``warmup(duration,value)``          from zero to value over duration steps
    ``exp(initial,final,halflife)``     from initial towards final, half the way every
                                        halflife steps
    ``horizon(initial,final,duration)`` the discount 1 - 1/h of a horizon h that goes
                                        linearly from initial to final
    ``warmup(10,1) then cosine(1,0,9)`` the first for its duration, then the next from
                                        its own step 0
    ==================================  ==============================================

    Args:
        text: The expression, or a number.

    Returns:
        A function from the step (an integer or an integer array) to float32.

    Raises:
        UserError: The text is no such expression.
    """
    *parts, last = re.split(r"\s+then\s+", str(text).strip())
    functions, ends = [], [0.0]
    for part in parts:
        function, values = _parse_one(part, text)
        if "duration" not in values:
            raise UserError(f"schedule {text!r} gives no duration of {part!r}, which others follow")
        functions.append(function)
        ends.append(ends[-1] + values["duration"])
    functions.append(_parse_one(last, text)[0])
    return optax.join_schedules(functions, ends[1:]) if parts else functions[0]


def _parse_one(part: str, text: str | float) -> tuple[Schedule, dict[str, float]]:
    """Returns the function of one part of an expression, and its arguments by name."""
    number = _number(part)
    if number is not None:
        return lambda step: jnp.full(jnp.shape(step), number, jnp.float32), {}
    match = re.fullmatch(r"\s*(\w+)\s*\(([^()]*)\)\s*", part)
    if not match:
        raise UserError(f"schedule {text!r} is neither a number nor like linear(1e-3,1e-4,1e6)")
    name = match.group(1)
    if name not in _SCHEDULES:
        raise UserError(f"unknown schedule {name!r} in {text!r}{nearest(name, _SCHEDULES)}")
    names = list(inspect.signature(_SCHEDULES[name]).parameters)[1:]
    numbers = [_number(one) for one in match.group(2).split(",")]
    if len(numbers) != len(names) or None in numbers:
        raise UserError(f"schedule {text!r} should be {name}({','.join(names)}) with numbers")
    values = dict(zip(names, numbers, strict=True))
    _check(text, name, values)
    return functools.partial(_SCHEDULES[name], **values), values


def check_schedules(options: Options, *names: str) -> None:
    """Raises an OptionError where one of these options is no expression of a schedule."""
    for name in names:
        try:
            parse_schedule(getattr(options, name))
        except UserError as error:
            refuse(options, f"{AT}{name}: {error}")


def _number(text: str | float) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _check(text: str | float, name: str, values: dict[str, float]) -> None:
    for key in ("duration", "halflife"):
        if values.get(key, 1) <= 0:
            raise UserError(
                f"schedule {text!r} has a {key} of {values[key]:g}; give a positive one"
            )
    if name == "horizon" and min(values["initial"], values["final"]) < 1:
        raise UserError(f"schedule {text!r} has a horizon below 1 step; give 1 or more")
