"""Numbers as tokens: bins that are equally wide on some scale.

A tokeniser maps a value x to its unit u in [-1, 1], clipping what lies beyond, and cuts the
units into K bins of the same width. The token is the number of the bin, and its value that
of the bin's centre:

    encode(x) = min(K − 1, floor(K (u(x) + 1) / 2)),   decode(i) = u⁻¹((2 i + 1) / K − 1)

``encode(decode(i)) == i`` for every token, and |decode(encode(x)) − x| is at most
``bound(x)`` for every x that is not clipped, up to the rounding of float32.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from typing import Annotated

import jax.numpy as jnp

from common.checks import AT, Options, Range, refuse
from common.types import Array


@dataclasses.dataclass(frozen=True)
class Tokeniser(Options, ABC):
    """Numbers in, tokens out, and back.

    Attributes:
        bins: Number of tokens, K.
    """

    bins: Annotated[int, Range(2)] = 1024

    @abstractmethod
    def to_unit(self, x: Array) -> Array:
        """Maps values ``[...]`` to units in [-1, 1]."""

    @abstractmethod
    def from_unit(self, unit: Array) -> Array:
        """Maps units ``[...]`` in [-1, 1] to values."""

    @abstractmethod
    def bound(self, x: Array) -> Array:
        """Returns how far the centre of the bin of x ``[...]`` can be from x."""

    @abstractmethod
    def mean(self, probs: Array) -> Array:
        """Returns the unit ``[...]`` of the mean value where tokens have probs ``[..., K]``."""

    @property
    def centers(self) -> Array:
        """Units of the centres of all bins ``[K]``."""
        return self.center(jnp.arange(self.bins))

    def center(self, tokens: Array) -> Array:
        """Returns the units ``[...]`` of the centres of some bins."""
        return (2 * tokens.astype(jnp.float32) + 1) / self.bins - 1

    def to_token(self, unit: Array) -> Array:
        """Returns the bins that units ``[...]`` lie in, int32."""
        index = jnp.floor((unit + 1) * (self.bins / 2))
        return jnp.clip(index, 0, self.bins - 1).astype(jnp.int32)

    def encode(self, x: Array) -> Array:
        """Turns values ``[...]`` into tokens, int32."""
        return self.to_token(self.to_unit(x))

    def decode(self, tokens: Array) -> Array:
        """Turns tokens ``[...]`` into values."""
        return self.from_unit(self.center(tokens))


@dataclasses.dataclass(frozen=True)
class MuLaw(Tokeniser):
    """Fine near zero, coarse far away: u(x) = sgn(x) ln(mu |x| + 1) / ln(mu limit + 1).

    With the default mu and limit the scale of Gato (arXiv:2205.06175, Appendix B); with
    mu = 1 the scale of symlog. The step of one bin is a factor on |x| + 1 / mu, so that

        bound(x) = (|x| + 1 / mu) (exp(ln(mu limit + 1) / K) − 1)

    Attributes:
        mu: Values much below 1 / mu see nearly equal bins.
        limit: Largest absolute value.
    """

    mu: Annotated[float, Range(1e-3)] = 100.0
    limit: Annotated[float, Range(1e-3)] = 256.0

    @property
    def _scale(self) -> float:
        return math.log1p(self.mu * self.limit)

    def to_unit(self, x: Array) -> Array:
        """See ``Tokeniser.to_unit``."""
        return jnp.clip(jnp.sign(x) * jnp.log1p(self.mu * jnp.abs(x)) / self._scale, -1, 1)

    def from_unit(self, unit: Array) -> Array:
        """See ``Tokeniser.from_unit``."""
        return jnp.sign(unit) * jnp.expm1(self._scale * jnp.abs(unit)) / self.mu

    def bound(self, x: Array) -> Array:
        """See ``Tokeniser.bound``."""
        return (jnp.abs(x) + 1 / self.mu) * math.expm1(self._scale / self.bins)

    def mean(self, probs: Array) -> Array:
        """See ``Tokeniser.mean``."""
        return self.to_unit(probs @ self.from_unit(self.centers))


@dataclasses.dataclass(frozen=True)
class Uniform(Tokeniser):
    """Bins of the same width from low to high: bound(x) = (high − low) / (2 K).

    Attributes:
        low: Least value: one number for all, or one for each entry of the last axis.
        high: Largest value, as many as of ``low``.
    """

    low: tuple[float, ...] = (-1.0,)
    high: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        """Raises an OptionError where low and high do not go together."""
        super().__post_init__()
        lows, highs = len(self.low), len(self.high)
        if lows != highs:
            refuse(self, f"{AT}low has {lows} entries and {AT}high {highs}; expected as many")
        for low, high in zip(self.low, self.high, strict=True):
            if not -math.inf < low < high < math.inf:
                refuse(self, f"{AT}low is {low} and {AT}high {high}; expected low < high")

    def to_unit(self, x: Array) -> Array:
        """See ``Tokeniser.to_unit``."""
        low, high = jnp.array(self.low), jnp.array(self.high)
        return jnp.clip(2 * (x - low) / (high - low) - 1, -1, 1)

    def from_unit(self, unit: Array) -> Array:
        """See ``Tokeniser.from_unit``."""
        low, high = jnp.array(self.low), jnp.array(self.high)
        return low + (unit + 1) / 2 * (high - low)

    def bound(self, x: Array) -> Array:
        """See ``Tokeniser.bound``."""
        low, high = jnp.array(self.low), jnp.array(self.high)
        return jnp.broadcast_to((high - low) / (2 * self.bins), jnp.shape(x))

    def mean(self, probs: Array) -> Array:
        """See ``Tokeniser.mean``; the mean of the units is the unit of the mean."""
        return probs @ self.centers
