"""What TD-MPC2 offers planners: its model as functions of single steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from common.types import Array, Key, Params, Rows
from planet.tdmpc2.config import TDMPC2Config
from planet.tdmpc2.networks import Networks, draw_pair


class Model(NamedTuple):
    """Functions of the parameters by component; leading axes ``[...]`` are free.

    Attributes:
        encode: ``(params, rows, shift) -> z [..., L]``. The public code shifts images at random
            here too; without a shift they stay in place.
        draw_shift: ``(key, shape) -> shift [*shape, 2]``; None for vectors.
        step: ``(params, z, action [..., A]) -> (z, reward [...], ended [...])``: the next state,
            the expected reward on the way, and the probability that the episode ended with it;
            None where that is not learned.
        policy: ``(params, key, z) -> action`` drawn from the policy.
        act: ``(params, noise [..., A], z) -> action`` drawn with given standard normals.
        best: ``(params, z) -> action`` in the middle of the policy.
        values: ``(params, z, action) -> [Q, ...]``, of all members.
        value: ``(params, key, z, action) -> [...]``, the mean of two drawn members.
        value_of: ``(params, pair [2], z, action) -> [...]``, the mean of two given ones.
        draw_pair: ``(key) -> pair [2]`` of different members.
        mask: ``(z) -> [..., A]``, 1 for entries of the action that the task uses; None for one
            task. States of several tasks have their task behind the L entries.
        task: ``(z) -> [..., tasks]``, the task of a state, one-hot; None for one task.
    """

    encode: Callable[..., Array]
    draw_shift: Callable[[Key, Sequence[int]], Array | None]
    step: Callable[[Params, Array, Array], tuple[Array, Array, Array | None]]
    policy: Callable[[Params, Key, Array], Array]
    act: Callable[[Params, Array, Array], Array]
    best: Callable[[Params, Array], Array]
    values: Callable[[Params, Array, Array], Array]
    value: Callable[[Params, Key, Array, Array], Array]
    value_of: Callable[[Params, Array, Array, Array], Array]
    draw_pair: Callable[[Key], Array]
    mask: Callable[[Array], Array] | None
    task: Callable[[Array], Array] | None


def make_model(networks: Networks, config: TDMPC2Config, actions: int) -> Model:
    """Builds the functions.

    Args:
        networks: Of ``make_networks`` with the same options.
        config: All options.
        actions: Entries of an action, A.
    """

    def encode(params: Params, rows: Rows, shift: Array | None = None) -> Array:
        return networks.encode(params, rows, shift)

    def step(params: Params, z: Array, action: Array) -> tuple[Array, Array, Array | None]:
        reward = networks.reward(params, z, action).mean()
        z = networks.dynamics(params, z, action)
        ended = jax.nn.sigmoid(networks.termination(params, z)) if networks.termination else None
        return z, reward, ended

    def policy(params: Params, key: Key, z: Array) -> Array:
        return networks.policy(params, z, jax.random.normal(key, (*z.shape[:-1], actions))).action

    def value_of(params: Params, pair: Array, z: Array, action: Array) -> Array:
        return networks.q_two(params, z, action, pair).mean(0)

    def value(params: Params, key: Key, z: Array, action: Array) -> Array:
        return value_of(params, draw_pair(key, config.num_q), z, action)

    return Model(
        encode=encode,
        draw_shift=networks.draw_shift,
        step=step,
        policy=policy,
        act=lambda params, noise, z: networks.policy(params, z, noise).action,
        best=lambda params, z: networks.policy(params, z, jnp.zeros(actions)).mean,
        values=lambda params, z, action: networks.q(params, z, action).mean(),
        value=value,
        value_of=value_of,
        draw_pair=lambda key: draw_pair(key, config.num_q),
        mask=networks.mask,
        task=networks.task,
    )
