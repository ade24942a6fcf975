"""The planner that a configuration describes, and how its search goes on from step to step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from common.errors import UserError
from common.planner import PlannerConfig
from common.spaces import ActionSpec
from common.types import Array, Key, Params
from planet import cem, mppi, shooting
from planet.beliefs import Belief, initial_belief, shift
from planet.proposals import random_walk
from planet.search import Plan, Rollout
from planet.value import Guide, careful, follow, with_value

_SHARED = ("horizon", "candidates")
_REFITTED = (*_SHARED, "iterations", "draw")


class Searcher(NamedTuple):
    """How actions are found, step after step.

    Attributes:
        initial: ``(num_envs) -> belief``, what is left of a search before the first one.
        search: ``(params, key, start [N, ...], belief, is_first [N]) -> plan``; where an episode
            begins, what was left counts for nothing.
    """

    initial: Callable[[int], Belief]
    search: Callable[[Params, Key, Any, Belief, Array], Plan]


def make_searcher(
    rollout: Rollout, config: PlannerConfig, actions: ActionSpec, guide: Guide | None = None
) -> Searcher:
    """Returns the search of a planner in a model.

    Args:
        rollout: The model.
        config: The planner, and whether it starts around the last plan, one step on.
        actions: The flat action vector.
        guide: What the model has learned of values and policies; None for nothing.

    Raises:
        UserError: The planner is to be guided, and there is nothing to guide it.
    """
    for option, wanted in (
        ("value", config.value), ("policy_candidates", config.policy_candidates)
    ):  # fmt: skip
        if wanted and guide is None:
            raise UserError(
                f"planner.{option} is {str(wanted).lower()}, and this model has learned no value "
                "and no policy; plan in a Dreamer's run or with TD-MPC2, or leave it out"
            )
    plan = make_planner(config, actions, guide)
    if config.value:
        value = careful(guide.value, config.caution)
        rollout = with_value(rollout, value, guide.includes_reward)

    def initial(num_envs: int) -> Belief:
        return initial_belief(actions, num_envs, config.horizon, config.std)

    def search(params: Params, key: Key, start: Any, belief: Belief, is_first: Array) -> Plan:
        first = initial(is_first.shape[0])
        if config.warm_start:
            moved = shift(belief, actions, config.std)
            first = jax.tree.map(
                lambda x, y: jnp.where(is_first[:, None, None], x, y), first, moved
            )
        return plan(rollout, params, key, start, belief=first)

    return Searcher(initial, search)


def make_planner(
    config: PlannerConfig, actions: ActionSpec, guide: Guide | None = None
) -> Callable[..., Plan]:
    """Returns ``plan(rollout, params, key, start, *, belief)`` of that method."""
    plan, names = {
        "cem": (cem.plan, (*_REFITTED, "top", "momentum")),
        "mppi": (mppi.plan, (*_REFITTED, "temperature", "elites")),
        "shooting": (shooting.plan, _SHARED),
    }[config.method]
    options = {name: getattr(config, name) for name in names}
    refits_std = config.method == "mppi" and config.refit_std
    discount = config.discount or (guide.discount if config.value else 1.0)
    if config.random_walk:
        options["proposal"] = random_walk(actions, config.random_walk, config.horizon)
    if config.policy_candidates:
        amount = config.policy_candidates, config.horizon
        options["kept"] = follow(guide.step, guide.policy, *amount)
    mask = guide.mask if guide else None

    def search(rollout: Rollout, params: Params, key: Key, start: Any, **given: Any) -> Plan:
        own = {"discount": discount(start) if callable(discount) else discount}
        own |= {"mask": mask(start)} if mask else {}
        if refits_std:
            own["std_range"] = _least_std(config, guide, params), config.std
        return plan(rollout, params, key, start, actions=actions, **options, **own, **given)

    return search


def _least_std(config: PlannerConfig, guide: Guide | None, params: Params) -> float | Array:
    if guide is None or guide.min_std is None:
        return config.min_std
    return jnp.clip(guide.min_std(params), config.min_std, config.std)
