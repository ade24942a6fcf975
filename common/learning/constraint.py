"""A weight on what must not be done: the Lagrangian of a constrained problem.

To maximise the reward where the cost of an agent step may be d on average, one maximises
``r - λ c`` and lets λ, the multiplier, ascend its own gradient (Altman, Constrained Markov
Decision Processes, 1999; Tessler et al., arXiv:1805.11074):

    λ <- clip(λ + α (mean(c) - d), 0, λ_max)
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import chex
import jax
import jax.numpy as jnp

from common.checks import AT, NonNegative, Options, Positive, refuse
from common.errors import UserError
from common.types import Array

MULTIPLIER = "multiplier"
"""Where what is counted and not learned holds λ."""


@dataclasses.dataclass(frozen=True)
class ConstraintConfig(Options):
    """How much what must not be done counts against the reward.

    Attributes:
        method: "none" leaves costs to the log; "fixed" takes ``weight`` times the cost off the
            reward; "lagrangian" begins so, and raises the weight while the cost is above the
            limit, and lowers it below.
        limit: Cost of an agent step that is allowed, on average: that of an episode divided by its
            actions.
        weight: λ, at first.
        lr: Step of λ with every update, α.
        max: Largest λ.
    """

    method: Literal["none", "fixed", "lagrangian"] = "none"
    limit: NonNegative = 0.0
    weight: NonNegative = 1.0
    lr: Positive = 1e-3
    max: Positive = 100.0

    def __post_init__(self) -> None:
        """Raises an OptionError where options do not fit each other."""
        super().__post_init__()
        if self.weight > self.max:
            refuse(self, f"{AT}weight is {self.weight:g}; expected at most {AT}max, {self.max:g}")

    @property
    def counts(self) -> bool:
        """Whether costs change what is learned."""
        return self.method != "none"


NO_CONSTRAINT = ConstraintConfig()


def check_cost(
    config: Options, constraint: ConstraintConfig, counted: bool, predicted: bool
) -> None:
    """Raises the OptionError of a configuration whose environments count no cost.

    Args:
        config: The configuration, whose options are named ``constraint``, ``env`` and
            ``world_model``.
        constraint: Of it.
        counted: Whether its environments count one.
        predicted: Whether its world model predicts one.
    """
    if (constraint.counts or predicted) and not counted:
        name = f"constraint.method {constraint.method}"
        refuse(
            config,
            f"{AT}{name if constraint.counts else 'world_model.predict_cost true'} needs "
            f"environments that count a cost; set {AT}env.challenge.safety.constraints for the "
            f"control suite, or {AT}env.cost true for Gymnasium environments whose info has one",
        )


def check_head(constraint: ConstraintConfig, predicted: bool) -> None:
    """Raises a UserError where costs count and the model predicts none."""
    if constraint.counts and not predicted:
        raise UserError(
            f"constraint.method {constraint.method} needs a model that predicts costs; set "
            "world_model.predict_cost true"
        )


def initial_multiplier(config: ConstraintConfig) -> dict[str, Array]:
    """Returns λ before the first update by its name; nothing where no costs count."""
    return {MULTIPLIER: jnp.float32(config.weight)} if config.counts else {}


def penalised(reward: Array, cost: Array, multiplier: Array) -> Array:
    """Returns ``reward - λ cost``, of equal shapes."""
    chex.assert_equal_shape([reward, cost])
    return reward - multiplier * cost


def next_multiplier(
    multiplier: Array, cost: Array, config: ConstraintConfig, steps: Array | None = None
) -> Array:
    """Returns λ after an update; see the module's docstring.

    Args:
        multiplier: λ before.
        cost: Costs of any shape, in any steps.
        config: The limit, and how fast λ moves.
        steps: Which of them are steps, booleans; the others, rows that begin an episode, have no
            action and no cost. None counts all.
    """
    if config.method != "lagrangian":
        return multiplier
    mean = jax.lax.stop_gradient(cost).mean(where=steps)
    if steps is not None:
        mean = jnp.where(steps.any(), mean, config.limit)
    over = mean - config.limit
    return jnp.clip(multiplier + config.lr * over, 0.0, config.max)
