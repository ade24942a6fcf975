"""Dense layers, norms, activations and the multi-layer perceptron.

Parameters are named ``kernel`` and ``bias``, or ``scale`` and ``offset``. Layers
compute in the type of their kernel: whoever casts the parameters to bfloat16 gets
a bfloat16 network. What they multiply may be rounded, see ``common.nets.products``.
Norms compute in at least float32.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from common.checks import Count, Options, Whole
from common.nets.products import block_products, operands_are_rounded, product
from common.types import Array

Activation = Literal["elu", "relu", "tanh", "silu", "gelu", "mish"]
Norm = Literal["none", "layer", "rms"]
Init = Literal["glorot", "trunc_normal"]

LAYER_NORM_EPSILON = 1e-3
"""The default of Keras, with which DreamerV2 was published."""
RMS_NORM_EPSILON = 1e-4
"""As in DreamerV3."""
GLOROT = hk.initializers.VarianceScaling(1.0, "fan_avg", "uniform")
"""Glorot and Bengio (2010), the default of Keras, for dense and convolution kernels."""
INITS: dict[Init, hk.initializers.Initializer] = {
    "glorot": GLOROT,
    "trunc_normal": hk.initializers.VarianceScaling(1.0, "fan_in", "truncated_normal"),
}
"""How kernels are drawn. "trunc_normal" is DreamerV3's: 1.1368 / sqrt(fan_in) times a normal cut
at two; the fan of a block-diagonal kernel is all of its input."""


def scaled(init: hk.initializers.Initializer, factor: float) -> hk.initializers.Initializer:
    """Returns an initialiser that draws the same, multiplied by a factor."""
    return init if factor == 1 else lambda shape, dtype: factor * init(shape, dtype)


@jax.custom_vjp
def elu(x: Array) -> Array:
    """Exponential linear unit: x where x > 0, else exp(x) - 1.

    The derivative is computed from the output (y + 1 where x <= 0), so that the
    backward pass keeps one array only and needs no further exponential. Near zero exp(x) - 1
    is off by half a unit in the last place of 1, as the sum x is itself; ``expm1`` would
    avoid that at two to three times the price on a CPU.
    """
    return jnp.where(x > 0, x, jnp.exp(jnp.minimum(x, 0)) - 1)


def _elu_forward(x: Array) -> tuple[Array, Array]:
    out = elu(x)
    return out, out


def _elu_backward(out: Array, gradient: Array) -> tuple[Array]:
    return (jnp.where(out > 0, gradient, gradient * (out + 1)),)


elu.defvjp(_elu_forward, _elu_backward)


@jax.custom_vjp
def silu(x: Array) -> Array:
    """Returns x / (1 + e^-x), arXiv:1702.03118; DreamerV3's activation."""
    return x * jax.nn.sigmoid(x)


def _silu_forward(x: Array) -> tuple[Array, Array]:
    return silu(x), x


def _silu_backward(x: Array, gradient: Array) -> tuple[Array]:
    gate = jax.nn.sigmoid(x)
    return (gradient * (gate * (1 + x * (1 - gate))),)


silu.defvjp(_silu_forward, _silu_backward)


_SATURATED = 20.0
"""From where on the factor of ``mish`` is one in float32."""


@jax.custom_vjp
def mish(x: Array) -> Array:
    """Returns x tanh(ln(1 + e^x)), arXiv:1908.08681; TD-MPC2's activation.

    By a single exponential e: it is x n / (n + 2), n = e (e + 2). Its derivative, which is
    n / (n + 2) + 4 x e (e + 1) / (n + 2)^2, is computed anew from x: to keep what lies between
    takes longer on a CPU.
    """
    power = jnp.exp(jnp.minimum(x, _SATURATED))
    product = power * (power + 2)
    return x * product / (product + 2)


def _mish_forward(x: Array) -> tuple[Array, Array]:
    return mish(x), x


