"""Options of the challenges. The names are those of the suite's specifications."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from common.checks import AT, Count, NonNegative, Options, Range, Share, Whole, refuse
from common.config import difference

Late = Annotated[Whole, Range(high=1000)]
Steps = Annotated[Count, Range(high=1000)]
Deviation = Annotated[float, Range(0, 1e6)]
Scheduler = Literal[
    "constant", "random_walk", "drift_pos", "drift_neg", "cyclic_pos", "cyclic_neg", "uniform",
    "saw_wave",
]  # fmt: skip
Strength = Literal["default", "easy", "medium", "hard"]
Constraint = Literal[
    "all", "slider_pos", "slider_accel", "balance_velocity", "joint_angle", "joint_velocity",
    "joint_accel", "dangerous_fall", "torso_upright", "upright", "foot_force", "grasp_force",
    "action_roc",
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class DelayConfig(Options):
    """By how many agent steps something is late.

    Before the first that is late arrives, the first of the episode stands in its place.

    Attributes:
        actions: Steps between choosing an action and its being performed.
        observations: Age of what is observed.
        rewards: Age of the reward.
    """

    actions: Late = 0
    observations: Late = 0
    rewards: Late = 0


@dataclasses.dataclass(frozen=True)
class GaussianConfig(Options):
    """White noise that is added.

    Attributes:
        actions: Its standard deviation, of actions in -1 to 1, which are clipped afterwards.
        observations: Its standard deviation, of vectors as the environment gives them.
    """

    actions: Deviation = 0.0
    observations: Deviation = 0.0


@dataclasses.dataclass(frozen=True)
class FaultConfig(Options):
    """Single numbers of a vector or an action that are lost, or stuck, for some steps.

    Attributes:
        observations_prob: Probability with which it begins, for every number and step.
        observations_steps: Steps that it lasts.
        actions_prob: The same of actions.
        actions_steps: Steps that it lasts.
    """

    observations_prob: Share = 0.0
    observations_steps: Steps = 1
    actions_prob: Share = 0.0
    actions_steps: Steps = 1


@dataclasses.dataclass(frozen=True)
class RepetitionConfig(Options):
    """Actions that are performed again instead of the following ones.

    Attributes:
        actions_prob: Probability with which an action is repeated.
        actions_steps: How often it is, after it was performed once.
    """

    actions_prob: Share = 0.0
    actions_steps: Steps = 1


@dataclasses.dataclass(frozen=True)
class PerturbConfig(Options):
    """A quantity of the body that changes between episodes; of five domains of the control suite.

    Attributes:
        param: Which one, such as "pole_length"; "auto" takes the first that is listed for the
            domain in ``common.envs.challenges.published``, and none where none is; "" leaves all
            of them alone.
        scheduler: How it changes, before the first episode too, by a step d that is drawn from a
            normal of mean 0: not at all, by d, by |d| up or down, so until the limit and then
            from the start again, uniformly anywhere, or by |d| to and fro between the limits.
        period: Episodes between two changes.
        strength: Whose limits and step: the suite's own for the quantity, or those of a combined
            challenge, which has one quantity a domain.
        start: Its first value; 0 takes the suite's, as for the following.
        min: The least.
        max: The largest.
        std: Standard deviation of a step.
        episodes: Episodes that are over already. A run that goes on, and its evaluations, count
            those of each of its environments, and draw a course of that length anew.
    """

    param: str = ""
    scheduler: Scheduler = "constant"
    period: Count = 1
    strength: Strength = "default"
    start: NonNegative = 0.0
    min: NonNegative = 0.0
    max: NonNegative = 0.0
    std: NonNegative = 0.0
    episodes: Annotated[Whole, Range(high=10_000_000)] = 0

    def __post_init__(self) -> None:
        """Raises an OptionError where options do not fit each other."""
        super().__post_init__()
        if self.max and self.min > self.max:
            refuse(self, f"{AT}min is {self.min:g}; expected at most {AT}max, {self.max:g}")


@dataclasses.dataclass(frozen=True)
class SafetyConfig(Options):
    """Constraints on what the body does; of five domains of the control suite.

    Attributes:
        constraints: Names of those that count, or "all" for those that the suite has on; see
            ``common.envs.challenges.safety``. Their violated share is the cost of a step.
        coeff: How easy they are to keep: 1 as published, 0 impossible.
        observations: Whether a vector "constraints" shows which were kept, 1, and which not, 0.
    """

    constraints: tuple[Constraint, ...] = ()
    coeff: Share = 1.0
    observations: bool = True


@dataclasses.dataclass(frozen=True)
class MultiObjectiveConfig(Options):
    """A reward that is part task and part safety.

    Attributes:
        coeff: Share c of safety in (1 - c) reward + c (kept share of the constraints).
        observed: Whether a vector "multiobj" shows both.
    """

    coeff: Share = 0.0
    observed: bool = False


@dataclasses.dataclass(frozen=True)
class ChallengeConfig(Options):
    """Everything that makes an environment harder, or counts what it must not do.

    Attributes:
        delay: What comes late.
        gaussian: White noise.
        dropped: Numbers that are lost: 0 is in their place.
        stuck: Numbers that stay what they were.
        repetition: Actions that are performed again.
        perturb: A body that changes.
        dimensions: Numbers that mean nothing, normal ones that are drawn anew at every step: how
            many the observation has, in a vector "dummy".
        safety: Constraints.
        multiobj: A reward of two parts.
    """

    delay: DelayConfig = DelayConfig()
    gaussian: GaussianConfig = GaussianConfig()
    dropped: FaultConfig = FaultConfig()
    stuck: FaultConfig = FaultConfig()
    repetition: RepetitionConfig = RepetitionConfig()
    perturb: PerturbConfig = PerturbConfig()
    dimensions: Annotated[Whole, Range(high=10_000)] = 0
    safety: SafetyConfig = SafetyConfig()
    multiobj: MultiObjectiveConfig = MultiObjectiveConfig()

    def __post_init__(self) -> None:
        """Raises an OptionError where options do not fit each other."""
        super().__post_init__()
        if (self.multiobj.coeff or self.multiobj.observed) and not self.safety.constraints:
            name = "coeff" if self.multiobj.coeff else "observed"
            wanted = f"name some in {AT}safety.constraints, or all"
            refuse(self, f"{AT}multiobj.{name} is about constraints, of which none is on; {wanted}")

    def named(self) -> tuple[str, ...]:
        """Names every option that is not as it is without challenges: "delay.actions 3"."""
        changes = difference(ChallengeConfig(), self)
        return tuple(f"{one.path} {one.after}" for one in changes)

    def remarks(self) -> list[str]:
        """What to warn of: options that change nothing as the others are; a line each."""
        perturb, safety, at = self.perturb, self.safety, "env.challenge"
        found = []
        if perturb != PerturbConfig() and not perturb.param:
            found.append(f"{at}.perturb changes no body: name a quantity in perturb.param, or auto")
        if perturb.param and perturb.scheduler == "constant" and not perturb.start:
            found.append(
                f"{at}.perturb.param {perturb.param} stays what it is: choose a perturb.scheduler, "
                "or a perturb.start"
            )
        if safety != SafetyConfig() and not safety.constraints:
            found.append(f"{at}.safety has no constraint on: name some in safety.constraints")
        return found

    @property
    def of_the_body(self) -> str:
        """The name of an option that only some domains of the control suite have; "" for none."""
        if self.perturb.param not in ("", "auto"):
            return "perturb.param"
        return "safety.constraints" if self.safety.constraints else ""

    @property
    def on_the_way(self) -> bool:
        """Whether anything happens between an agent and its environment."""
        faults = (self.dropped, self.stuck)
        return (
            self.delay != DelayConfig()
            or self.gaussian != GaussianConfig()
            or any(one.observations_prob or one.actions_prob for one in faults)
            or self.repetition.actions_prob > 0
            or self.dimensions > 0
        )
