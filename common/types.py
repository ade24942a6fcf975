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

A *row* is one time step of experience. ``action[t]`` is the action that led to
``observation[t]``; ``reward[t]`` arrived with it. ``is_first`` marks the row of a
reset (its action and reward are zero), ``is_last`` the last row of an episode,
and ``is_terminal`` a last row after which the environment really ended: a time
limit sets ``is_last`` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import jax

Array = jax.Array
Params = Any
"""A nested mapping of arrays."""
Key = jax.Array
"""A typed PRNG key of ``jax.random.key``."""
Rows = Mapping[str, Array]
"""Observation keys and the five row keys, each ``[B, T, ...]`` or ``[N, ...]``."""
Mode = Literal["train", "eval"]

ROW_KEYS = ("action", "reward", "is_first", "is_last", "is_terminal")
