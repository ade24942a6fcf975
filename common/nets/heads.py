"""Scalar heads: reward, discount and value are MLPs that return distributions of one number."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import haiku as hk
import jax.numpy as jnp

from common.checks import Count, Options, Range, Whole
from common.distributions import Bernoulli, SymlogNormal, TwoHot, UnitNormal
from common.nets.layers import INITS, MLP, Activation, Dense, Init, Norm
from common.types import Array

Likelihood = Literal["auto", "unit_normal", "symlog", "two_hot", "bernoulli"]
Prediction = UnitNormal | SymlogNormal | TwoHot | Bernoulli
"""What a scalar head returns: it has ``mean()``, ``mode()`` and ``log_prob(target)``."""

_FAMILIES = {"unit_normal": UnitNormal, "symlog": SymlogNormal, "bernoulli": Bernoulli}


@dataclasses.dataclass(frozen=True)
class HeadConfig(Options):
    """A head.

    Attributes:
        layers: Hidden layers.
        units: Units of each hidden layer.
        activation: Activation of the hidden layers.
        norm: "layer" or "rms" normalises the hidden layers, "none" does not.
        init: How kernels are drawn: "glorot" or "trunc_normal" (V3).
        likelihood: Distribution that the head returns and learns by: "unit_normal", a normal
            of variance one; "symlog", the same of sign(x) ln(1 + |x|), for quantities that
            grow without bound; "two_hot", a choice among bins, for quantities of any magnitude
            and with several likely values, which predicts zero before it has learned; "bernoulli"
            for those between 0 and 1; or "auto", which is bernoulli for discounts and
            unit_normal for all else.
        bins: Bins of "two_hot", between -4.85e8 and 4.85e8, the closer the nearer to zero.
    """

    layers: Whole = 4
    units: Count = 400
    activation: Activation = "elu"
    norm: Norm = "none"
    init: Init = "glorot"
    likelihood: Likelihood = "auto"
    bins: Annotated[int, Range(3)] = 255


class ScalarHead(hk.Module):
    """An MLP with a linear output: feature ``[..., D]`` -> distribution of ``[...]``."""

    def __init__(self, config: HeadConfig, name: str, auto: Likelihood = "unit_normal"):
        """Keeps the options.

        Args:
            config: Size and likelihood.
            name: Becomes the name of the weights.
            auto: What the likelihood "auto" means here.
        """
        super().__init__(name=name)
        self._config = config
        self._likelihood = auto if config.likelihood == "auto" else config.likelihood

    def __call__(self, feature: Array) -> Prediction:
        """Returns the distribution of one number for each feature."""
        config = self._config
        sizes = config.layers, config.units
        hidden = MLP(*sizes, config.activation, config.norm, init=config.init)(feature)
        if self._likelihood == "two_hot":
            # At random weights the mean would be in the millions (arXiv:2301.04104).
            return TwoHot(Dense(config.bins, name="out", init=jnp.zeros)(hidden))
        return _FAMILIES[self._likelihood](Dense(1, "out", INITS[config.init])(hidden)[..., 0])
