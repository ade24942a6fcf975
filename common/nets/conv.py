"""Strided convolutions without padding, as large matrix products on a CPU.

XLA's convolutions are right for GPUs and TPUs, but on a CPU their gradients run at a
tenth of the speed of a matrix product. Three products serve both kinds of convolution,
in both directions. With stride s, images X, kernel K and outputs Y:

* correlate: ``Y[i, j, o] = sum_{a, b, c} X[s i + a, s j + b, c] K[a, b, c, o]``, the
  product of the patches of X with K;
* scatter, its adjoint: ``X[s i + a, s j + b, c] += sum_o Y[i, j, o] K[a, b, c, o]``, a
  product with K followed by the addition of overlapping patches;
* kernel gradient: ``K[a, b, c, o] = sum_{i, j} X[s i + a, s j + b, c] Y[i, j, o]``, the
  product of the transposed patches with Y.

A convolution is the first, and its gradients are the second and the third. A transposed
convolution is the second, and its gradients are the first and the third.

Patches and their overlaps move whole s x s blocks of pixels, which keeps runs in memory
long, and the batch is cut into chunks whose patches stay in the processor's cache.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from common.nets.patches import (
    cut_patches,
    outer_product,
    overlap_add,
    space_to_depth,
    widen,
)
from common.nets.products import operands_are_rounded, round_operand
from common.types import Array

CHUNK_BYTES = 3.5 * 2**20
"""Size of the patches of one chunk: what stays in the caches of a core or two.

