"""The policy network: feature -> distribution over the flat action vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from common.distributions import Joint, Normal, OneHot, TanhNormal, TruncatedNormal
from common.nets.heads import HeadConfig, Prediction, ScalarHead
from common.nets.layers import INITS, MLP, Dense, scaled
from common.nets.precision import Precision, wrap
from common.spaces import ActionPart, ActionSpec
from common.types import Array, Key, Params
from dreamer.config import ActorConfig

_CONTINUOUS = {"trunc_normal": TruncatedNormal, "tanh_normal": TanhNormal}

Action = Joint | OneHot | Normal | TanhNormal | TruncatedNormal


class Actor(hk.Module):
    """An MLP with a linear output for logits and means, and one for deviations."""

    def __init__(self, config: ActorConfig, actions: ActionSpec):
        """Keeps sizes.

        Args:
            config: Layers and distributions.
            actions: The flat action vector.
        """
        super().__init__(name="actor")
        self._config = config
        self._actions = actions

    def __call__(self, feature: Array) -> Joint:
        """Returns the distribution over actions ``[..., A]``."""
        config = self._config
        sizes = config.layers, config.units
        hidden = MLP(*sizes, config.activation, config.norm, init=config.init)(feature)
        init = scaled(INITS[config.init], config.out_scale)
        # What a distribution is computed from is float32, whatever the layers compute in.
        out = Dense(self._actions.size, "out", init)(hidden).astype(jnp.float32)
        continuous = sum(p.size for p in self._actions.parts if p.kind == "continuous")
        std = Dense(continuous, "std", init)(hidden).astype(jnp.float32) if continuous else None
        parts = []
        taken = 0
        offset = 0
        for part in self._actions.parts:
            loc = out[..., offset : offset + part.size]
            offset += part.size
            scale = None
            if part.kind == "continuous":
                scale = std[..., taken : taken + part.size]
                taken += part.size
            parts.append(self._part(part, loc, scale))
        return Joint(tuple(parts))

    def _part(self, part: ActionPart, loc: Array, scale: Array | None) -> Action:
        if part.kind == "categorical":
            return OneHot(loc)
        config = self._config
        if config.continuous == "bounded_normal":
            span = config.max_std - config.min_std
            std = span * jax.nn.sigmoid(scale + config.init_std) + config.min_std
            return Normal(jnp.tanh(loc), std)
        family = _CONTINUOUS[config.continuous]
        return family.from_outputs(loc, scale, init_std=config.init_std, min_std=config.min_std)


class Networks(NamedTuple):
    """Pure functions of the policy and the value function.

    Attributes:
        init: ``(key, feature) -> {"actor", "critic", "slow_critic"}``.
        policy: ``(actor_params, feature [..., D]) -> distribution`` over ``[..., A]``.
        value: ``(critic_params, feature [..., D]) -> distribution`` of the return ``[...]``.
    """

    init: Callable[[Key, Array], Params]
    policy: Callable[[Params, Array], Joint]
    value: Callable[[Params, Array], Prediction]


def make_networks(
    actor: ActorConfig, critic: HeadConfig, actions: ActionSpec, precision: Precision = "float32"
) -> Networks:
    """Builds actor and critic.

    Args:
        actor: Layers and distribution of the policy.
        critic: Layers of the value function.
        actions: The flat action vector.
        precision: Number format of the layers' arithmetic.
    """
    policy = hk.without_apply_rng(hk.transform(lambda x: Actor(actor, actions)(x)))
    value = hk.without_apply_rng(hk.transform(lambda x: ScalarHead(critic, "critic")(x)))

    def init(key: Key, feature: Array) -> Params:
        keys = jax.random.split(key, 3)
        return {
            "actor": policy.init(keys[0], feature),
            "critic": value.init(keys[1], feature),
            "slow_critic": value.init(keys[2], feature),
        }

    return Networks(init, wrap(policy.apply, precision), wrap(value.apply, precision))
