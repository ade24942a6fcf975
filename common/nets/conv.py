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

import jax
import jax.numpy as jnp

from common.types import Array

CHUNK_BYTES = 3.5 * 2**20
"""Size of the patches of one chunk: what stays in the caches of a core or two.

A chunk is never smaller than the kernel, which every chunk reads again.
"""

_default: contextvars.ContextVar[str | None] = contextvars.ContextVar("convolution", default=None)


def conv2d(x: Array, kernel: Array, stride: int = 2, implementation: str | None = None) -> Array:
    """Convolution (cross-correlation) without padding.

    Args:
        x: ``[N, H, W, in]``.
        kernel: ``[h, w, in, out]``.
        stride: Step of both axes.
        implementation: "library" for XLA's convolution, "matmul" for the products above;
            None chooses the products on a CPU.

    Returns:
        ``[N, (H - h) // stride + 1, (W - w) // stride + 1, out]``.
    """
    if _use_matmul(implementation):
        return _conv2d(x, kernel, stride)
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


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
    if _use_matmul(implementation):
        # Runs of fewer floats than a vector register holds (an RGB image's) are slow to
        # add: two by two neighbours at a time make them twice as long. The products are
        # larger for it, which pays where there are few channels.
        pays = stride * kernel.shape[2] < 8 and kernel.shape[3] <= 16
        chosen = implementation or _default.get()
        return _conv2d_transpose(x, kernel, stride, 2 if pays and chosen is None else 1)
    height, width = kernel.shape[:2]
    return jax.lax.conv_general_dilated(
        x,
        kernel[::-1, ::-1],
        (1, 1),
        ((height - 1, height - 1), (width - 1, width - 1)),
        lhs_dilation=(stride, stride),
        dimension_numbers=("NHWC", "HWOI", "NHWC"),
    )


@contextlib.contextmanager
def use_implementation(name: str | None) -> Iterator[None]:
    """Sets what ``implementation=None`` means for functions traced inside the block.

    Args:
        name: "library", "matmul" or None, as in ``conv2d``.
    """
    token = _default.set(name)
    try:
        yield
    finally:
        _default.reset(token)


def _use_matmul(implementation: str | None) -> bool:
    implementation = implementation or _default.get()
    if implementation not in (None, "library", "matmul"):
        raise ValueError(f"unknown implementation {implementation!r}; choose library or matmul")
    if implementation is None:
        return jax.default_backend() == "cpu"
    return implementation == "matmul"


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv2d(x: Array, kernel: Array, stride: int) -> Array:
    return _correlate(x, kernel, stride)


