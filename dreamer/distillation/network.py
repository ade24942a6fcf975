"""The small actor: from rows to a policy and a value, by few layers of its own.

With m = 1 − is_first, observation o, previous action a and previous hidden state h:

    e  = encoder(o)                       convolutions of images, dense layers of vectors
    h' = GRU([e; m a], m h)               "gru"; or φ(W e), "mlp", which remembers nothing
    π = policy(h'),  v = value(h')        one linear layer each

Vectors are standardised or squashed as the world model's are, by the statistics that it counts. All
is computed in float32. A window is the fold of single steps, also where an episode begins in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import haiku as hk
import jax.numpy as jnp

from common.distributions import Joint
from common.model.vectors import Statistics, vector_functions
from common.nets.cells import make_cell
from common.nets.coders import Encoder
from common.nets.heads import HeadConfig, Prediction, ScalarHead
from common.nets.layers import ACTIVATIONS, INITS, Activation, Dense, Init
from common.nets.scan import recurrent_scan
from common.spaces import ActionSpec, ObservationSpec
from common.types import Array, Key, Params, Rows
from dreamer.config import Config
from dreamer.networks import Actor


class SmallMemory(NamedTuple):
    """What the small actor remembers of each environment.

    Attributes:
        hidden: Its recurrent state, or last hidden layer ``[N, D]``, of the newest rows.
        action: What it did then ``[N, A]``.
    """

    hidden: Array
    action: Array


class SmallFunctions(NamedTuple):
    """Pure functions of the small actor; all parameters are of one nested mapping.

    Attributes:
        init: ``(key) -> params``.
        initial: ``(amount) -> hidden [N, D]``, before the first row.
        step: ``(params, statistics, hidden [N, D], rows [N, ...]) -> hidden [N, D]``; rows hold
            the observation, the previous ``action`` and ``is_first``.
        observe: ``(params, statistics, hidden [B, D], rows [B, T, ...]) -> hidden [B, T, D]``.
        policy: ``(params, hidden [..., D]) -> distribution`` over ``[..., A]``.
        value: ``(params, hidden [..., D]) -> distribution`` of the return ``[...]``.
    """

    init: Callable[[Key], Params]
    initial: Callable[[int], Array]
    step: Callable[[Params, Statistics | None, Array, Rows], Array]
    observe: Callable[[Params, Statistics | None, Array, Rows], Array]
    policy: Callable[[Params, Array], Joint]
    value: Callable[[Params, Array], Prediction]


def small_functions(
    config: Config, observations: Mapping[str, ObservationSpec], actions: ActionSpec
) -> SmallFunctions:
    """Builds the small actor of a configuration.

    Args:
        config: Its size, and the learner whose distributions and observations it has.
        observations: The flat observation.
        actions: The flat action vector.

    Raises:
        UserError: The encoder selects no observation.
    """
    size = config.distill.units
    forward = vector_functions(config.world_model.vector_transform, observations).forward

    def methods() -> tuple[Callable, tuple[Callable, ...]]:
        module = _SmallActor(config, observations, actions)

        def everything(rows: Rows) -> None:
            hidden = module.observe(jnp.zeros((1, size)), rows)
            module.policy(hidden), module.value(hidden)

        return everything, (module.step, module.observe, module.policy, module.value)

    transformed = hk.without_apply_rng(hk.multi_transform(methods))
    step, observe, policy, value = transformed.apply

    def init(key: Key) -> Params:
        shapes = {name: (spec.shape, spec.dtype) for name, spec in observations.items()}
        shapes |= {"action": ((actions.size,), jnp.float32), "is_first": ((), bool)}
        rows = {name: jnp.zeros((1, 1, *shape), dtype) for name, (shape, dtype) in shapes.items()}
        return transformed.init(key, rows)

    return SmallFunctions(
        init=init,
        initial=lambda amount: jnp.zeros((amount, size)),
        step=lambda params, statistics, hidden, rows: step(
            params, hidden, forward(statistics or {}, rows)
        ),
        observe=lambda params, statistics, hidden, rows: observe(
            params, hidden, forward(statistics or {}, rows)
        ),
        policy=policy,
        value=value,
    )


class _SmallActor(hk.Module):
    """The layers of the small actor; see the module."""

    def __init__(
        self, config: Config, observations: Mapping[str, ObservationSpec], actions: ActionSpec
    ):
        super().__init__(name="small_actor")
        distill, learner = config.distill, config.world_model.encoder
        self._recurrent = distill.kind == "gru"
        self._core = _Core(distill.kind, distill.units, learner.activation, learner.init)
        sizes = {"depth": distill.depth, "layers": distill.layers, "units": distill.units}
        self._encoder = Encoder(observations, dataclasses.replace(learner, **sizes))
        self._policy = Actor(dataclasses.replace(config.actor, layers=0), actions)
        self._value = ScalarHead(HeadConfig(layers=0, likelihood="symlog"), "value")

    def step(self, hidden: Array, rows: Rows) -> Array:
        """One step: hidden ``[N, D]``, rows ``[N, ...]``."""
        keep, given = self._given(rows)
        return self._core(given.shape[-1])(given, hidden * keep)

    def observe(self, hidden: Array, rows: Rows) -> Array:
        """A window: hidden ``[B, D]``, rows ``[B, T, ...]``."""
        keep, given = self._given(rows)
        core = self._core(given.shape[-1])

        def step(hidden: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
            keep, given = now
            hidden = core(given, hidden * keep)
            return hidden, hidden

        swap = lambda x: jnp.swapaxes(x, 0, 1)  # noqa: E731
        return swap(recurrent_scan(step, hidden, (swap(keep), swap(given)))[1])

    def policy(self, hidden: Array) -> Joint:
        """The distribution over actions ``[..., A]``."""
        return self._policy(hidden)

    def value(self, hidden: Array) -> Prediction:
        """The distribution of the return ``[...]``."""
        return self._value(hidden)

    def _given(self, rows: Rows) -> tuple[Array, Array]:
        """What is not recurrent: 0 where an episode begins, else 1, and the core's input."""
        keep = 1 - rows["is_first"].astype(jnp.float32)[..., None]
        embed = self._encoder(rows)
        parts = [embed, rows["action"] * keep] if self._recurrent else [embed]
        return keep, jnp.concatenate(parts, -1)


class _Core(hk.Module):
    """What makes a hidden state of the input and the one before, as a function of its weights."""

    def __init__(self, kind: str, size: int, activation: Activation, init: Init):
        super().__init__(name="core")
        self._recurrent, self._size = kind == "gru", size
        self._activation, self._init = ACTIVATIONS[activation], INITS[init]

    def __call__(self, inputs: int) -> Callable[[Array, Array], Array]:
        """Returns ``(input [..., inputs], hidden [..., D]) -> hidden [..., D]``."""
        if self._recurrent:
            return make_cell("gru", inputs, self._size)
        kernel, bias = Dense(self._size, "last", self._init).parameters(inputs)
        return lambda given, hidden: self._activation(given @ kernel + bias)
