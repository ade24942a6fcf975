"""Options of the token-level transformers, ``common.tokens.tdm`` and ``token_policy``."""

from __future__ import annotations

import dataclasses
from typing import Literal

from common.errors import UserError, check_least, check_multiples, nearest
from common.tokens.tokeniser import MuLaw, Tokeniser, Uniform

CHOICES = {
    "tokeniser": ("mu_law", "symlog", "uniform"),
    "embedding": ("fourier", "bins"),
    "order": ("autoregressive", "parallel"),
    "decode": ("sample", "mean", "argmax"),
}


@dataclasses.dataclass(frozen=True)
class TDMConfig:
    """Tokens and sizes of the model. The defaults are this package's own.

    Attributes:
        tokeniser: Scale of the bins of observations and rewards: "mu_law" with the
            constants of Gato, "symlog", or "uniform".
        bins: Bins of each number.
        limit: Largest absolute value of "mu_law" and "symlog".
        low: Least value of "uniform": one number, or one for each observation entry and the
            reward behind them.
        high: Largest value of "uniform".
        embedding: How numbers enter: "fourier" maps sines of the unit linearly, "bins"
            learns a vector for each bin and interpolates between the centres of two.
        order: "autoregressive" or "parallel" prediction of the entries of a row.
        decode: What is imagined: a "sample", the "mean" value, or the likeliest bin's, "argmax".
        context: Steps that every layer attends to, the present one included.
        layers: Layers of the transformer.
        heads: Heads of queries.
        kv_heads: Heads of keys and values, shared by the heads of queries.
        width: Entries of an embedded token.
        units: Units of the feed-forward layers.
    """

    tokeniser: Literal["mu_law", "symlog", "uniform"] = "mu_law"
    bins: int = 1024
    limit: float = 256.0
    low: tuple[float, ...] = (-1.0,)
    high: tuple[float, ...] = (1.0,)
    embedding: Literal["fourier", "bins"] = "fourier"
    order: Literal["autoregressive", "parallel"] = "autoregressive"
    decode: Literal["sample", "mean", "argmax"] = "sample"
    context: int = 16
    layers: int = 3
    heads: int = 4
    kv_heads: int = 1
    width: int = 128
    units: int = 256

    def __post_init__(self) -> None:
        """Raises a UserError where a value is out of its range."""
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                value = getattr(self, name)
                raise UserError(f"unknown tdm.{name} {value!r}{nearest(value, choices)}")
        check_least(self, "tdm.", context=1, layers=1, heads=1, kv_heads=1, width=1, units=1)
        check_multiples(self, "tdm.", width="heads", heads="kv_heads")
        self.tokens()

    def tokens(self) -> Tokeniser:
        """Returns the tokeniser of observations and rewards."""
        if self.tokeniser == "uniform":
            return Uniform(self.bins, self.low, self.high)
        return MuLaw(self.bins, {"mu_law": 100.0, "symlog": 1.0}[self.tokeniser], self.limit)

    def check_ranges(self, observation_size: int) -> None:
        """Raises a UserError where ranges do not fit the observation entries of a model."""
        expected = 1, observation_size + 1
        if self.tokeniser == "uniform" and len(self.low) not in expected:
            raise UserError(
                f"tdm.low has {len(self.low)} entries; expected 1, or {expected[1]}: "
                f"one for each of {observation_size} observation entries and the reward"
            )