def _mish_backward(x: Array, gradient: Array) -> tuple[Array]:
    power = jnp.exp(jnp.minimum(x, _SATURATED))
    product = power * (power + 2)
    inverse = 1 / (product + 2)
    slope = inverse * (product + x * (4 * inverse * power * (power + 1)))
    return (gradient * slope,)


mish.defvjp(_mish_forward, _mish_backward)


def sim_norm(x: Array, size: int) -> Array:
    """Turns each ``size`` consecutive entries of the last axis into probabilities, by softmax.

    SimNorm of TD-MPC2 (arXiv:2310.16828, Eq. 5, at a temperature of 1): ``[..., D] -> [..., D]``, D
    a multiple of the size.
    """
    groups = x.reshape(*x.shape[:-1], -1, size)
    return jax.nn.softmax(groups).reshape(x.shape)


ACTIVATIONS: dict[Activation, Callable[[Array], Array]] = {
    "elu": elu,
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "silu": silu,
    "gelu": jax.nn.gelu,
    "mish": mish,
}


class Dense(hk.Module):
    """Affine map of the last axis: ``[..., in] -> [..., size]``.

    Of several arrays it is the map of all joined, but in a product for each: where a gradient is
    asked of one of them alone, the others cost nothing.
    """

    def __init__(
        self, size: int, name: str | None = None, init: hk.initializers.Initializer = GLOROT
    ):
        super().__init__(name)
        self.size, self._init = size, init

    def __call__(self, *parts: Array) -> Array:
        sizes = [x.shape[-1] for x in parts]
        kernel, bias = self.parameters(sum(sizes))
        kernels = jnp.split(kernel, np.cumsum(sizes)[:-1]) if len(parts) > 1 else [kernel]
        products = [product(x.astype(kernel.dtype), k) for x, k in zip(parts, kernels, strict=True)]
        return sum(products[1:], products[0]) + bias

    def parameters(self, inputs: int) -> tuple[Array, Array]:
        """Returns kernel ``[inputs, size]`` and bias ``[size]`` for use outside Haiku."""
        kernel = hk.get_parameter("kernel", (inputs, self.size), init=self._init)
        return kernel, hk.get_parameter("bias", (self.size,), init=jnp.zeros)


class BlockDense(hk.Module):
    """Affine maps of the last axis side by side: ``[..., in] -> [..., size]``.

    With ``blocks`` g, kernel ``[g, in / g, size / g]`` and bias ``[size]``, slice k of the output
    depends on slice k of the input alone: a dense layer with a block-diagonal kernel.
    """

    def __init__(self, size: int, blocks: int, init: Init = "glorot", name: str | None = None):
        """Keeps sizes; both the input's and ``size`` have to be divisible by ``blocks``."""
        super().__init__(name)
        self.size, self._blocks, self._init = size, blocks, INITS[init]

    def __call__(self, x: Array) -> Array:
        kernel, bias = self.parameters(x.shape[-1])
        return block_dense(x.astype(kernel.dtype), kernel) + bias

    def parameters(self, inputs: int) -> tuple[Array, Array]:
        """Returns kernel and bias for use outside Haiku."""
        blocks = self._blocks
        shape = blocks, inputs // blocks, self.size // blocks
        kernel = hk.get_parameter("kernel", shape, init=self._init)
        return kernel, hk.get_parameter("bias", (self.size,), init=jnp.zeros)


def block_dense(x: Array, kernel: Array) -> Array:
    """Multiplies ``[..., in]`` by a block-diagonal kernel ``[g, in / g, out / g]``."""
    rounded = operands_are_rounded()
    separate = functools.partial(_separate_blocks, rounded=rounded)
    batched = functools.partial(_batched_blocks, rounded=rounded)
    # In a graph for any number of rows the number is a symbol.
    if not isinstance(x.size, int) or x.size < 256 * x.shape[-1]:
        return batched(x, kernel)
    # On a CPU, of many rows, twice as fast as one product of batches.
    return jax.lax.platform_dependent(x, kernel, cpu=separate, default=batched)


