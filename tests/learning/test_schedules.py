"""Schedule expressions: values by hand, compilation, and mistakes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.errors import UserError
from common.learning.schedules import parse_schedule


@pytest.mark.parametrize(
    ("text", "step", "value"),
    [
        ("1e-4", 12345, 1e-4),
        (0.25, 0, 0.25),
        ("linear(3e-3,3e-4,2.5e6)", 0, 3e-3),
        ("linear(3e-3,3e-4,2.5e6)", 1_250_000, 1.65e-3),
        ("linear(3e-3,3e-4,2.5e6)", 9_000_000, 3e-4),
        ("warmup(100, 0.5)", 25, 0.125),
        ("warmup(100, 0.5)", 1000, 0.5),
        ("exp(1.0, 0.2, 10)", 20, 0.4),
        (" horizon(10, 100, 50) ", 25, 1 - 1 / 55),
        ("linear(0.1,-0.1,10)", 5, 0.0),
        ("cosine(1,0.2,10)", 0, 1.0),
        ("cosine(1,0.2,10)", 5, 0.6),
        ("cosine(1,0.2,10)", 99, 0.2),
        ("warmup(4,2) then linear(2,0,10)", 3, 1.5),
        ("warmup(4,2) then linear(2,0,10)", 4, 2.0),
        ("warmup(4,2)  then linear(2,0,10)", 9, 1.0),
        ("linear(0,1,2) then cosine(1,0,2) then 0.3", 3, 0.5),
        ("linear(0,1,2) then cosine(1,0,2) then 0.3", 4, 0.3),
    ],
)
def test_values(text, step, value):
    schedule = parse_schedule(text)
    np.testing.assert_allclose(schedule(step), value, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(jax.jit(schedule)(jnp.int32(step)), value, rtol=1e-5, atol=1e-8)


def test_many_steps_at_once():
    for text in ("0.5", "linear(1,0,4)", "warmup(2,1) then cosine(1,0,3)"):
        value = parse_schedule(text)(jnp.arange(5))
        assert value.shape == (5,) and value.dtype == jnp.float32


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fast", "neither a number"),
        ("linear(1,2", "neither a number"),
        ("", "neither a number"),
        ("nan", "neither a number"),
        ("linaer(1,2,3)", "did you mean 'linear'"),
        ("linear(1,2)", "linear(initial,final,duration)"),
        ("linear(1,2,x)", "with numbers"),
        ("warmup(0,1)", "positive"),
        ("exp(1,2,-3)", "halflife"),
        ("horizon(0,10,100)", "horizon below 1"),
        ("0.5 then warmup(1,2)", "no duration of '0.5'"),
        ("exp(1,0,9) then 0.5", "no duration of 'exp(1,0,9)'"),
        ("warmup(1,2) then", "neither a number"),
        ("warmup(1,2) then linear(1,2)", "linear(initial,final,duration)"),
    ],
)
def test_mistakes(text, says):
    with pytest.raises(UserError) as error:
        parse_schedule(text)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
