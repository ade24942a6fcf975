"""How actions are planned: the options of every agent that a planner may act for."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from common.checks import AT, Count, NonNegative, Options, Positive, Range, Share, Whole, refuse

_ONLY = {
    "momentum": ("cem",),
    "temperature": ("mppi",),
    "elites": ("mppi",),
    "refit_std": ("mppi",),
    "min_std": ("mppi",),
    "draw": ("cem", "mppi"),
}
"""Options that not every method has, with those that do."""


@dataclasses.dataclass(frozen=True)
class PlannerConfig(Options):
    """How actions are planned.

    Attributes:
        method: "cem", "mppi" or "shooting" (random shooting).
        horizon: Steps of a plan.
        iterations: How often CEM and MPPI refit their belief.
        candidates: Sequences drawn in each iteration.
        top: Sequences that CEM refits its belief to.
        momentum: Share of CEM's old belief that an iteration keeps.
        temperature: Difference of returns that makes a sequence of MPPI count e times as
            much.
        elites: Best sequences that MPPI refits its belief to; 0 for all.
        std: Deviation that every search begins with.
        refit_std: Whether MPPI refits deviations too, between min_std and std.
        min_std: Least deviation that MPPI refits to.
        draw: Whether CEM and MPPI act by a sequence that is drawn by what it counted for, in
            evaluation too, and not by their belief's mean.
        warm_start: Whether a plan begins around the last one, one step on; otherwise every
            plan begins around zero.
        random_walk: Candidates of every iteration, besides the others, whose actions change
            little from step to step.
        discount: What a reward counts by the one a step before; 0 for what the value counts it,
            and for as much without a value.
        value: Whether plans count what the model's critic expects after their last step.
        caution: How many deviations below its mean an ensemble's value is taken.
        policy_candidates: Candidates of every iteration, besides the others, that the model's
            policy proposes.
        explore: Whether collecting adds noise of the plan's own deviations to continuous
            actions, and exploration_noise to others only.
    """

    method: Literal["cem", "mppi", "shooting"] = "cem"
    horizon: Count = 12
    iterations: Count = 10
    candidates: Count = 1000
    top: Count = 100
    momentum: Share = 0.0
    temperature: Positive = 1.0
    elites: Whole = 0
    std: Positive = 1.0
    refit_std: bool = False
    min_std: NonNegative = 0.0
    draw: bool = False
    warm_start: bool = False
    random_walk: Whole = 0
    discount: Annotated[float, Range(0, 1)] = 0.0
    value: bool = False
    caution: NonNegative = 0.0
    policy_candidates: Whole = 0
    explore: bool = False

    @property
    def guided(self) -> bool:
        """Whether it needs a value or a policy."""
        return self.value or self.policy_candidates > 0

    def __post_init__(self) -> None:
        """Raises an OptionError where options do not go together."""
        super().__post_init__()
        if self.method == "cem" and self.top > self.candidates:
            most = f"{AT}candidates, which is {self.candidates}"
            refuse(self, f"{AT}top is {self.top}; expected at most {most}")
        tried = self.candidates + self.random_walk + self.policy_candidates
        if self.method == "mppi" and self.elites > tried:
            most = f"the {tried} sequences that are tried"
            refuse(self, f"{AT}elites is {self.elites}; expected at most {most}")
        if self.refit_std and self.min_std > self.std:
            most = f"{AT}std, which is {self.std:g}"
            refuse(self, f"{AT}min_std is {self.min_std:g}; expected at most {most}")

    def remarks(self) -> list[str]:
        """What to warn of: options that change nothing as the others are; a line each."""
        changed = [
            field.name for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]  # fmt: skip
        names = [name for name in changed if self.method not in _ONLY.get(name, (self.method,))]
        found = [f"planner.method {self.method} has no {', '.join(names)}"] if names else []
        if self.caution and not self.value:
            found.append("planner.caution is of planner.value, which is false")
        return [f"{line}: nothing is changed by that" for line in found]
