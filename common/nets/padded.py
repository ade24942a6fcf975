"""Image coders of DreamerV3: padded convolutions that halve and double an image.

Encoder, for each multiplier m: convolution to ``depth m`` channels, largest of 2x2, norm,
activation. Decoder, with C the channels of the encoder's last map:

    map  = φ(N(P(B h) + W_2 φ(N(W_1 z))))        [H / 2^n, W / 2^n, C]
    then n times: doubled, convolution, norm, activation; the last one gives the image by a sigmoid

B is block-diagonal: block k of the deterministic state h fills channels k C / g to (k + 1) C / g,
which P brings to their places; z is the flat stochastic latent.
"""

from __future__ import annotations

from collections.abc import Sequence

import haiku as hk
import jax
import jax.numpy as jnp

from common.errors import UserError
from common.nets import conv
from common.nets.config import DecoderConfig, EncoderConfig
from common.nets.layers import ACTIVATIONS, INITS, NORMS, BlockDense, Dense, Init
from common.types import Array


class PaddedConv(hk.Module):
    """Convolution ``[N, H, W, in] -> [N, H / s, W / s, size]`` of a padded image, stride s."""

    def __init__(self, size: int, kernel: int, init: Init, name: str, stride: int = 1):
        super().__init__(name)
        self._size, self._kernel, self._init, self._stride = size, kernel, INITS[init], stride

    def __call__(self, x: Array) -> Array:
        shape = self._kernel, self._kernel, x.shape[-1], self._size
        kernel = hk.get_parameter("kernel", shape, init=self._init)
        bias = hk.get_parameter("bias", (self._size,), init=jnp.zeros)
        # One more behind than in front, where they cannot be shared out.
        extra = self._kernel - self._stride
        edge = extra // 2, extra - extra // 2
        x = jnp.pad(x.astype(kernel.dtype), ((0, 0), edge, edge, (0, 0)))
        return conv.conv2d(x, kernel, self._stride) + bias


def encode(image: Array, config: EncoderConfig, suffix: str) -> Array:
    """Maps images ``[N, H, W, C]`` to ``[N, F]``, inside of a Haiku module.

    Args:
        image: On the scale of ``normalize_image``.
        config: Sizes.
        suffix: Behind the names of the weights.
    """
    x = image
    for i, multiplier in enumerate(config.multipliers):
        halves = i > 0 or not config.outer
        stride = 2 if halves and config.convolutions == "stride" else 1
        name, size = f"conv{i}{suffix}", config.depth * multiplier
        x = PaddedConv(size, config.kernel, config.init, name, stride)(x)
        if halves and config.convolutions == "pool":
            x = largest_of_four(x)
        x = _finish(x, config, f"convnorm{i}{suffix}")
    return x.reshape(len(x), -1)


def decode(
    stoch: Array, deter: Array, shape: tuple[int, int, int], config: DecoderConfig, suffix: str
) -> Array:
    """Maps latents to images ``[N, H, W, C]`` on the scale of ``normalize_image``.

    Args:
        stoch: Flat stochastic latents ``[N, S K]``.
        deter: Deterministic states ``[N, D]``.
        shape: Of the images.
        config: Sizes.
        suffix: Behind the names of the weights.
    """
    *earlier, widest = (config.depth * multiplier for multiplier in config.multipliers)
    height, width = small_size(shape[:2], len(config.multipliers) - config.outer)
    x = _latent_map(stoch, deter, (height, width, widest), config, suffix)
    for i, size in reversed(list(enumerate(earlier))):
        x = PaddedConv(size, config.kernel, config.init, f"conv{i}{suffix}")(double(x, config))
        x = _finish(x, config, f"convnorm{i}{suffix}")
    x = x if config.outer else double(x, config)
    x = PaddedConv(shape[2], config.kernel, config.init, f"image{suffix}")(x)
    return jax.nn.sigmoid(x) - 0.5


def _latent_map(
    stoch: Array, deter: Array, shape: tuple[int, int, int], config: DecoderConfig, suffix: str
) -> Array:
    """The map ``[N, h, w, C]`` that the convolutions begin with."""
    height, width, channels = shape
    blocks, size = config.blocks, height * width * channels
    by_block = BlockDense(size, blocks, config.init, f"space_deter{suffix}")(deter)
    by_block = by_block.reshape(-1, blocks, height, width, channels // blocks)
    from_deter = jnp.moveaxis(by_block, 1, 3).reshape(-1, *shape)
    init = INITS[config.init]
    x = Dense(2 * config.units, f"space_hidden{suffix}", init)(stoch)
    x = _finish(x, config, f"space_hidden_norm{suffix}")
    from_stoch = Dense(size, f"space_stoch{suffix}", init)(x).reshape(-1, *shape)
    return _finish(from_deter + from_stoch, config, f"space_norm{suffix}")


def check_sizes(
    sizes: Sequence[tuple[int, ...]], config: EncoderConfig | DecoderConfig, deter: int = 0
) -> None:
    """Raises a UserError where images cannot be halved so often, or blocks do not divide.

    Args:
        sizes: Heights and widths of images.
        config: The coder, of padded convolutions.
        deter: Entries of the deterministic state, for a decoder.
    """
    kind = type(config).__name__.removesuffix("Config").lower()
    times = len(config.multipliers) - config.outer
    for height, width in sizes:
        if height % 2**times or width % 2**times:
            raise UserError(
                f"an image is {height}x{width}, which {kind}.convolutions={config.convolutions} "
                f"halves {times} times; expected multiples of {2**times}, by env.image_size, "
                f"or {kind}.convolutions=valid, which takes any size"
            )
    if isinstance(config, DecoderConfig) and sizes:
        channels = config.depth * config.multipliers[-1]
        for what, size in (("deterministic state", deter), ("last map's channels", channels)):
            if size % config.blocks:
                raise UserError(
                    f"decoder.blocks={config.blocks} does not divide the {what}, {size}; expected "
                    "a number that does"
                )


def small_size(size: Sequence[int], times: int) -> tuple[int, int]:
    """Height and width of an image that was halved so often."""
    return size[0] >> times, size[1] >> times


def largest_of_four(x: Array) -> Array:
    """The largest of each 2x2 pixels, ``[N, H, W, C] -> [N, H / 2, W / 2, C]``.

    Of several largest ones the first, row by row, gets the gradient.
    """
    n, height, width, channels = x.shape
    x = x.reshape(n, height // 2, 2, width // 2, 2, channels)
    x = _larger(x[:, :, :, :, 0], x[:, :, :, :, 1])
    return _larger(x[:, :, 0], x[:, :, 1])


def _larger(first: Array, second: Array) -> Array:
    return jnp.where(first >= second, first, second)


def double(x: Array, config: DecoderConfig) -> Array:
    """Doubles height and width: every pixel four times, or once with zeros before it."""
    if config.convolutions == "nearest":
        return x.repeat(2, 1).repeat(2, 2)
    odd = jnp.stack([jnp.zeros_like(x), x], 2).reshape(len(x), -1, *x.shape[2:])
    odd = jnp.stack([jnp.zeros_like(odd), odd], 3)
    return odd.reshape(*odd.shape[:2], -1, odd.shape[-1])


def _finish(x: Array, config: EncoderConfig | DecoderConfig, name: str) -> Array:
    if config.norm != "none":
        x = NORMS[config.norm][0](name=name)(x)
    return ACTIVATIONS[config.activation](x)
