"""Scalar heads: reward, discount and value are MLPs with one output that return distributions."""

from __future__ import annotations

import dataclasses
from typing import Literal

import haiku as hk

from common.checks import Count, Options, Whole
from common.distributions import Bernoulli, SymlogNormal, UnitNormal
from common.nets.layers import MLP, Activation, Dense, Norm
from common.types import Array

Likelihood = Literal["auto", "unit_normal", "symlog", "bernoulli"]
Prediction = UnitNormal | SymlogNormal | Bernoulli
"""What a scalar head returns: it has ``mean()``, ``mode()`` and ``log_prob(target)``."""

_FAMILIES = {"unit_normal": UnitNormal, "symlog": SymlogNormal, "bernoulli": Bernoulli}


@dataclasses.dataclass(frozen=True)
class HeadConfig(Options):
    """A head.

    Attributes:
        layers: Hidden layers.
        units: Units of each hidden layer.
        activation: Activation of the hidden layers.
        norm: "layer" normalises the hidden layers, "none" does not.
        likelihood: Distribution that the head returns and learns by: "unit_normal", a normal
            of variance one; "symlog", the same of sign(x) ln(1 + |x|), for quantities that
            grow without bound; "bernoulli" for those between 0 and 1; or "auto", which is
            bernoulli for discounts and unit_normal for all else.
    """

    layers: Whole = 4
    units: Count = 400
    activation: Activation = "elu"
    norm: Norm = "none"
    likelihood: Likelihood = "auto"


class ScalarHead(hk.Module):
    """An MLP with one linear output: feature ``[..., D]`` -> distribution of ``[...]``."""

    def __init__(self, config: HeadConfig, name: str, auto: Likelihood = "unit_normal"):
        """Keeps the options.

        Args:
            config: Size and likelihood.
            name: Becomes the name of the weights.
            auto: What the likelihood "auto" means here.
        """
        super().__init__(name=name)
        self._config = config
        self._family = _FAMILIES[auto if config.likelihood == "auto" else config.likelihood]

    def __call__(self, feature: Array) -> Prediction:
        """Returns the distribution of one number for each feature."""
        config = self._config
        hidden = MLP(config.layers, config.units, config.activation, config.norm)(feature)
        return self._family(Dense(1, name="out")(hidden)[..., 0])