def _conv2d_forward(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return _correlate(x, kernel, stride), (x, kernel)


def _conv2d_backward(
    stride: int, saved: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    x, kernel = saved
    # Two loops rather than one: nobody asks for the gradient of the observed image, and
    # the compiler then drops the first.
    d_x = _scatter(gradient, kernel, stride)
    d_x = jnp.pad(d_x, [(0, n - m) for n, m in zip(x.shape, d_x.shape, strict=True)])
    return d_x, _kernel_gradient(x, gradient, kernel, stride)


_conv2d.defvjp(_conv2d_forward, _conv2d_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv2d_transpose(x: Array, kernel: Array, stride: int, group: int) -> Array:
    return _scatter(x, kernel, stride, group)


def _conv2d_transpose_forward(
    x: Array, kernel: Array, stride: int, group: int
) -> tuple[Array, tuple[Array, Array]]:
    return _scatter(x, kernel, stride, group), (x, kernel)


def _conv2d_transpose_backward(
    stride: int, group: int, saved: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    del group
    x, kernel = saved
    matrix = _as_matrix(kernel)

    def step(total: Array, chunk: tuple[Array, Array]) -> tuple[Array, Array]:
        x, gradient = chunk
        patches = _patches(gradient, kernel.shape[:2], stride)
        return total + _outer(x, patches), patches @ matrix

    total, d_x = _scan_chunks(step, _zeros(matrix), (x, gradient), x.shape[1:3], kernel)
    return d_x, _as_kernel(total, kernel)


_conv2d_transpose.defvjp(_conv2d_transpose_forward, _conv2d_transpose_backward)


def _correlate(x: Array, kernel: Array, stride: int) -> Array:
    matrix = _as_matrix(kernel)
    shape = [(n - k) // stride + 1 for n, k in zip(x.shape[1:3], kernel.shape[:2], strict=True)]

    def step(carry: None, chunk: tuple[Array]) -> tuple[None, Array]:
        return carry, _patches(chunk[0], kernel.shape[:2], stride) @ matrix

    return _scan_chunks(step, None, (x,), shape, kernel)[1]


def _kernel_gradient(x: Array, y: Array, kernel: Array, stride: int) -> Array:
    def step(total: Array, chunk: tuple[Array, Array]) -> tuple[Array, None]:
        x, y = chunk
        return total + _outer(y, _patches(x, kernel.shape[:2], stride)), None

    total = _scan_chunks(step, _zeros(_as_matrix(kernel)), (x, y), y.shape[1:3], kernel)[0]
    return _as_kernel(total, kernel)


def _scatter(y: Array, kernel: Array, stride: int, group: int = 1) -> Array:
    """Takes ``group`` x ``group`` neighbours of y together."""
    height, width = (
        stride * (n - 1) + k for n, k in zip(y.shape[1:3], kernel.shape[:2], strict=True)
    )
    kernel, stride = _widen(kernel, stride, group), stride * group
    matrix = _as_matrix(kernel)

    def step(carry: None, chunk: tuple[Array]) -> tuple[None, Array]:
        patches = _space_to_depth(chunk[0], group) @ matrix.T
        patches = patches.reshape(*patches.shape[:-1], *kernel.shape[:3])
        return carry, _overlap_add(patches, stride)[:, :height, :width]

    grid = [-(-n // group) for n in y.shape[1:3]]
    return _scan_chunks(step, None, (y,), grid, kernel)[1]


def _widen(kernel: Array, stride: int, group: int) -> Array:
    """The kernel of ``group`` x ``group`` neighbouring positions taken together.

    Args:
        kernel: ``[h, w, in, out]``.
        stride: Step between two positions.
        group: How many positions of a row, and rows, become one.

    Returns:
        ``[h + stride (group - 1), w + stride (group - 1), in, group * group * out]``.
    """
    shifted = [
        jnp.pad(kernel, (_around(a, stride, group), _around(b, stride, group), (0, 0), (0, 0)))
        for a in range(group)
        for b in range(group)
    ]
    return jnp.concatenate(shifted, -1)


def _around(index: int, stride: int, group: int) -> tuple[int, int]:
    return stride * index, stride * (group - 1 - index)


def _space_to_depth(x: Array, group: int) -> Array:
    """``[n, H, W, c]`` -> ``[n, ceil(H / group), ceil(W / group), group * group * c]``."""
    if group == 1:
        return x
    n, height, width, channels = x.shape
    x = jnp.pad(x, ((0, 0), (0, -height % group), (0, -width % group), (0, 0)))
    rows, columns = x.shape[1] // group, x.shape[2] // group
    x = x.reshape(n, rows, group, columns, group, channels).swapaxes(2, 3)
    return x.reshape(n, rows, columns, group * group * channels)


def _patches(x: Array, size: tuple[int, int], stride: int) -> Array:
    """Gathers the patches of an image.

    Args:
        x: ``[n, H, W, c]``.
        size: Height and width of a patch, (h, w).
        stride: Step between patches.

    Returns:
        ``[n, H', W', h * w * c]``.
    """
    n, height, width, channels = x.shape
    rows, columns = (height - size[0]) // stride + 1, (width - size[1]) // stride + 1
    grid = rows + -(-size[0] // stride) - 1, columns + -(-size[1] // stride) - 1
    # Round the image to whole blocks. What is added is never read.
    x = x[:, : grid[0] * stride, : grid[1] * stride]
    x = jnp.pad(
        x,
        ((0, 0), (0, grid[0] * stride - x.shape[1]), (0, grid[1] * stride - x.shape[2]), (0, 0)),
    )
    x = x.reshape(n, grid[0], stride, grid[1], stride * channels)
    pieces = []
    for a in range(size[0]):
        for b in range(0, size[1], stride):
            run = min(stride, size[1] - b) * channels
            top, left = a // stride, b // stride
            pieces.append(x[:, top : top + rows, a % stride, left : left + columns, :run])
    return jnp.concatenate(pieces, -1)


def _overlap_add(patches: Array, stride: int) -> Array:
    """Adds overlapping patches into an image, the adjoint of ``_patches``.

    Args:
        patches: ``[n, H, W, h, w, c]``.
        stride: Step between patches.

    Returns:
        ``[n, stride * (H - 1) + h, stride * (W - 1) + w, c]``.
    """
    n, rows, columns, height, width, channels = patches.shape
    down, right = -(-height // stride), -(-width // stride)
    extra = ((0, down * stride - height), (0, right * stride - width))
    patches = jnp.pad(patches, ((0, 0), (0, 0), (0, 0), *extra, (0, 0)))
    patches = patches.reshape(n, rows, columns, down, stride, right, stride * channels)
    blocks = sum(
        jnp.pad(
            patches[:, :, :, a, :, b],
            ((0, 0), (a, down - 1 - a), (b, right - 1 - b), (0, 0), (0, 0)),
        )
        for a in range(down)
        for b in range(right)
    )
    # [n, H', W', stride, stride * c] -> [n, stride * H', stride * W', c]
    grid = rows + down - 1, columns + right - 1
    image = blocks.swapaxes(2, 3).reshape(n, grid[0] * stride, grid[1] * stride, channels)
    return image[:, : stride * (rows - 1) + height, : stride * (columns - 1) + width]


def _outer(y: Array, patches: Array) -> Array:
    """Returns ``[out, h * w * in]``, the kernel's gradient; this order multiplies fastest."""
    return jax.lax.dot_general(
        y.reshape(-1, y.shape[-1]),
        patches.reshape(-1, patches.shape[-1]),
        (((0,), (0,)), ((), ())),
        preferred_element_type=jnp.promote_types(y.dtype, jnp.float32),
    )


def _as_matrix(kernel: Array) -> Array:
    return kernel.reshape(-1, kernel.shape[-1])


def _zeros(matrix: Array) -> Array:
    return jnp.zeros(matrix.shape[::-1], jnp.promote_types(matrix.dtype, jnp.float32))


def _as_kernel(gradient: Array, kernel: Array) -> Array:
    return gradient.T.reshape(kernel.shape).astype(kernel.dtype)


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
    amount = arrays[0].shape[0]
    image_bytes = math.prod(grid) * math.prod(kernel.shape[:3]) * kernel.dtype.itemsize
    kernel_bytes = kernel.size * kernel.dtype.itemsize
    target = max(1, round(max(CHUNK_BYTES, kernel_bytes) / image_bytes))
    if target >= amount:
        return step(carry, arrays)
    divisors = [size for size in range(target, target // 2, -1) if amount % size == 0]
    size = divisors[0] if divisors else target
    count = -(-amount // size)
    filled = [jnp.pad(x, ((0, count * size - amount), *[(0, 0)] * (x.ndim - 1))) for x in arrays]
    chunks = tuple(x.reshape(count, size, *x.shape[1:]) for x in filled)
    carry, outputs = jax.lax.scan(step, carry, chunks)
    if outputs is not None:
        outputs = outputs.reshape(-1, *outputs.shape[2:])[:amount]
    return carry, outputs
