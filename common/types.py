"""Type aliases and the glossary of shape letters used in every docstring.

=======  ==============================================================
letter   meaning
=======  ==============================================================
``B``    batch of sequences
``T``    time steps of a sequence
``H``    steps of imagination (the horizon)
``N``    independent rows without a time axis: environments, start states
``A``    entries of the flat action vector
``D``    entries of a deterministic state, a feature or an embedding
``S``    stochastic latent variables
``K``    classes of one categorical variable
=======  ==============================================================

``Array`` is a ``jax.Array``, ``Key`` a typed PRNG key of ``jax.random.key``; ``common.rows``
says what a row of experience is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import jax

    Array = jax.Array
    Key = jax.Array
else:  # Environment workers read these aliases too, and need no JAX.
    Array = Key = Any
Params = Any
"""A nested mapping of arrays."""
Rows = Mapping[str, Array]
"""Observation keys and the keys of ``common.rows``, each ``[B, T, ...]`` or ``[N, ...]``."""
Mode = Literal["train", "eval"]
