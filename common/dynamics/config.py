"""Everything that the recurrent state-space model can be told."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from common.checks import Count, NonNegative, Options, Range, Share, check_multiple
from common.nets.layers import Activation, Init, Norm


@dataclasses.dataclass(frozen=True)
class RSSMConfig(Options):
    """Sizes and kind of the recurrent state-space model.

    Attributes:
        latent: Family of the stochastic latent: "categorical" or "gaussian".
        stoch: Stochastic variables.
        classes: Classes of each variable (categorical only).
        deter: Entries of the deterministic state.
        hidden: Units of the hidden layers.
        cell: Recurrent cell: "layer_norm_gru" (V2), "gru" (V1), "original_gru" (PlaNet) or
            "block_gru" (V3).
        blocks: Slices of the deterministic state that "block_gru" computes from each other's
            inputs but not from each other; more are faster.
        cell_layers: Hidden layers of "block_gru".
        prior_layers: Hidden layers of the prior; V3 has 2.
        posterior_layers: Hidden layers of the posterior.
        absolute: Whether the posterior sees the embedding alone, and not the deterministic state.
        activation: Activation of the hidden layers.
        norm: "layer" or "rms" normalises the hidden layers, "none" does not.
        init: How kernels are drawn: "glorot" or "trunc_normal" (V3).
        std: How a Gaussian's standard deviation is made positive: "softplus",
            "sigmoid", or "sigmoid2" = 2 sigmoid(x / 2).
        min_std: Added to a Gaussian's standard deviation.
        unimix: Share of a uniform distribution in every categorical variable, so that none of
            its classes becomes impossible; DreamerV3 has 0.01 (categorical only).
    """

    latent: Literal["categorical", "gaussian"] = "categorical"
    stoch: Count = 32
    classes: Annotated[int, Range(2)] = 32
    deter: Count = 200
    hidden: Count = 200
    cell: Literal["layer_norm_gru", "gru", "original_gru", "block_gru"] = "layer_norm_gru"
    blocks: Count = 8
    cell_layers: Count = 1
    prior_layers: Count = 1
    posterior_layers: Count = 1
    absolute: bool = False
    activation: Activation = "elu"
    norm: Norm = "none"
    init: Init = "glorot"
    std: Literal["softplus", "sigmoid", "sigmoid2"] = "sigmoid2"
    min_std: NonNegative = 0.1
    unimix: Share = 0.0

    def __post_init__(self) -> None:
        """Raises an OptionError where a value is none that its option can have."""
        super().__post_init__()
        if self.cell == "block_gru":
            check_multiple(self, "deter", "blocks")
