"""Slow convolutions, one output pixel at a time."""

from __future__ import annotations

import numpy as np


def conv2d(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """``[N, H, W, in]``, ``[h, w, in, out]`` -> ``[N, H', W', out]`` without padding."""
    height, width = kernel.shape[:2]
    rows = (x.shape[1] - height) // stride + 1
    columns = (x.shape[2] - width) // stride + 1
    out = np.zeros((x.shape[0], rows, columns, kernel.shape[3]))
    for i in range(rows):
        for j in range(columns):
            patch = x[:, stride * i : stride * i + height, stride * j : stride * j + width]
            out[:, i, j] = np.einsum("nabc,abco->no", patch, kernel)
    return out


def conv2d_transpose(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """``y[s i + a, s j + b, o] += x[i, j, c] * kernel[a, b, o, c]`` for every pixel (i, j)."""
    height, width, out_channels, _ = kernel.shape
    n, rows, columns, _ = x.shape
    shape = n, stride * (rows - 1) + height, stride * (columns - 1) + width, out_channels
    out = np.zeros(shape)
    for i in range(rows):
        for j in range(columns):
            patch = np.einsum("nc,aboc->nabo", x[:, i, j], kernel)
            out[:, stride * i : stride * i + height, stride * j : stride * j + width] += patch
    return out
