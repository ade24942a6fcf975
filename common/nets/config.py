"""What encoders and decoders can be told."""

from __future__ import annotations

import dataclasses
from typing import Literal

from common.checks import AT, Count, Options, Whole, refuse
from common.nets.layers import Activation, Init, Norm


@dataclasses.dataclass(frozen=True)
class EncoderConfig(Options):
    """From an observation to one embedding vector.

    Attributes:
        images: Regular expression that the whole key of an image must match to be
            encoded; "" for none.
        vectors: The same for vectors.
        depth: Channels of the first convolution, by which every next one has twice as many;
            of padded ones, what ``multipliers`` multiply.
        layers: Dense layers for the vectors.
        units: Width of the dense layers.
        activation: elu, relu, tanh, silu or gelu.
        norm: "layer" or "rms" for such norms in front of the activations, or "none".
        init: How kernels are drawn: "glorot" or "trunc_normal" (V3).
        convolutions: "valid", kernel 4 and stride 2 without padding (V1, V2, PlaNet); "pool",
            padded and followed by a choice of the largest of 2x2 (V3); or "stride", padded
            and of stride 2.
        multipliers: Channels of each padded convolution in multiples of ``depth``.
        kernel: Height and width of padded convolutions.
        outer: Whether the first padded convolution keeps the size of the image.
    """

    images: str = ".*"
    vectors: str = ".*"
    depth: Count = 48
    layers: Whole = 4
    units: Count = 400
    activation: Activation = "elu"
    norm: Norm = "none"
    init: Init = "glorot"
    convolutions: Literal["valid", "pool", "stride"] = "valid"
    multipliers: tuple[int, ...] = (2, 3, 4, 4)
    kernel: Count = 5
    outer: bool = False

    def __post_init__(self) -> None:
        """Raises an OptionError where a value is none that its option can have."""
        super().__post_init__()
        check_multipliers(self, self.multipliers)


@dataclasses.dataclass(frozen=True)
class DecoderConfig(Options):
    """From a feature vector to the mean of every observation.

    Attributes:
        images: Regular expression that the whole key of an image must match to be
            predicted; "" for none.
        vectors: The same for vectors.
        depth: Channels of the last hidden convolution, by which every earlier one has twice as
            many; of padded ones, what ``multipliers`` multiply.
        layers: Dense layers for the vectors.
        units: Width of the dense layers.
        activation: elu, relu, tanh, silu or gelu.
        norm: "layer" or "rms" for such norms in front of the activations, or "none".
        init: How kernels are drawn: "glorot" or "trunc_normal" (V3).
        score: How predictions are scored: "unit_normal", by a normal of variance one; or
            "squared", by the squared error, and one-hot choices by their probability (V3).
        convolutions: "valid", transposed ones without padding (V1, V2, PlaNet); "nearest",
            padded ones of images that were doubled before (V3); or "stride", padded ones that
            double images themselves. Padded ones begin with a map of the latent, of which the
            deterministic part is filled block by block.
        multipliers: Channels of each padded convolution in multiples of ``depth``, beginning
            with the one nearest to the image.
        kernel: Height and width of padded convolutions.
        blocks: Parts of the deterministic state of which each fills channels of its own.
        outer: Whether the last padded convolution keeps the size of its input.
    """

    images: str = ".*"
    vectors: str = ".*"
    depth: Count = 48
    layers: Whole = 4
    units: Count = 400
    activation: Activation = "elu"
    norm: Norm = "none"
    init: Init = "glorot"
    score: Literal["unit_normal", "squared"] = "unit_normal"
    convolutions: Literal["valid", "nearest", "stride"] = "valid"
    multipliers: tuple[int, ...] = (2, 3, 4, 4)
    kernel: Count = 5
    blocks: Count = 8
    outer: bool = False

    def __post_init__(self) -> None:
        """Raises an OptionError where a value is none that its option can have."""
        super().__post_init__()
        check_multipliers(self, self.multipliers)


def check_multipliers(config: Options, multipliers: tuple[int, ...]) -> None:
    """Raises an OptionError where there are none, or one is not positive."""
    if not multipliers or min(multipliers) < 1:
        refuse(config, f"{AT}multipliers is {multipliers}; expected one number or more, each >= 1")
