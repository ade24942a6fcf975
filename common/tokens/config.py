"""Options of the token-level transformers, ``common.tokens.tdm`` and ``token_policy``."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from common.checks import Count, OptionError, Options, Range, check_multiple
from common.errors import UserError
from common.tokens.tokeniser import MuLaw, Tokeniser, Uniform


@dataclasses.dataclass(frozen=True)
class TDMConfig(Options):
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
    bins: Annotated[int, Range(2)] = 1024
    limit: Annotated[float, Range(1e-3)] = 256.0
    low: tuple[float, ...] = (-1.0,)
    high: tuple[float, ...] = (1.0,)
    embedding: Literal["fourier", "bins"] = "fourier"
    order: Literal["autoregressive", "parallel"] = "autoregressive"
    decode: Literal["sample", "mean", "argmax"] = "sample"
    context: Count = 16
    layers: Count = 3
    heads: Count = 4
    kv_heads: Count = 1
    width: Count = 128
    units: Count = 256

    def __post_init__(self) -> None:
        """Raises an OptionError where heads do not share evenly, or the tokeniser is none."""
        super().__post_init__()
        check_multiple(self, "width", "heads")
        check_multiple(self, "heads", "kv_heads")
        try:
            self.tokens()
        except OptionError as error:  # Its options have the same names here.
            raise error.moved(f"{type(self).__name__}.") from None

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
