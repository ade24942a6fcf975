"""The planner that a configuration describes."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from common.spaces import ActionSpec
from common.types import Array
from planet import cem, mppi, shooting
from planet.candidates import Belief, Plan, initial_belief, shift
from planet.config import PlannerConfig
from planet.proposals import random_walk


def make_planner(config: PlannerConfig, actions: ActionSpec) -> Callable[..., Plan]:
    """Returns ``plan(rollout, params, key, start, *, belief, proposal)`` of that method."""
    plan, names = {
        "cem": (cem.plan, ("horizon", "iterations", "candidates", "top", "momentum")),
        "mppi": (mppi.plan, ("horizon", "iterations", "candidates", "temperature")),
        "shooting": (shooting.plan, ("horizon", "candidates")),
    }[config.method]
    options = {name: getattr(config, name) for name in names}
    if config.random_walk:
        options["proposal"] = random_walk(actions, config.random_walk, config.horizon)
    return functools.partial(plan, actions=actions, **options)


def first_belief(
    config: PlannerConfig, actions: ActionSpec, last: Belief, is_first: Array
) -> Belief | None:
    """Where a search begins: around the last one's plan where the planner starts warm.

    Args:
        config: Says whether it does.
        actions: The flat action vector.
        last: What the last search left.
        is_first: Whether an episode begins ``[N]``, so that nothing is left.

    Returns:
        The belief; None for the initial one.
    """
    if not config.warm_start:
        return None
    new = initial_belief(actions, *last.mean.shape[:2])
    first = is_first[:, None, None]
    return jax.tree.map(lambda x, y: jnp.where(first, x, y), new, shift(last, actions))
