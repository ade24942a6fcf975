"""Products with kernels, whose operands may be rounded to bfloat16 while their sums stay float32.

Where operands are rounded, so are those of the gradients' products, and nothing else is:
results, and all that is computed of them entry by entry, keep their float32.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp

from common.types import Array

_rounded: contextvars.ContextVar[bool] = contextvars.ContextVar("rounded", default=False)


@contextlib.contextmanager
def rounded_operands() -> Iterator[None]:
    """Rounds the operands of products in functions traced inside the block."""
    token = _rounded.set(True)
    try:
        yield
    finally:
        _rounded.reset(token)


def operands_are_rounded() -> bool:
    """Whether a product that is traced now rounds its operands.

    Ask in the function that is called, not in a branch of ``jax.lax.platform_dependent``: JAX
    keeps the traces of those.
    """
    return _rounded.get()


def round_operand(x: Array) -> Array:
    """Returns x as bfloat16."""
    return x.astype(jnp.bfloat16)


def product(x: Array, kernel: Array, rounded: bool | None = None) -> Array:
    """``[..., in]`` by ``[in, out]``, as dense layers multiply.

    Args:
        x: Rows.
        kernel: Weights.
        rounded: Whether operands are rounded; None for what the block around says.
    """
    if operands_are_rounded() if rounded is None else rounded:
        return _rounded_product(x, kernel)
    return x @ kernel


def block_products(x: Array, kernel: Array, rounded: bool) -> Array:
    """``[..., g, in]`` by ``[g, in, out]``: a product for each of g blocks, in one operation."""
    if rounded:
        return jax.vmap(_rounded_product, (-2, 0), -2)(x, kernel)
    return jnp.einsum("...gi,gio->...go", x, kernel)


@jax.custom_vjp
def _rounded_product(x: Array, kernel: Array) -> Array:
    return _wide(round_operand(x), round_operand(kernel))


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    x, kernel = round_operand(x), round_operand(kernel)
    return _wide(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    gradient = round_operand(gradient)
    rows, sums = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
    return _wide_transposed(gradient, kernel), kernel_gradient(rows, sums)


def kernel_gradient(x: Array, y: Array) -> Array:
    """Returns ``x.T @ y``, summed in float32, of ``[rows, m]`` and ``[rows, n]`` in bfloat16.

    On a CPU, XLA 0.10 multiplies bfloat16 by the processor's own instructions only where the first
    factor is summed over along its last axis, and makes float32 of both else. A transposition
    alone it folds into the product; one that is filled up by a row of zeros it carries out. With
    one factor for many of the other, as in an ensemble, it cannot even run the product else.
    """
    return jax.lax.platform_dependent(x, y, cpu=_padded, default=lambda x, y: _wide(x.T, y))


def _padded(x: Array, y: Array) -> Array:
    if x.shape[1] > y.shape[1]:  # The narrower one is the cheaper to transpose.
        return _padded(y, x).T
    return _wide(bits_moved(lambda x: jnp.pad(x.T, ((0, 1), (0, 0))), x), y)[:-1]


def bits_moved(function: Callable[[Array], Array], x: Array) -> Array:
    """Returns ``function(x)``, which moves entries of a bfloat16 array and computes nothing.

    They are moved as integers: XLA moves those of bfloat16 as float32 on a CPU.
    """
    bits = function(jax.lax.bitcast_convert_type(x, jnp.uint16))
    return jax.lax.bitcast_convert_type(bits, x.dtype)


def _wide(x: Array, y: Array) -> Array:
    return jnp.matmul(x, y, preferred_element_type=jnp.float32)


def _wide_transposed(x: Array, y: Array) -> Array:
    """Returns ``x @ y.T``; of a y that is transposed in a loop XLA makes float32, on a CPU."""
    last = (x.ndim - 1,), (1,)
    return jax.lax.dot_general(x, y, (last, ((), ())), preferred_element_type=jnp.float32)


_rounded_product.defvjp(_forward, _backward)
