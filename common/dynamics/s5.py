"""Structured state space layers as latent dynamics, in the line of R2I (arXiv:2403.04253).

Tokens, prior and posterior are those of ``common.dynamics.parallel``; the sequence model is a
stack of S5 layers (arXiv:2208.04933; ``common.nets.ssm``), each a norm, modes that decay at rates
of their own, a gated linear unit and a residual connection, with a norm behind the last.

    feature = [z'; x'; h'],  z' ~ q when observing, z' ~ p when imagining

x' are the modes of all layers, real and imaginary parts. The loss asks of the output h' what the
present needs; what is only remembered for later need not be in it, and a policy may want it. So
heads and policies see the modes too, as in R2I, unless ``exposed`` is off.

Nothing limits how far a state reaches back, and it does not grow with that:

    2 layers modes   floats in each state beside z and h

``observe`` scans all steps in parallel, in time O(T) and a depth of O(log T). Modes begin in zero.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, NamedTuple

import haiku as hk
import jax.numpy as jnp

from common.checks import Count, Options, Range, Share, check_multiple
from common.distributions import uniform_noise
from common.dynamics.base import DynamicsFunctions, dynamics_functions
from common.dynamics.parallel import ParallelDynamics
from common.nets.ssm import SSMLayer, apply_layer, make_layers
from common.types import Array, Key


@dataclasses.dataclass(frozen=True)
class S5Config(Options):
    """Sizes of the S5 dynamics; its latent is categorical.

    Attributes:
        stoch: Stochastic variables.
        classes: Classes of each variable.
        layers: State space layers.
        width: Entries of a token and of the deterministic state.
        modes: Complex numbers in the state of every layer; each stands for its conjugate too.
        blocks: HiPPO matrices side by side whose eigenvalues the modes of a layer begin with.
        units: Units of the prior's and the posterior's hidden layer.
        unimix: Share of a uniform distribution in every variable, so that none of its classes
            becomes impossible; DreamerV3 has 0.01.
        exposed: Whether heads and policies see the modes of all layers, beside the output.
    """

    stoch: Count = 32
    classes: Annotated[int, Range(2)] = 32
    layers: Count = 3
    width: Count = 128
    modes: Annotated[int, Range(1, 1024)] = 64
    blocks: Count = 1
    units: Count = 256
    unimix: Share = 0.0
    exposed: bool = True

    def __post_init__(self) -> None:
        """Raises an OptionError where blocks do not share the modes evenly."""
        super().__post_init__()
        check_multiple(self, "modes", "blocks")


KEPT = ("modes", "stoch")
"""Entries of a state from which a replay can go on: the next step reads no other."""


class S5State(NamedTuple):
    """A latent state.

    Attributes:
        deter: Output of the layers ``[..., D]``.
        stoch: Stochastic sample, one-hot ``[..., S, K]``.
        modes: Of every layer, real and imaginary parts ``[..., layers, 2, P]``.
    """

    deter: Array
    stoch: Array
    modes: Array


def initial(config: S5Config, batch_size: int) -> S5State:
    """Returns zeros ``[N, ...]``, the state before the first observation."""
    return S5State(
        jnp.zeros((batch_size, config.width)),
        jnp.zeros((batch_size, config.stoch, config.classes)),
        jnp.zeros((batch_size, config.layers, 2, config.modes)),
    )


def draw_noise(config: S5Config, key: Key, shape: tuple[int, ...]) -> Array:
    """Draws uniform noise ``[*shape, S]``."""
    return uniform_noise(key, (*shape, config.stoch))


def functions(config: S5Config, action_size: int, embed_size: int) -> DynamicsFunctions:
    """Returns the model as pure functions; the arguments are those of ``S5``."""
    return dynamics_functions(lambda: S5(config, action_size, embed_size))


class S5(ParallelDynamics):
    """The S5 dynamics; see ``common.dynamics.base.Dynamics``."""

    def __init__(self, config: S5Config, action_size: int, embed_size: int):
        """Creates all weights; the arguments are those of ``ParallelDynamics``."""
        super().__init__(config, action_size, embed_size, name="s5")

    def feature(self, state: S5State) -> Array:
        """Returns [flat(z); x; h] ``[..., S K + 2 layers modes + D]``, or without x."""
        if not self._config.exposed:
            return super().feature(state)
        modes = state.modes.reshape(*state.modes.shape[:-3], -1).astype(state.deter.dtype)
        return jnp.concatenate([self._flat(state.stoch), modes, state.deter], -1)

    @hk.transparent
    def _make(self) -> list[SSMLayer]:
        config = self._config
        return make_layers(
            layers=config.layers, width=config.width, modes=config.modes, blocks=config.blocks
        )

    def _run(self, start: S5State, token: Array, is_first: Array) -> tuple[Array, dict[str, Array]]:
        modes = []
        for layer, weights in enumerate(self._blocks):
            token, states = apply_layer(weights, token, start.modes[:, layer], is_first)
            modes.append(states)
        return token, {"modes": jnp.stack(modes, 2)}
