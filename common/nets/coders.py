"""Encoders and decoders built from the observation: convolutions and MLPs.

Images of one size share one stack of convolutions (their channels side by side, in
the order of their keys); each further size has a stack of its own. Vectors share
one MLP.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

import haiku as hk
import jax.numpy as jnp
import numpy as np

from common.errors import UserError
from common.nets import conv, padded
from common.nets.config import DecoderConfig, EncoderConfig
from common.nets.layers import ACTIVATIONS, INITS, MLP, NORMS, Dense, Init
from common.spaces import ObservationSpec
from common.types import Array

ENCODER_KERNEL = 4
STRIDE = 2
_TRANSPOSED = {
    **INITS,
    "trunc_normal": hk.initializers.VarianceScaling(
        1.0, "fan_in", "truncated_normal", fan_in_axes=(0, 1, 3)
    ),
}
"""Of kernels ``[h, w, out, in]``."""


def normalize_image(image: Array, dtype: np.dtype | type = jnp.float32) -> Array:
    """Maps uint8 pixels to [-0.5, 0.5], the scale of the decoder's images."""
    return image.astype(dtype) / 255 - 0.5


def selected_keys(
    specs: Mapping[str, ObservationSpec], config: EncoderConfig | DecoderConfig
) -> tuple[list[str], list[str]]:
    """Returns the sorted keys of the images and of the vectors that a coder uses.

    Raises:
        UserError: An expression is invalid or, unless it is "" or ".*", matches no key;
            or no key at all is selected.
    """
    images = _matching(specs, config, "image")
    vectors = _matching(specs, config, "vector")
    if not images and not vectors:
        kind = type(config).__name__.removesuffix("Config").lower()
        raise UserError(
            f"{kind}.images={config.images!r} and {kind}.vectors={config.vectors!r} select no "
            f"observation; the keys are {_describe(specs)}"
        )
    return images, vectors


def encoder_channels(height: int, width: int, depth: int) -> list[int]:
    """Output channels of the encoder's convolutions (kernel 4, stride 2, no padding).

    Layers are added while the shorter side has at least 6 pixels: four for 64x64
    (64 -> 31 -> 14 -> 6 -> 2), as published with PlaNet and Dreamer.
    """
    channels: list[int] = []
    side = min(height, width)
    while side >= 6:
        channels.append(depth * 2 ** len(channels))
        side = (side - ENCODER_KERNEL) // STRIDE + 1
    return channels


@dataclasses.dataclass(frozen=True)
class DecoderShape:
    """The transposed convolutions (stride 2, no padding) that end in an image.

    Attributes:
        start: ``(height, width, channels)`` that the dense layer fills.
        kernels: ``(height, width)`` of every kernel.
        channels: Output channels of every layer but the last.
    """

    start: tuple[int, int, int]
    kernels: tuple[tuple[int, int], ...]
    channels: tuple[int, ...]


