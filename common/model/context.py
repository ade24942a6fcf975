"""Where a window of replayed rows begins: in which latent state.

By default in the empty one, as if nothing had been before. Or in the state of the row before, as
the model inferred it last, which the replay keeps (DreamerV3, arXiv:2301.04104). Or in the state
that the model infers of a few rows before, by its present parameters, without gradients.

What is kept of a state is as small as it goes: the deterministic part and Gaussian samples in
bfloat16, classes as 8 bits. At V3's size 12m these are 4,128 bytes a row.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from common.dynamics.base import State
from common.dynamics.config import RSSMConfig
from common.dynamics.rssm import RSSMState
from common.errors import UserError
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
        self._config = model.config.rssm
        if latents and model.config.dynamics != "rssm":
            raise UserError(
                f"replay.latents keeps states of the rssm, the dynamics are "
                f"{model.config.dynamics}; set replay.latents false, or replay.burn_in"
            )
        self.specs = _specs(self._config) if latents else {}

    def pack(self, state: RSSMState) -> Rows:
        """Returns what is kept of states ``[...]``, arrays ``[..., D]`` and ``[..., S]``."""
        stoch = state.stoch
        if self._config.latent == "gaussian":
            kept = _bits(stoch)
        else:  # 0 is for no class at all, which the empty state has.
            kept = jnp.where(stoch.sum(-1) > 0, 1 + jnp.argmax(stoch, -1), 0)
        return {DETER: _bits(state.deter), STOCH: kept.astype(self.specs[STOCH][1])}

    def unpack(self, kept: Rows) -> RSSMState:
        """Returns the states ``[...]`` again, rounded to bfloat16."""
        if self._config.latent == "gaussian":
            return RSSMState(_floats(kept[DETER]), _floats(kept[STOCH]))
        classes = kept[STOCH].astype(jnp.int32) - 1
        return RSSMState(_floats(kept[DETER]), jax.nn.one_hot(classes, self._config.classes))

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
        if DETER in batch:
            return without_latents(batch), self.unpack(batch)
        if not self._burn_in:
            return batch, None
        before = {name: rows[:, : self._burn_in] for name, rows in batch.items()}
        states = self._model.observe(
            params, key, before, statistics=statistics, float_images=float_images
        )
        start = jax.tree.map(lambda x: jax.lax.stop_gradient(x[:, -1]), states)
        return {name: rows[:, self._burn_in :] for name, rows in batch.items()}, start


def _specs(config: RSSMConfig) -> Specs:
    small = config.latent == "categorical" and config.classes < 256
    kind = np.uint8 if small else np.uint16
    return {DETER: ((config.deter,), np.uint16), STOCH: ((config.stoch,), kind)}


def _bits(x: Array) -> Array:
    """Numbers in bfloat16, as integers, since files know no such numbers."""
    return jax.lax.bitcast_convert_type(x.astype(jnp.bfloat16), jnp.uint16)


def _floats(bits: Array) -> Array:
    return jax.lax.bitcast_convert_type(bits, jnp.bfloat16).astype(jnp.float32)
