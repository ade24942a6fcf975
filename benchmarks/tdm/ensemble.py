"""An ensemble of small networks that predict the next row: the baseline of PETS.

Member e maps the standardised observation and the action to the change of the observation,
in units of the data's root mean square change, and to the standardised reward:

    o' = o + c f_e(o, a),   r' = m_r + s_r g_e(o, a)

As in arXiv:1805.12114 each member has weights and resampled data of its own, and in
imagination a trajectory stays with one member (TS-inf). The systems are deterministic, so
members predict means and learn by squared error, where PETS has normals.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from benchmarks.tdm.scale import Scale
from common.checks import Count, Options, Whole
from common.nets.layers import MLP, Dense
from common.tokens.steps import Steps
from common.types import Array, Key, Params


@dataclasses.dataclass(frozen=True)
class EnsembleConfig(Options):
    """Sizes of the ensemble.

    Attributes:
        members: Networks, E.
        layers: Hidden layers of each.
        units: Units of a hidden layer.
    """

    members: Count = 5
    layers: Whole = 2
    units: Count = 128


class EnsembleFunctions(NamedTuple):
    """The ensemble as pure functions; ``weights`` have a leading axis of members.

    Attributes:
        init: ``(key) -> weights``.
        step: ``(weights, scale, observation [E, N, D], action [E, N, A]) ->
            (observation [E, N, D], reward [E, N])``.
        loss: ``(weights, scale, key, steps [B, T]) -> mean squared error of members``.
    """

    init: Callable[[Key], Params]
    step: Callable[[Params, Scale, Array, Array], tuple[Array, Array]]
    loss: Callable[[Params, Scale, Key, Steps], Array]


def functions(config: EnsembleConfig, observation_size: int, action_size: int) -> EnsembleFunctions:
    """Returns the ensemble for bodies of one size."""

    def network(observation: Array, action: Array) -> Array:
        x = jnp.concatenate([observation, action], -1)
        x = MLP(config.layers, config.units, "silu")(x)
        return Dense(observation_size + 1, name="out")(x)

    member = hk.without_apply_rng(hk.transform(network))

    def init(key: Key) -> Params:
        shapes = jnp.zeros((1, observation_size)), jnp.zeros((1, action_size))
        return jax.vmap(lambda key: member.init(key, *shapes))(
            jax.random.split(key, config.members)
        )

    def outputs(weights: Params, scale: Scale, observation: Array, action: Array) -> Array:
        standard = (observation - scale.mean[:-1]) / scale.std[:-1]
        return jax.vmap(member.apply)(weights, standard, action)

    def step(
        weights: Params, scale: Scale, observation: Array, action: Array
    ) -> tuple[Array, Array]:
        out = outputs(weights, scale, observation, action)
        reward = scale.mean[-1] + scale.std[-1] * out[..., -1]
        return observation + scale.change[:-1] * out[..., :-1], reward

    def loss(weights: Params, scale: Scale, key: Key, steps: Steps) -> Array:
        flat = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
        before, after = flat(steps.observation[:, :-1]), flat(steps.observation[:, 1:])
        change = (after - before) / scale.change[:-1]
        reward = (flat(steps.reward[:, 1:]) - scale.mean[-1]) / scale.std[-1]
        target = jnp.concatenate([change, reward[:, None]], -1)
        counts = ~flat(steps.is_first[:, 1:])
        drawn = jax.random.randint(key, (config.members, len(counts)), 0, len(counts))
        out = outputs(weights, scale, before[drawn], flat(steps.action[:, 1:])[drawn])
        error = jnp.square(out - target[drawn]).mean(-1)
        count = jnp.maximum(counts[drawn].sum(1), 1)
        return (jnp.where(counts[drawn], error, 0).sum(1) / count).mean()

    return EnsembleFunctions(init, step, loss)
