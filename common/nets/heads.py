"""Scalar heads: reward, discount and value are MLPs with one output."""

from __future__ import annotations

import dataclasses
from typing import Literal

import haiku as hk

from common.errors import check_least
from common.nets.layers import MLP, Dense
from common.types import Array


@dataclasses.dataclass(frozen=True)
class HeadConfig:
    """Size of a head.

    Attributes:
        layers: Hidden layers.
        units: Units of each hidden layer.
        activation: Activation of the hidden layers.
        norm: "layer" normalises the hidden layers, "none" does not.
    """

    layers: int = 4
    units: int = 400
    activation: str = "elu"
    norm: Literal["none", "layer"] = "none"

    def __post_init__(self) -> None:
        """Raises a UserError where a value is out of its range."""
        check_least(self, layers=0, units=1)


class ScalarHead(hk.Module):
    """An MLP with one linear output: feature ``[..., D]`` -> ``[...]``."""

    def __init__(self, config: HeadConfig, name: str):
        """Keeps the size; the name becomes the name of the weights."""
        super().__init__(name=name)
        self._config = config

    def __call__(self, feature: Array) -> Array:
        """Returns one number for each feature."""
        config = self._config
        hidden = MLP(config.layers, config.units, config.activation, config.norm)(feature)
        return Dense(1, name="out")(hidden)[..., 0]