def decoder_shape(height: int, width: int, depth: int) -> DecoderShape:
    """Derives the decoder's layers backwards from the size of the image.

    A transposed convolution makes ``2 * (n - 1) + kernel`` pixels of n, so kernel 6
    serves even and kernel 5 odd sizes. Layers are added while the shorter side has at
    least 5 pixels: kernels 5, 5, 6, 6 for 64x64 (1 -> 5 -> 13 -> 30 -> 64), as published
    with PlaNet and Dreamer.
    """
    kernels: list[tuple[int, int]] = []
    while min(height, width) >= 5:
        kernel = (6 - height % 2, 6 - width % 2)
        height, width = (height - kernel[0]) // STRIDE + 1, (width - kernel[1]) // STRIDE + 1
        kernels.insert(0, kernel)
    channels = tuple(depth * 2**i for i in reversed(range(len(kernels) - 1)))
    # The first layer returns 4 * depth channels of 64x64 and starts from a single pixel of
    # 32 * depth; a larger grid shares those out, down to twice what the layer returns.
    widest = depth * min(2 ** len(kernels), 16)
    start = max(2 * widest // (height * width), widest // 2)
    return DecoderShape((height, width, start), tuple(kernels), channels)


class Encoder(hk.Module):
    """Observation -> embedding: convolutions on images, an MLP on vectors."""

    def __init__(
        self,
        specs: Mapping[str, ObservationSpec],
        config: EncoderConfig,
        name: str = "encoder",
    ):
        super().__init__(name)
        self.config = config
        self.images, self.vectors = selected_keys(specs, config)
        self.sizes = _group_by_size(specs, self.images)
        if config.convolutions != "valid":
            padded.check_sizes(list(self.sizes), config)

    def __call__(self, observation: Mapping[str, Array]) -> Array:
        """Embeds an observation.

        Args:
            observation: Arrays ``[..., *shape]``; images uint8 or already in
                [-0.5, 0.5]; entries that are not selected are ignored.

        Returns:
            ``[..., E]``: the flat outputs of the convolutions, then of the MLP.
        """
        outputs = []
        for keys, suffix in _named_groups(self.sizes):
            stack = jnp.concatenate([observation[key] for key in keys], -1)
            outputs.append(self._convolve(stack, suffix))
        if self.vectors:
            flat = jnp.concatenate([observation[key] for key in self.vectors], -1)
            outputs.append(_mlp(self.config)(flat))
        return jnp.concatenate(outputs, -1)

    @hk.transparent
    def _convolve(self, image: Array, suffix: str) -> Array:
        """Maps ``[..., height, width, channels]`` to ``[..., features]``."""
        leading, shape = image.shape[:-3], image.shape[-3:]
        x = image.reshape(-1, *shape)
        if x.dtype == jnp.uint8:
            x = normalize_image(x)
        if self.config.convolutions != "valid":
            return padded.encode(x, self.config, suffix).reshape(*leading, -1)
        function = ACTIVATIONS[self.config.activation]
        for i, size in enumerate(encoder_channels(*shape[:2], self.config.depth)):
            kernel = (ENCODER_KERNEL, ENCODER_KERNEL)
            x = Conv(size, kernel, self.config.init, name=f"conv{i}{suffix}")(x)
            if self.config.norm != "none":
                x = NORMS[self.config.norm][0](name=f"convnorm{i}{suffix}")(x)
            x = function(x)
        return x.reshape(*leading, -1)


class Decoder(hk.Module):
    """Feature -> mean of every observation, by convolutions and an MLP.

    Of choices that are scored by their probabilities, it returns logits in the place of means.
    """

    def __init__(
        self,
        specs: Mapping[str, ObservationSpec],
        config: DecoderConfig,
        deter: int = 0,
        name: str = "decoder",
    ):
        """Keeps sizes.

        Args:
            specs: The flat observation.
            config: Sizes and kind.
            deter: Entries of the deterministic state, with which features end.
            name: Becomes the name of the weights.

        Raises:
            UserError: The images have a size that the convolutions cannot return.
        """
        super().__init__(name)
        self.config, self.deter = config, deter
        self.images, self.vectors = selected_keys(specs, config)
        self.sizes = _group_by_size(specs, self.images)
        if config.convolutions != "valid":
            padded.check_sizes(list(self.sizes), config, deter)
        self.shapes = {key: specs[key].shape for key in [*self.images, *self.vectors]}

    def __call__(self, feature: Array) -> dict[str, Array]:
        """Predicts observations.

        Args:
            feature: ``[..., F]``.

        Returns:
            Means ``[..., *shape]`` per selected key, images on the scale of
            ``normalize_image``.
        """
        means = {}
        for keys, suffix in _named_groups(self.sizes):
            channels = [self.shapes[key][-1] for key in keys]
            stack = self._convolve(feature, self.shapes[keys[0]][:2], sum(channels), suffix)
            bounds = np.cumsum(channels)[:-1]
            means.update(zip(keys, jnp.split(stack, bounds, axis=-1), strict=True))
        if self.vectors:
            hidden = _mlp(self.config)(feature)
            for key in self.vectors:
                # Keys may be nested, "outer/inner", and of any alphabet.
                name = re.sub(r"\W", "_", f"dense_{key}", flags=re.ASCII)
                means[key] = Dense(self.shapes[key][0], name, INITS[self.config.init])(hidden)
        return means

    @hk.transparent
    def _convolve(self, feature: Array, size: Sequence[int], channels: int, suffix: str) -> Array:
        """Maps ``[..., F]`` to ``[..., height, width, channels]``."""
        if self.config.convolutions != "valid":
            flat = feature.reshape(-1, feature.shape[-1])
            latents = flat[:, : -self.deter], flat[:, -self.deter :]
            x = padded.decode(*latents, (*size, channels), self.config, suffix)
            return x.reshape(*feature.shape[:-1], *x.shape[1:])
        shape, init = decoder_shape(*size, self.config.depth), self.config.init
        x = Dense(int(np.prod(shape.start)), f"convin{suffix}", INITS[init])(feature)
        x = x.reshape(-1, *shape.start)
        function = ACTIVATIONS[self.config.activation]
        for i, kernel in enumerate(shape.kernels):
            last = i == len(shape.channels)
            size = channels if last else shape.channels[i]
            x = Conv(size, kernel, init, transpose=True, name=f"conv{i}{suffix}")(x)
            if not last:
                if self.config.norm != "none":
                    x = NORMS[self.config.norm][0](name=f"convnorm{i}{suffix}")(x)
                x = function(x)
        return x.reshape(*feature.shape[:-1], *x.shape[1:])


class Conv(hk.Module):
    """Convolution ``[N, H, W, in] -> [N, H', W', size]`` of stride 2 without padding."""

    def __init__(
        self,
        size: int,
        kernel: tuple[int, int],
        init: Init = "glorot",
        transpose: bool = False,
        name: str | None = None,
    ):
        super().__init__(name)
        self.size = size
        self.kernel = kernel
        self.transpose = transpose
        self._init = (_TRANSPOSED if transpose else INITS)[init]

    def __call__(self, x: Array) -> Array:
        channels = (self.size, x.shape[-1]) if self.transpose else (x.shape[-1], self.size)
        kernel = hk.get_parameter("kernel", (*self.kernel, *channels), init=self._init)
        bias = hk.get_parameter("bias", (self.size,), init=jnp.zeros)
        function = conv.conv2d_transpose if self.transpose else conv.conv2d
        return function(x.astype(kernel.dtype), kernel, STRIDE) + bias


def _mlp(config: EncoderConfig | DecoderConfig) -> MLP:
    """The dense layers of a coder."""
    sizes = config.layers, config.units
    return MLP(*sizes, config.activation, config.norm, norm_name="densenorm", init=config.init)


def _matching(
    specs: Mapping[str, ObservationSpec], config: EncoderConfig | DecoderConfig, kind: str
) -> list[str]:
    expression = getattr(config, f"{kind}s")
    option = f"{type(config).__name__.removesuffix('Config').lower()}.{kind}s"
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise UserError(f"{option}={expression!r} is no regular expression ({error})") from None
    keys = sorted(key for key, spec in specs.items() if spec.kind == kind)
    found = [key for key in keys if pattern.fullmatch(key)]
    if not found and expression not in ("", ".*"):
        raise UserError(
            f"{option}={expression!r} matches no {kind}; the keys are {_describe(specs)}; "
            f"'' selects none"
        )
    return found


def _describe(specs: Mapping[str, ObservationSpec]) -> str:
    return ", ".join(f"{key} ({spec.kind})" for key, spec in sorted(specs.items())) or "none"


def _group_by_size(
    specs: Mapping[str, ObservationSpec], keys: Sequence[str]
) -> dict[tuple[int, ...], list[str]]:
    groups: dict[tuple[int, ...], list[str]] = {}
    for key in keys:
        groups.setdefault(tuple(specs[key].shape[:2]), []).append(key)
    return dict(sorted(groups.items()))


def _named_groups(
    groups: Mapping[tuple[int, ...], list[str]],
) -> list[tuple[list[str], str]]:
    """Pairs the keys of every size with a suffix for names, empty where there is one size."""
    if len(groups) == 1:
        return [(keys, "") for keys in groups.values()]
    return [(keys, f"_{height}x{width}") for (height, width), keys in groups.items()]
