"""Diagonal state space layers that forget at resets (S5, arXiv:2208.04933 and 2303.03982).

A layer has P complex modes x with eigenvalues λ, Re λ < 0, and steps Δ; u is its input:

    x_t = Ā x_{t-1} + B̄ u_t,    Ā = exp(λ Δ),    B̄ = (Ā - 1) / λ B      (zero-order hold)
    y_t = 2 Re(C x_t) + D u_t

Modes come in conjugate pairs, of which one is stored: hence the 2 Re, which C as it is kept has in
it. At a reset Ā of that step is zero, and so is what the state before it adds. That keeps the
ordinary operator of linear recurrences,

    (a_i, b_i) then (a_j, b_j) = (a_j a_i, a_j b_i + b_j),

which is associative, resets or not; no flag is carried along.

At the start λ are eigenvalues of the normal part of HiPPO-LegS (arXiv:2008.07669). Its eigenvectors
are unitary: what Lecun's normal distribution draws for B and C in the basis of HiPPO has in that of
the modes independent entries of the same kind, which are drawn here. Steps are uniform in ln Δ.

All of it is computed in float32 at least, and the parameters of ``ssm`` keep that format where
others are cast to bfloat16: what a step of 0.001 adds is less than bfloat16 tells apart. Complex
numbers are pairs of real ones, [real, imaginary], in parameters and states.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from common.nets.layers import Dense, LayerNorm, layer_norm
from common.nets.precision import EXACT_MODULE
from common.nets.products import product
from common.types import Array

STEPS = (1e-3, 1e-1)
"""Smallest and largest Δ at the start: modes that remember 2,000 steps, and 20."""
_LECUN = hk.initializers.VarianceScaling(1.0, "fan_in", "normal")


class Modes(NamedTuple):
    """What drives the modes of one layer; real arrays.

    Attributes:
        log_decay: ln(-Re λ) ``[P]``, so that no step of an optimizer makes a mode grow.
        frequency: Im λ ``[P]``.
        log_step: ln Δ ``[P]``.
        kernel: B, real parts and then imaginary ones ``[D, 2 P]``.
    """

    log_decay: Array
    frequency: Array
    log_step: Array
    kernel: Array


class SSMLayer(NamedTuple):
    """Weights of one layer; see ``apply_layer``.

    Attributes:
        modes: What drives its modes.
        norm: Scale and offset ``[D]`` of the norm of its input.
        readout: C, real parts and then imaginary ones ``[2 P, D]``.
        through: D ``[D]``.
        gate: Kernel ``[D, 2 D]`` and bias ``[2 D]`` of the gated unit.
    """

    modes: Modes
    norm: tuple[Array, Array]
    readout: Array
    through: Array
    gate: tuple[Array, Array]


@functools.cache
def hippo_eigenvalues(size: int) -> np.ndarray:
    """Eigenvalues of the normal part of HiPPO-LegS with positive imaginary part, ``[size / 2]``.

    The matrix of ``size`` rows is -1/2 I + S, S skew with S_nk = -sqrt((2n+1)(2k+1)) / 2 for n > k.
    """
    root = np.sqrt(2 * np.arange(size) + 1.0)
    below = np.tril(-0.5 * np.outer(root, root), -1)
    frequency = np.linalg.eigvalsh(-1j * (below - below.T))
    return -0.5 + 1j * np.sort(frequency)[size // 2 :]


def make_layers(*, layers: int, width: int, modes: int, blocks: int) -> list[SSMLayer]:
    """Creates the weights of a stack inside a Haiku transform.

    What drives the modes belongs to one module named ``ssm``, which an optimizer may be told to
    learn slower; the rest is ``layer0``, ``layer1`` ...

    Args:
        layers: How many.
        width: Entries of inputs and outputs, D.
        modes: Complex numbers in a state, P.
        blocks: HiPPO matrices side by side, each of ``2 modes / blocks`` rows.
    """
    driven = _AllModes(name=EXACT_MODULE)(layers, width, modes, blocks)
    return [_Rest(name=f"layer{i}")(one, width) for i, one in enumerate(driven)]


class _AllModes(hk.Module):
    """Creates what drives the modes of every layer."""

    def __call__(self, layers: int, width: int, size: int, blocks: int) -> list[Modes]:
        eigenvalues = np.tile(hippo_eigenvalues(2 * size // blocks), blocks)
        low, high = np.log(STEPS)
        decay = hk.initializers.Constant(np.log(-eigenvalues.real))
        frequency = hk.initializers.Constant(eigenvalues.imag)
        step = lambda shape, dtype: hk.initializers.RandomUniform(low, high)(shape, dtype)  # noqa: E731
        get = hk.get_parameter
        return [
            Modes(
                get(f"log_decay{i}", (size,), init=decay),
                get(f"frequency{i}", (size,), init=frequency),
                get(f"log_step{i}", (size,), init=step),
                # Half of the variance to each of the two parts.
                get(f"kernel{i}", (width, 2 * size), init=_halved),
            )
            for i in range(layers)
        ]


class _Rest(hk.Module):
    """Creates what a layer has beside what drives its modes."""

    def __call__(self, modes: Modes, width: int) -> SSMLayer:
        return SSMLayer(
            modes,
            LayerNorm(name="norm").parameters(width),
            hk.get_parameter("readout", (modes.kernel.shape[1], width), init=_LECUN),
            hk.get_parameter("through", (width,), init=hk.initializers.RandomNormal()),
            Dense(2 * width, name="gate").parameters(width),
        )


def _halved(shape: Sequence[int], dtype: jnp.dtype) -> Array:
    return _LECUN(shape, dtype) / math.sqrt(2)


def apply_layer(
    layer: SSMLayer, tokens: Array, start: Array, is_first: Array
) -> tuple[Array, Array]:
    """Advances a layer by T steps.

    With n the layer norm, y of the modes as above, φ the gelu and σ the sigmoid (the full gated
    unit of S5, in front of which the norm stands):

        u = n(tokens),    [v; g] = W φ(y) + b,    tokens' = tokens + v σ(g)

    Args:
        layer: Its weights.
        tokens: ``[B, T, D]``.
        start: Modes before them ``[B, 2, P]``.
        is_first: Where the modes are zero before the step ``[B, T]``.

    Returns:
        The next tokens ``[B, T, D]``, and the modes ``[B, T, 2, P]``.
    """
    inputs = layer_norm(tokens, *layer.norm)
    modes = advance_modes(layer.modes, inputs, start, is_first)
    flat = modes.reshape(*modes.shape[:-2], -1).astype(tokens.dtype)
    output = product(flat, layer.readout) + layer.through * inputs
    value, gate = jnp.split(product(jax.nn.gelu(output), layer.gate[0]) + layer.gate[1], 2, -1)
    return tokens + value * jax.nn.sigmoid(gate), modes


def advance_modes(modes: Modes, inputs: Array, start: Array, is_first: Array) -> Array:
    """Returns the modes ``[B, T, 2, P]`` behind T inputs ``[B, T, D]``; see ``apply_layer``."""
    wide = jnp.promote_types(inputs.dtype, jnp.float32)
    transition, factor = discretize(modes)
    driven = factor * _to_complex(_in_pairs(product(inputs.astype(wide), modes.kernel)))
    kept = jnp.where(is_first[..., None], 0, transition)
    states = linear_scan(kept, driven, _to_complex(start.astype(wide)))
    return jnp.stack([states.real, states.imag], -2)


def discretize(modes: Modes) -> tuple[Array, Array]:
    """Returns Ā and (Ā - 1) / λ, complex ``[P]``, by zero-order hold.

    With z = λ Δ = p + iq, Ā - 1 is expm1(p) cos q - 2 sin²(q / 2) + i exp(p) sin q, which loses
    nothing where Δ is small.
    """
    step, decay = jnp.exp(modes.log_step), jnp.exp(modes.log_decay)
    p, q = -decay * step, modes.frequency * step
    less = jnp.expm1(p) * jnp.cos(q) - 2 * jnp.square(jnp.sin(q / 2))
    difference = jax.lax.complex(less, jnp.exp(p) * jnp.sin(q))
    return 1 + difference, difference / jax.lax.complex(-decay, modes.frequency)


def linear_scan(kept: Array, driven: Array, start: Array) -> Array:
    """Returns x_t = kept_t x_{t-1} + driven_t, all steps in parallel.

    Args:
        kept: ``[B, T, P]``; zero at a reset.
        driven: ``[B, T, P]``.
        start: x before the first step ``[B, P]``.
    """
    driven = driven.at[:, 0].add(kept[:, 0] * start)
    return jax.lax.associative_scan(compose, (kept, driven), axis=1)[1]


def compose(earlier: tuple[Array, Array], later: tuple[Array, Array]) -> tuple[Array, Array]:
    """Two steps x -> a x + b, one after the other, as one."""
    return later[0] * earlier[0], later[0] * earlier[1] + later[1]


def _in_pairs(x: Array) -> Array:
    """``[..., 2 P]`` as ``[..., 2, P]``."""
    return x.reshape(*x.shape[:-1], 2, -1)


def _to_complex(x: Array) -> Array:
    """``[..., 2, P]``, real and imaginary parts, as complex numbers ``[..., P]``."""
    return jax.lax.complex(x[..., 0, :], x[..., 1, :])
