"""Probability distributions whose samples are functions of noise drawn beforehand.

``sample(noise)`` draws no random numbers itself: the noise of a whole roll-out is
drawn outside the time scan, in one call, and a recorded sample can be played back.

============================  ======================================================
distribution                  noise of ``sample``
============================  ======================================================
``OneHot``                    uniforms, one for each categorical variable
``TruncatedNormal``           uniforms, one for each dimension
``Normal``, ``TanhNormal``    standard normals, one for each dimension
``Joint``                     uniforms ``[..., noise_size]`` whatever the parts are
``Bernoulli``                 (never sampled: a likelihood)
``UnitNormal``                (never sampled: a likelihood)
``Squared``                   (never sampled: a likelihood)
``SymlogNormal``              (never sampled: a likelihood)
``TwoHot``                    (never sampled: a likelihood)
``SymlogTwoHot``              (never sampled: a likelihood)
============================  ======================================================

The formulas are written out rather than taken from tensorflow-probability: for the
truncated normal with its gradients its graph takes four times as long to run and six
times as long to compile. ``to_tfp`` turns each distribution into its counterpart there,
against which the tests hold it.
"""

from __future__ import annotations

from common.distributions.discrete import Bernoulli, Discounted, OneHot, mix_uniform
from common.distributions.divergence import kl_divergence
from common.distributions.gaussian import Normal, unit_normal_log_prob
from common.distributions.joint import Joint, action_noise_size
from common.distributions.likelihoods import Squared, SymlogNormal, UnitNormal, symexp, symlog
from common.distributions.noise import normal_noise, uniform_noise, uniform_to_normal
from common.distributions.probability import to_tfp
from common.distributions.squashed import TanhNormal, TruncatedNormal
from common.distributions.two_hot import SymlogTwoHot, TwoHot, two_hot_bins

__all__ = [
    "Bernoulli",
    "Discounted",
    "Joint",
    "Normal",
    "OneHot",
    "Squared",
    "SymlogNormal",
    "SymlogTwoHot",
    "TanhNormal",
    "TruncatedNormal",
    "TwoHot",
    "UnitNormal",
    "action_noise_size",
    "kl_divergence",
    "mix_uniform",
    "normal_noise",
    "symexp",
    "symlog",
    "to_tfp",
    "two_hot_bins",
    "uniform_noise",
    "uniform_to_normal",
    "unit_normal_log_prob",
]
