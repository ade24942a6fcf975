"""Patches of images, for convolutions as matrix products: cut out, widened, added up again."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from common.nets.products import bits_moved, kernel_gradient
from common.types import Array


def widen(kernel: Array, stride: int, group: int) -> Array:
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


def space_to_depth(x: Array, group: int) -> Array:
    """``[n, H, W, c]`` -> ``[n, ceil(H / group), ceil(W / group), group * group * c]``."""
    if group == 1:
        return x
    n, height, width, channels = x.shape
    x = jnp.pad(x, ((0, 0), (0, -height % group), (0, -width % group), (0, 0)))
    rows, columns = x.shape[1] // group, x.shape[2] // group
    x = x.reshape(n, rows, group, columns, group, channels).swapaxes(2, 3)
    return x.reshape(n, rows, columns, group * group * channels)


def cut_patches(x: Array, size: tuple[int, int], stride: int) -> Array:
    """Gathers the patches of an image.

    Args:
        x: ``[n, H, W, c]``.
        size: Height and width of a patch, (h, w).
        stride: Step between patches.

    Returns:
        ``[n, H', W', h * w * c]``.
    """
    if x.dtype == jnp.bfloat16:
        return bits_moved(lambda x: cut_patches(x, size, stride), x)
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


def overlap_add(patches: Array, stride: int) -> Array:
    """Adds overlapping patches into an image, the adjoint of ``cut_patches``.

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


def outer_product(y: Array, patches: Array) -> Array:
    """Returns ``[out, h * w * in]``, the kernel's gradient; this order multiplies fastest."""
    y, patches = y.reshape(-1, y.shape[-1]), patches.reshape(-1, patches.shape[-1])
    if y.dtype == jnp.bfloat16:
        return kernel_gradient(y, patches)
    return jax.lax.dot_general(y, patches, (((0,), (0,)), ((), ())))
