"""Where a window of replayed rows begins: in which latent state.

By default in the empty one, as if nothing had been before. Or in the state of the row before, as
the model inferred it last, which the replay keeps (DreamerV3, arXiv:2301.04104). Or in the state
that the model infers of a few rows before, by its present parameters, without gradients.

What is kept of a state is as small as it goes: the deterministic part, or the modes of S5, and
Gaussian samples in bfloat16, classes as 8 bits. At V3's size 12m these are 4,128 bytes a row. The
window of a transformer is too large to be kept.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from common.dynamics.base import State
from common.errors import UserError
from common.model.components import DYNAMICS
from common.model.vectors import Statistics
from common.model.world_model import WorldModel
from common.rows import LATENT_PREFIX, Specs, without_latents
from common.types import Array, Key, Params, Rows

DETER, STOCH = LATENT_PREFIX + "deter", LATENT_PREFIX + "stoch"


class Context:
    """How the windows of one model begin.

    Attributes:
        specs: Shape and type of what is kept of one row's latent state; empty for nothing.
    """

    def __init__(self, model: WorldModel, latents: bool, burn_in: int):
        """Keeps the model.

        Args:
            model: The world model.
            latents: Whether windows begin in states that were kept.
            burn_in: Rows before each window that serve to infer the state that it begins in.

        Raises:
            UserError: The model's states cannot be kept.
        """
        self._model, self._burn_in = model, burn_in
        name = model.config.dynamics
        kept = _kept(name)
        if latents and not kept:
            able = " and ".join(other for other in DYNAMICS if _kept(other))
            raise UserError(
                f"replay.latents keeps states of {able}, the dynamics are {name}; set "
                "replay.latents false, or replay.burn_in"
            )
        options = getattr(model.config, name)
        # Gaussian samples have no axis of classes, whatever their option says.
        shapes = jax.eval_shape(lambda: model.initial(1))
        self._classes = options.classes if shapes.stoch.ndim == 3 else 0
        self._numbers = tuple(entry for entry in kept if entry != "stoch")
        self.specs = self._specs(shapes) if latents else {}

    def _specs(self, shapes: State) -> Specs:
        small = 0 < self._classes < 256
        size = {name: math.prod(getattr(shapes, name).shape[1:]) for name in self._numbers}
        numbers = {LATENT_PREFIX + name: ((size[name],), np.uint16) for name in self._numbers}
        return numbers | {STOCH: (shapes.stoch.shape[1:2], np.uint8 if small else np.uint16)}

    def pack(self, state: State) -> Rows:
        """Returns what is kept of states ``[...]``, arrays ``[..., D]`` and ``[..., S]``."""
        stoch = state.stoch
        leading = stoch.shape[: -2 if self._classes else -1]
        rows = {
            LATENT_PREFIX + name: to_bits(getattr(state, name)).reshape(*leading, -1)
            for name in self._numbers
        }
        if self._classes:  # 0 is for no class at all, which the empty state has.
            kept = jnp.where(stoch.sum(-1) > 0, 1 + jnp.argmax(stoch, -1), 0)
        else:
            kept = to_bits(stoch)
        return rows | {STOCH: kept.astype(self.specs[STOCH][1])}

    def unpack(self, kept: Rows) -> State:
        """Returns the states ``[...]`` again, rounded to bfloat16; zero in what no step reads."""
        leading, empty = kept[STOCH].shape[:-1], self._model.initial(1)
        entries = {
            name: jnp.zeros((*leading, *x.shape[1:]), x.dtype)
            for name, x in empty._asdict().items()
        }
        for name in self._numbers:
            bits = kept[LATENT_PREFIX + name]
            entries[name] = from_bits(bits).reshape(entries[name].shape)
        if self._classes:
            stoch = jax.nn.one_hot(kept[STOCH].astype(jnp.int32) - 1, self._classes)
        else:
            stoch = from_bits(kept[STOCH])
        return type(empty)(**entries | {"stoch": stoch})

    def begin(
        self,
        params: Params,
        statistics: Statistics,
        key: Key,
        batch: Rows,
        float_images: bool = False,
    ) -> tuple[Rows, State | None]:
        """Splits a batch from the replay into the rows to learn from and the state before them.

        Args:
            params: Of the world model, for the burn-in.
            statistics: Of vectors, for the burn-in.
            key: For the latents of the burn-in.
            batch: Rows ``[B, burn_in + T, ...]``, and what was kept of states ``[B, ...]``; where
                that is missing, windows begin in the empty state.
            float_images: Whether images are floats, as in ``model.losses``.

        Returns:
            Rows ``[B, T, ...]`` and states ``[B]``; None for the empty state.
        """
        if STOCH in batch:
            return without_latents(batch), self.unpack(batch)
        if not self._burn_in:
            return batch, None
        before = {name: rows[:, : self._burn_in] for name, rows in batch.items()}
        states = self._model.observe(
            params, key, before, statistics=statistics, float_images=float_images
        )
        start = jax.tree.map(lambda x: jax.lax.stop_gradient(x[:, -1]), states)
        return {name: rows[:, self._burn_in :] for name, rows in batch.items()}, start


def _kept(name: str) -> tuple[str, ...]:
    """The entries of a dynamics' states that say all of what comes next; none if too large."""
    return getattr(DYNAMICS[name], "KEPT", ())


def to_bits(x: Array) -> Array:
    """Numbers in bfloat16, as integers, since files know no such numbers."""
    return jax.lax.bitcast_convert_type(x.astype(jnp.bfloat16), jnp.uint16)


def from_bits(bits: Array) -> Array:
    """The inverse of ``to_bits``, but for what that rounded."""
    return jax.lax.bitcast_convert_type(bits, jnp.bfloat16).astype(jnp.float32)
