"""What encoders and decoders can be told."""

from __future__ import annotations

import dataclasses
from typing import Literal

from common.checks import AT, Count, Options, Whole, refuse
from common.nets.layers import Activation, Init, Norm


@dataclasses.dataclass(frozen=True)
class CoderConfig(Options):
    """What encoders and decoders have in common.

    Attributes:
        images: Regular expression that the whole key of an image must match to be
            coded; "" for none.
        vectors: The same for vectors.
        depth: Channels of the convolution next to the image, by which every other one has twice
            as many as the one before; of padded ones, what ``multipliers`` multiply.
        layers: Dense layers for the vectors.
        units: Width of the dense layers.
        activation: elu, relu, tanh, silu, gelu or mish.
        norm: "layer" or "rms" for such norms in front of the activations, or "none".
        init: How kernels are drawn: "glorot" or "trunc_normal" (V3).
        multipliers: Channels of each padded convolution in multiples of ``depth``, beginning
            with the one next to the image.
        kernel: Height and width of padded convolutions.
        outer: Whether the padded convolution next to the image keeps its size.
    """

    images: str = ".*"
    vectors: str = ".*"
    depth: Count = 48
    layers: Whole = 4
    units: Count = 400
    activation: Activation = "elu"
    norm: Norm = "none"
    init: Init = "glorot"
    multipliers: tuple[int, ...] = (2, 3, 4, 4)
    kernel: Count = 5
    outer: bool = False

    def __post_init__(self) -> None:
        """Raises an OptionError where a value is none that its option can have."""
        super().__post_init__()
        wrong = not self.multipliers or min(self.multipliers) < 1
        if wrong:
            found = f"is {self.multipliers}; expected one number or more, each >= 1"
            refuse(self, f"{AT}multipliers {found}")


@dataclasses.dataclass(frozen=True)
class EncoderConfig(CoderConfig):
    """From an observation to one embedding vector.

    Attributes:
        convolutions: "valid", kernel 4 and stride 2 without padding (V1, V2, PlaNet); "pool",
            padded and followed by a choice of the largest of 2x2 (V3); or "stride", padded
            and of stride 2.
    """

    convolutions: Literal["valid", "pool", "stride"] = "valid"


@dataclasses.dataclass(frozen=True)
class DecoderConfig(CoderConfig):
    """From a feature vector to the mean of every observation.

    Attributes:
        score: How predictions are scored: "unit_normal", by a normal of variance one; or
            "squared", by the squared error, and one-hot choices by their probability (V3).
        convolutions: "valid", transposed ones without padding (V1, V2, PlaNet); "nearest",
            padded ones of images that were doubled before (V3); or "stride", padded ones that
            double images themselves. Padded ones begin with a map of the latent, of which the
            deterministic part is filled block by block.
        blocks: Parts of the deterministic state of which each fills channels of its own.
    """

    score: Literal["unit_normal", "squared"] = "unit_normal"
    convolutions: Literal["valid", "nearest", "stride"] = "valid"
    blocks: Count = 8
