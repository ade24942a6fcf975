"""The planner that a configuration describes, and how its search goes on from step to step."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from common.spaces import ActionSpec
from common.types import Array, Key, Params
from planet import cem, mppi, shooting
from planet.beliefs import Belief, initial_belief, shift
from planet.config import PlannerConfig
from planet.proposals import random_walk
from planet.search import Plan, Rollout


class Searcher(NamedTuple):
    """How actions are found, step after step.

    Attributes:
        initial: ``(num_envs) -> belief``, what is left of a search before the first one.
        search: ``(params, key, start [N, ...], belief, is_first [N]) -> (action [N, A],
            belief)``; where an episode begins, what was left counts for nothing.
    """

    initial: Callable[[int], Any]
    search: Callable[[Params, Key, Any, Any, Array], tuple[Array, Any]]


def make_searcher(rollout: Rollout, config: PlannerConfig, actions: ActionSpec) -> Searcher:
    """Returns the search of a planner in a model.

    Args:
        rollout: The model.
        config: The planner, and whether it starts around the last plan, one step on.
        actions: The flat action vector.

    Raises:
        UserError: As of ``make_planner``.
    """
    plan = make_planner(config, actions)

    def initial(num_envs: int) -> Belief:
        return initial_belief(actions, num_envs, config.horizon)

    def search(
        params: Params, key: Key, start: Any, belief: Belief, is_first: Array
    ) -> tuple[Array, Belief]:
        first = _warm_start(belief, is_first, actions) if config.warm_start else None
        found = plan(rollout, params, key, start, belief=first)
        return found.action, found.belief

    return Searcher(initial, search)


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


def _warm_start(last: Belief, is_first: Array, actions: ActionSpec) -> Belief:
    """The last plan one step on; the initial belief of each environment whose episode begins."""
    new = initial_belief(actions, *last.mean.shape[:2])
    first = is_first[:, None, None]
    return jax.tree.map(lambda x, y: jnp.where(first, x, y), new, shift(last, actions))
