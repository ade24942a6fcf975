"""Loads golden vectors, remembers which arrays a test looked at, and compares within tolerances.

The folder is ``tests/golden`` for DreamerV2, ``tests/golden_v3`` for DreamerV3 and
``tests/golden_tdmpc2`` for TD-MPC2, or the one that the environment variable GOLDEN_DIR,
GOLDEN_V3_DIR or GOLDEN_TDMPC2_DIR names, so that the same tests check another set with other
seeds and sizes.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

_HERE = pathlib.Path(__file__).parent
FOLDER = pathlib.Path(os.environ.get("GOLDEN_DIR") or _HERE / "golden")
FOLDER_V3 = pathlib.Path(os.environ.get("GOLDEN_V3_DIR") or _HERE / "golden_v3")
FOLDER_TDMPC2 = pathlib.Path(os.environ.get("GOLDEN_TDMPC2_DIR") or _HERE / "golden_tdmpc2")


class Arrays(dict):
    """Arrays by name; ``used`` holds the names that were looked up."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> np.ndarray:
        """Returns an array and remembers that it was used."""
        self.used.add(name)
        return super().__getitem__(name)

    def unused(self, prefix: str = "") -> list[str]:
        """Names of arrays under a prefix, configuration apart, that nothing looked up."""
        names = {name for name in self if name.startswith(prefix) and not _is_config(name)}
        return sorted(names - self.used)

    def case(self, prefix: str) -> Arrays:
        """Returns the arrays of one case, ``prefix.name`` under ``name``."""
        start = f"{prefix}."
        return Arrays({name[len(start) :]: x for name, x in self.items() if name.startswith(start)})


def load(name: str, folder: pathlib.Path = FOLDER) -> Arrays:
    """Loads ``name.npz`` from a folder of golden vectors."""
    with np.load(folder / f"{name}.npz") as file:
        return Arrays({key: file[key] for key in file.files})


def first_parts(name: str) -> list[str]:
    """Returns the distinct first parts of the names in a file: its cases where it has some."""
    with np.load(FOLDER / f"{name}.npz") as file:
        return sorted({key.split(".")[0] for key in file.files})


@contextlib.contextmanager
def every_array(arrays: Arrays) -> Iterator[Arrays]:
    """Fails at the end of the block where an array, configuration apart, took no part."""
    yield arrays
    assert not arrays.unused(), f"golden arrays that no check used: {arrays.unused()}"


def uniforms_for(one_hot: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Returns uniforms from which an inverse-CDF sampler picks the recorded classes.

    They lie in the middle of the class's interval, so that rounding does not matter.

    Args:
        one_hot: Recorded samples, ``[..., K]``.
        logits: The logits that they were drawn from, ``[..., K]``.

    Returns:
        float32 ``[...]``.
    """
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    probs = np.exp(shifted) / np.exp(shifted).sum(-1, keepdims=True)
    upper = np.cumsum(probs, -1)
    middle = upper - probs / 2
    return (middle * one_hot).sum(-1).astype(np.float32)


def assert_values(got: Any, want: np.ndarray, name: str = "") -> None:
    """Compares states, statistics, losses and returns: 2e-5 of the largest entry plus 1e-6."""
    _assert_by_maximum(got, want, 2e-5, 1e-6, name)


def assert_gradients(got: Any, want: np.ndarray, name: str = "") -> None:
    """Compares gradients: 1e-4 of the largest entry plus 1e-7."""
    _assert_by_maximum(got, want, 1e-4, 1e-7, name)


def assert_weights(got: Any, want: np.ndarray, name: str = "") -> None:
    """Compares weights after an update: 2e-6 absolute."""
    _assert_by_maximum(got, want, 0, 2e-6, name)


def assert_elementwise(
    got: Any, want: np.ndarray, name: str = "", rtol: float = 1e-4, atol: float = 1e-5
) -> None:
    """Compares entry by entry; an infinity must be matched by the same one."""
    np.testing.assert_allclose(np.asarray(got), want, rtol=rtol, atol=atol, err_msg=name)


def assert_exact(got: Any, want: np.ndarray, name: str = "") -> None:
    """Compares one-hot samples, masks and positions."""
    np.testing.assert_array_equal(np.asarray(got), want, err_msg=name)


def _assert_by_maximum(got: Any, want: np.ndarray, rtol: float, atol: float, name: str) -> None:
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"{name}: shape {got.shape}, golden {want.shape}"
    error = np.abs(got - want).max(initial=0)
    limit = rtol * np.abs(want).max(initial=0) + atol
    assert error <= limit, f"{name}: differs by {error:.3g}, allowed is {limit:.3g}"


def _is_config(name: str) -> bool:
    return "cfg" in name.split(".")