A chunk is never smaller than the kernel, which every chunk reads again.
"""


class _Form(NamedTuple):
    """How a convolution is computed.

    Attributes:
        implementation: As in ``conv2d``.
        rounded: Whether operands are rounded to bfloat16.
    """

    implementation: str | None
    rounded: bool


_devices: contextvars.ContextVar[int] = contextvars.ContextVar("devices", default=1)
_default: contextvars.ContextVar[str | None] = contextvars.ContextVar("convolution", default=None)


def conv2d(x: Array, kernel: Array, stride: int = 2, implementation: str | None = None) -> Array:
    """Convolution (cross-correlation) without padding.

    Args:
        x: ``[N, H, W, in]``.
        kernel: ``[h, w, in, out]``.
        stride: Step of both axes.
        implementation: "library" for XLA's convolution, "matmul" for the products above;
            None chooses the products where the function is compiled for a CPU.

    Returns:
        ``[N, (H - h) // stride + 1, (W - w) // stride + 1, out]``.
    """
    return _conv2d(x, kernel, stride, _form(implementation))


def conv2d_transpose(
    x: Array, kernel: Array, stride: int = 2, implementation: str | None = None
) -> Array:
    """Transposed convolution without padding: the adjoint of ``conv2d``.

    Args:
        x: ``[N, H, W, in]``.
        kernel: ``[h, w, out, in]``.
        stride: Step of both axes, at most the kernel's height and width.
        implementation: As in ``conv2d``; None may also multiply more where that is faster.

    Returns:
        ``[N, stride * (H - 1) + h, stride * (W - 1) + w, out]``.
    """
    form = _form(implementation)
    # Runs of fewer floats than a vector register holds (an RGB image's) are slow to
    # add: two by two neighbours at a time make them twice as long. The products are
    # larger for it, which pays where there are few channels.
    pays = stride * kernel.shape[2] < 8 and kernel.shape[3] <= 16
    return _conv2d_transpose(
        x, kernel, stride, 2 if pays and form.implementation is None else 1, form
    )


@contextlib.contextmanager
def use_implementation(name: str | None) -> Iterator[None]:
    """Sets what ``implementation=None`` means for functions traced inside the block.

    JAX traces a function once: what was called before the block keeps its convolutions.

    Args:
        name: "library", "matmul" or None, as in ``conv2d``.
    """
    token = _default.set(name)
    try:
        yield
    finally:
        _default.reset(token)


@contextlib.contextmanager
def divided(devices: int) -> Iterator[None]:
    """Says that batches are divided among devices, in functions traced inside the block.

    The chunks of the products then have as many images of each, so that none has to be moved.
    """
    token = _devices.set(devices)
    try:
        yield
    finally:
        _devices.reset(token)


def _form(implementation: str | None) -> _Form:
    implementation = implementation or _default.get()
    if implementation not in (None, "library", "matmul"):
        raise ValueError(f"unknown implementation {implementation!r}; choose library or matmul")
    return _Form(implementation, operands_are_rounded())


def _choose(
    form: _Form, products: Callable[..., Any], library: Callable[..., Any], *arrays: Array
) -> Any:
    """Computes by one of two functions; None leaves it to the platform that is compiled for.

    Results have the type of the arrays, whatever the operands are rounded to.
    """
    dtype = arrays[0].dtype
    if form.rounded:
        arrays = tuple(map(round_operand, arrays))
    products = functools.partial(products, dtype=dtype)

    def converted(*arrays: Array) -> Any:
        # A library has no products of bfloat16 that return float32; its own sums are wide.
        return jax.tree.map(lambda x: x.astype(dtype), library(*arrays))

    if form.implementation is None:
        return jax.lax.platform_dependent(*arrays, cpu=products, default=converted)
    return (products if form.implementation == "matmul" else converted)(*arrays)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv2d(x: Array, kernel: Array, stride: int, form: _Form) -> Array:
    products = functools.partial(_correlate, stride=stride)
    library = functools.partial(_library_conv2d, stride=stride)
    return _choose(form, products, library, x, kernel)


def _conv2d_forward(
    x: Array, kernel: Array, stride: int, form: _Form
) -> tuple[Array, tuple[Array, Array]]:
    return _conv2d(x, kernel, stride, form), (x, kernel)


def _conv2d_backward(
    stride: int, form: _Form, saved: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    # Apart from each other: nobody asks for the gradient of the observed image, and the compiler
    # then drops the first.
    def of_image(x: Array, kernel: Array, gradient: Array, dtype: np.dtype) -> Array:
        d_x = _scatter(gradient, kernel, stride, dtype=dtype)
        return jnp.pad(d_x, [(0, n - m) for n, m in zip(x.shape, d_x.shape, strict=True)])

    def of_kernel(x: Array, kernel: Array, gradient: Array, dtype: np.dtype) -> Array:
        return _kernel_gradient(x, gradient, kernel, stride, dtype)

    library = functools.partial(_transposed, functools.partial(_library_conv2d, stride=stride))
    d_x, d_kernel = (
        _choose(form, products, functools.partial(library, argument), *saved, gradient)
        for argument, products in enumerate((of_image, of_kernel))
    )
    return d_x, d_kernel


_conv2d.defvjp(_conv2d_forward, _conv2d_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv2d_transpose(x: Array, kernel: Array, stride: int, group: int, form: _Form) -> Array:
    products = functools.partial(_scatter, stride=stride, group=group)
    library = functools.partial(_library_conv2d_transpose, stride=stride)
    return _choose(form, products, library, x, kernel)


def _conv2d_transpose_forward(
    x: Array, kernel: Array, stride: int, group: int, form: _Form
) -> tuple[Array, tuple[Array, Array]]:
    return _conv2d_transpose(x, kernel, stride, group, form), (x, kernel)


def _conv2d_transpose_backward(
    stride: int,
    group: int,
    form: _Form,
    saved: tuple[Array, Array],
    gradient: Array,
) -> tuple[Array, Array]:
    del group

    def products(x: Array, kernel: Array, gradient: Array, dtype: np.dtype) -> tuple[Array, Array]:
        matrix = _as_matrix(kernel)

        def step(total: Array, chunk: tuple[Array, Array]) -> tuple[Array, Array]:
            x, gradient = chunk
            patches = cut_patches(gradient, kernel.shape[:2], stride)
            return total + outer_product(x, patches), _multiply(patches, matrix, dtype)

        total, d_x = _scan_chunks(step, _zeros(matrix), (x, gradient), x.shape[1:3], kernel)
        return d_x, _as_kernel(total, kernel).astype(dtype)

    def library(x: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
        forward = functools.partial(_library_conv2d_transpose, stride=stride)
        arrays = x, kernel, gradient
        return _transposed(forward, 0, *arrays), _transposed(forward, 1, *arrays)

    return _choose(form, products, library, *saved, gradient)


_conv2d_transpose.defvjp(_conv2d_transpose_forward, _conv2d_transpose_backward)


def _transposed(
    function: Callable[[Array, Array], Array], argument: int, x: Array, kernel: Array, y: Array
) -> Array:
    """Returns the gradient of one argument of a bilinear function, given that of its result."""
    if argument == 0:
        return jax.linear_transpose(lambda x: function(x, kernel), x)(y)[0]
    return jax.linear_transpose(lambda kernel: function(x, kernel), kernel)(y)[0]


def _library_conv2d(x: Array, kernel: Array, stride: int) -> Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _library_conv2d_transpose(x: Array, kernel: Array, stride: int) -> Array:
    height, width = kernel.shape[:2]
    return jax.lax.conv_general_dilated(
        x,
        kernel[::-1, ::-1],
        (1, 1),
        ((height - 1, height - 1), (width - 1, width - 1)),
        lhs_dilation=(stride, stride),
        dimension_numbers=("NHWC", "HWOI", "NHWC"),
    )


def _correlate(x: Array, kernel: Array, stride: int, dtype: np.dtype) -> Array:
    matrix = _as_matrix(kernel)
    shape = [(n - k) // stride + 1 for n, k in zip(x.shape[1:3], kernel.shape[:2], strict=True)]

    def step(carry: None, chunk: tuple[Array]) -> tuple[None, Array]:
        return carry, _multiply(cut_patches(chunk[0], kernel.shape[:2], stride), matrix, dtype)

    return _scan_chunks(step, None, (x,), shape, kernel)[1]


def _kernel_gradient(x: Array, y: Array, kernel: Array, stride: int, dtype: np.dtype) -> Array:
    def step(total: Array, chunk: tuple[Array, Array]) -> tuple[Array, None]:
        x, y = chunk
        return total + outer_product(y, cut_patches(x, kernel.shape[:2], stride)), None

    total = _scan_chunks(step, _zeros(_as_matrix(kernel)), (x, y), y.shape[1:3], kernel)[0]
    return _as_kernel(total, kernel).astype(dtype)


def _scatter(y: Array, kernel: Array, stride: int, group: int = 1, *, dtype: np.dtype) -> Array:
    """Takes ``group`` x ``group`` neighbours of y together."""
    height, width = (
        stride * (n - 1) + k for n, k in zip(y.shape[1:3], kernel.shape[:2], strict=True)
    )
    kernel, stride = widen(kernel, stride, group), stride * group
    matrix = _as_matrix(kernel)

    def step(carry: None, chunk: tuple[Array]) -> tuple[None, Array]:
        patches = _multiply(space_to_depth(chunk[0], group), matrix.T, dtype)
        patches = patches.reshape(*patches.shape[:-1], *kernel.shape[:3])
        return carry, overlap_add(patches, stride)[:, :height, :width]

    grid = [-(-n // group) for n in y.shape[1:3]]
    return _scan_chunks(step, None, (y,), grid, kernel)[1]


def _multiply(x: Array, y: Array, dtype: np.dtype) -> Array:
    return jnp.matmul(x, y, preferred_element_type=dtype)


def _as_matrix(kernel: Array) -> Array:
    return kernel.reshape(-1, kernel.shape[-1])


def _zeros(matrix: Array) -> Array:
    return jnp.zeros(matrix.shape[::-1], jnp.promote_types(matrix.dtype, jnp.float32))


def _as_kernel(gradient: Array, kernel: Array) -> Array:
    return gradient.T.reshape(kernel.shape)


def _scan_chunks(
    step: Callable,
    carry: Array | None,
    arrays: tuple[Array, ...],
    grid: Sequence[int],
    kernel: Array,
) -> tuple[Array | None, Array | None]:
    """Scans over chunks of the batch, the leading axis of all arrays and of the output.

    Where no size near the best one divides the batch, it is filled up with zeros, which add
    nothing to a kernel's gradient.

    Args:
        step: ``(carry, chunks of the arrays) -> (carry, chunk of the output)``.
        carry: What the first step takes.
        arrays: ``[N, ...]`` each.
        grid: Rows and columns of patches in one image.
        kernel: The kernel, whose gradients and products the steps compute.

    Returns:
        The last carry, and the output ``[N, ...]``.
    """
    devices = _devices.get()
    amount = arrays[0].shape[0]
    if amount % devices:  # Of few images, such as those to look at.
        devices = 1
    share = amount // devices
    image_bytes = math.prod(grid) * math.prod(kernel.shape[:3]) * kernel.dtype.itemsize
    kernel_bytes = kernel.size * kernel.dtype.itemsize
    target = max(1, round(max(CHUNK_BYTES, kernel_bytes) / image_bytes))
    if target >= share:
        return step(carry, arrays)
    divisors = [size for size in range(target, target // 2, -1) if share % size == 0]
    size = divisors[0] if divisors else target
    count = -(-share // size)

    def cut(x: Array) -> Array:
        rest = x.shape[1:]
        x = x.reshape(devices, share, *rest)
        x = jnp.pad(x, ((0, 0), (0, count * size - share), *[(0, 0)] * len(rest)))
        x = x.reshape(devices, count, size, *rest).swapaxes(0, 1)
        return x.reshape(count, devices * size, *rest)

    carry, outputs = jax.lax.scan(step, carry, tuple(map(cut, arrays)))
    if outputs is not None:
        rest = outputs.shape[2:]
        outputs = outputs.reshape(count, devices, size, *rest).swapaxes(0, 1)
        outputs = outputs.reshape(devices, count * size, *rest)[:, :share].reshape(-1, *rest)
    return carry, outputs