def _separate_blocks(x: Array, kernel: Array, rounded: bool) -> Array:
    slices = jnp.split(x, len(kernel), -1)
    products = [product(a, b, rounded) for a, b in zip(slices, kernel, strict=True)]
    return jnp.concatenate(products, -1)


def _batched_blocks(x: Array, kernel: Array, rounded: bool) -> Array:
    blocks = x.reshape(*x.shape[:-1], len(kernel), -1)
    return block_products(blocks, kernel, rounded).reshape(*x.shape[:-1], -1)


class LayerNorm(hk.Module):
    """Normalises the last axis to mean 0 and variance 1, then scales and shifts it.

    The variance is the biased one; the result has the type of the input.
    Ba et al., https://arxiv.org/abs/1607.06450.
    """

    def __init__(self, name: str | None = None):
        super().__init__(name)

    def __call__(self, x: Array) -> Array:
        return layer_norm(x, *self.parameters(x.shape[-1]))

    def parameters(self, size: int) -> tuple[Array, Array]:
        """Returns scale and offset ``[size]`` for use outside Haiku."""
        scale = hk.get_parameter("scale", (size,), init=jnp.ones)
        return scale, hk.get_parameter("offset", (size,), init=jnp.zeros)


def layer_norm(x: Array, scale: Array, offset: Array, epsilon: float = LAYER_NORM_EPSILON) -> Array:
    """``LayerNorm`` as a function of its weights ``[D]``; x is ``[..., D]``."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    centered = wide - wide.mean(-1, keepdims=True)
    variance = jnp.square(centered).mean(-1, keepdims=True)
    normed = centered * jax.lax.rsqrt(variance + epsilon)
    return (normed * scale + offset).astype(x.dtype)


class RMSNorm(hk.Module):
    """Divides the last axis by its root mean square, then scales it; nothing is centred.

    x / sqrt(mean(x^2) + 1e-4) * scale, arXiv:1910.07467; the result has the type of the input.
    """

    def __init__(self, name: str | None = None):
        super().__init__(name)

    def __call__(self, x: Array) -> Array:
        return rms_norm(x, *self.parameters(x.shape[-1]))

    def parameters(self, size: int) -> tuple[Array]:
        """Returns the scale ``[size]`` for use outside Haiku."""
        return (hk.get_parameter("scale", (size,), init=jnp.ones),)


def rms_norm(x: Array, scale: Array, epsilon: float = RMS_NORM_EPSILON) -> Array:
    """``RMSNorm`` as a function of its weights ``[D]``; x is ``[..., D]``."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    square = jnp.square(wide).mean(-1, keepdims=True)
    return (wide * jax.lax.rsqrt(square + epsilon) * scale).astype(x.dtype)


NORMS: dict[Norm, tuple[type[LayerNorm | RMSNorm], Callable[..., Array]]] = {
    "layer": (LayerNorm, layer_norm),
    "rms": (RMSNorm, rms_norm),
}
"""Every norm but "none" as a module, and as a function of its input and weights."""


@dataclasses.dataclass(frozen=True)
class MLP(Options):
    """A stack of dense layers, each followed by a norm and an activation.

    It is no module of its own: ``dense0``, ``norm0``, ``dense1`` ... belong to the
    module in whose ``__call__`` it is applied.

    Attributes:
        layers: Number of layers; 0 returns the input.
        units: Width of every layer.
        activation: Name of the activation.
        norm: "layer" or "rms" for such a norm in front of the activation, or "none".
        norm_name: Prefix of the names of the norms.
        init: How kernels are drawn.
    """

    layers: Whole
    units: Count
    activation: Activation = "elu"
    norm: Norm = "none"
    norm_name: str = "norm"
    init: Init = "glorot"

    def __call__(self, x: Array) -> Array:
        """Maps ``[..., in]`` to ``[..., units]``."""
        function = ACTIVATIONS[self.activation]
        for layer in range(self.layers):
            x = Dense(self.units, name=f"dense{layer}", init=INITS[self.init])(x)
            if self.norm != "none":
                x = NORMS[self.norm][0](name=f"{self.norm_name}{layer}")(x)
            x = function(x)
        return x
