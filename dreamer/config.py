"""All options of Dreamer. The defaults are DreamerV2's for the control suite from pixels."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal, Self

from common.checks import (
    AT,
    Count,
    Finite,
    NonNegative,
    Options,
    Positive,
    Range,
    Share,
    Whole,
    refuse,
)
from common.envs.registry import action_repeat
from common.learning.constraint import ConstraintConfig, check_cost
from common.learning.normalize import SpreadConfig, StreamNormConfig
from common.learning.optimizers import OptimizerConfig
from common.learning.schedules import check_schedules
from common.model.config import WorldModelConfig
from common.nets.heads import HeadConfig
from common.nets.layers import Activation, Init, Norm
from common.planner import PlannerConfig
from common.run.config import Settings
from dreamer.distillation.config import DistillConfig
from dreamer.exploration.config import ExplorationConfig


@dataclasses.dataclass(frozen=True)
class ActorConfig(Options):
    """The policy.

    Attributes:
        layers: Hidden layers.
        units: Units of each hidden layer.
        activation: Activation of the hidden layers.
        norm: "layer" or "rms" normalises the hidden layers, "none" does not.
        init: How kernels are drawn: "glorot" or "trunc_normal" (V3).
        out_scale: What the kernels of the output are multiplied by at the start; V3 has 0.01, so
            that the first policy is nearly the same everywhere.
        continuous: Distribution of continuous actions: "trunc_normal" (V2), "tanh_normal" (V1)
            or "bounded_normal" (V3), a normal whose mean lies in [-1, 1] and whose samples are
            cut off by the environment alone. Discrete actions are always one-hot.
        init_std: Added to the raw standard deviation of continuous actions; V3 has 2.
        min_std: Smallest standard deviation of continuous actions.
        max_std: Largest standard deviation of "bounded_normal".
        evaluate: What an evaluated policy does: its "mode", or a "sample" as in training (V3).
    """

    layers: Whole = 4
    units: Count = 400
    activation: Activation = "elu"
    norm: Norm = "none"
    init: Init = "glorot"
    out_scale: NonNegative = 1.0
    continuous: Literal["trunc_normal", "tanh_normal", "bounded_normal"] = "trunc_normal"
    init_std: Finite = 0.0
    min_std: NonNegative = 0.1
    max_std: Positive = 1.0
    evaluate: Literal["mode", "sample"] = "mode"

    def __post_init__(self) -> None:
        """Raises an OptionError where a value is none that its option can have."""
        super().__post_init__()
        if self.continuous == "bounded_normal" and self.min_std >= self.max_std:
            wanted = f"less than {AT}max_std, which is {self.max_std:g}"
            refuse(self, f"{AT}min_std is {self.min_std:g}; expected {wanted}")


@dataclasses.dataclass(frozen=True)
class ReplayValueConfig(Options):
    """How the critic learns from replayed rows, beside the imagined ones; see ``dreamer.losses``.

    Attributes:
        scale: Weight in the joint loss, where V3 has 0.3; 0 leaves it out.
        gradients: Whether this loss shapes the latent states.
        slow_regularizer: How much the critic is held near its slow copy on these rows (V3: 1).
    """

    scale: NonNegative = 0.0
    gradients: bool = True
    slow_regularizer: NonNegative = 1.0


@dataclasses.dataclass(frozen=True)
class BehaviorConfig(Options):
    """How actor and critic learn, in imagination or from what others did.

    Numbers that change over time are strings: "1e-4", "linear(start,end,updates)",
    "warmup(updates,value)", "exp(start,end,half_life)" or "horizon(start,end,updates)".

    Attributes:
        method: What the actor learns by: "imagination", or "cloning", which imitates the actions of
            ``run.data``. Either way the critic learns in imagination, what the actor is worth.
        penalty: How many times the disagreement of an ensemble of models, ``exploration.ensemble``,
            is subtracted from every imagined reward, so that the actor stays where the world model
            knows what it says; see ``dreamer.conservative``. 0 for no ensemble.
        horizon: Imagined steps, H, at least 2.
        starts: Rows at the end of every replayed window from which imagination starts; 0 for all.
        start_gradients: Whether the losses of actor and critic at the replayed state shape it; with
            ``joint`` and REINFORCE only.
        lambda_: Mixing of the lambda-return; 0 bootstraps after one step, 1 at the end.
        actor_grad: How the actor's gradient is made: "dynamics" (through the model),
            "reinforce", "both", or "auto" (reinforce for discrete actions, else dynamics).
        actor_grad_mix: With "both", the share of the gradient through the model.
        actor_entropy: Weight of the policy's entropy.
        include_start: Whether the replayed start state counts as the first imagined one
            (V2, V3) or not (V1).
        include_reward: Whether the value of a state includes the reward that came with it (V1,
            V2) or begins with the next one (V3).
        slow_target: Whether returns come from a slow copy of the critic (V2).
        slow_target_update: Critic updates between two copies.
        slow_target_fraction: Share of the critic that a copy takes over.
        slow_initial_copy: Whether the slow critic begins as a copy (V3) instead of becoming a
            whole one with the first update (V2).
        slow_regularizer: How much the critic is held near what its slow copy expects (V3: 1).
        reward_norm: Normalisation of the imagined rewards.
        return_norm: How far imagined returns spread, by which the actor's gain is divided.
        advantage_norm: How far what is then left of the gain spreads, which is centred and divided.
        value_norm: How far returns spread for the critic, which learns them centred and divided.
        replay_value: The critic's loss on replayed rows.
        actor_scale: Weight of the actor's loss in the joint one.
        critic_scale: Weight of the critic's loss in the joint one.
        exploration_noise: Standard deviation of noise added to continuous actions while
            collecting; for discrete actions the probability of a random one.
    """

    method: Literal["imagination", "cloning"] = "imagination"
    penalty: NonNegative = 0.0
    horizon: Annotated[int, Range(2)] = 15
    starts: Whole = 0
    start_gradients: bool = False
    lambda_: Share = 0.95
    actor_grad: Literal["auto", "dynamics", "reinforce", "both"] = "auto"
    actor_grad_mix: str = "0.1"
    actor_entropy: str = "1e-4"
    include_start: bool = True
    include_reward: bool = True
    slow_target: bool = True
    slow_target_update: Count = 100
    slow_target_fraction: Share = 1.0
    slow_initial_copy: bool = False
    slow_regularizer: NonNegative = 0.0
    reward_norm: StreamNormConfig = StreamNormConfig()
    return_norm: SpreadConfig = SpreadConfig()
    advantage_norm: SpreadConfig = SpreadConfig()
    value_norm: SpreadConfig = SpreadConfig()
    replay_value: ReplayValueConfig = ReplayValueConfig()
    actor_scale: NonNegative = 1.0
    critic_scale: NonNegative = 1.0
    exploration_noise: NonNegative = 0.0

    def __post_init__(self) -> None:
        """Raises an OptionError where a value is none that its option can have."""
        super().__post_init__()
        check_schedules(self, "actor_grad_mix", "actor_entropy")
        if not (self.include_reward or self.include_start):
            refuse(self, f"{AT}include_start false needs {AT}include_reward true")
        if self.replay_value.scale and self.include_reward:
            refuse(self, f"{AT}replay_value.scale above 0 needs {AT}include_reward false")


@dataclasses.dataclass(frozen=True)
class ActingPlannerConfig(PlannerConfig):
    """A planner that acts for the actor, with the run's own critic and actor.

    Attributes:
        acts: Whether it collects, instead of the actor.
        evaluated: Whether it is then evaluated too, and acts once it is loaded. Where it is not
            the actor is, which learned from what the planner met and searches for nothing.
    """

    acts: bool = False
    evaluated: bool = True


ACTING_PLANNER = ActingPlannerConfig(
    method="mppi",
    horizon=5,
    iterations=6,
    candidates=232,
    temperature=0.5,
    elites=32,
    refit_std=True,
    min_std=0.05,
    warm_start=True,
    value=True,
    policy_candidates=24,
    explore=True,
)
"""What plans a Dreamer's actions, where a planner does."""


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """A whole run of Dreamer.

    Attributes:
        world_model: The world model.
        actor: The policy.
        critic: The value function.
        behavior: Learning in imagination.
        joint: Whether one loss trains everything at once (V3), by ``model_opt``, instead of three
            losses and optimizers one after the other.
        planner: A planner that may act instead of the actor.
        model_opt: Optimizer of the world model, and of everything where it is joint.
        actor_opt: Optimizer of the policy.
        critic_opt: Optimizer of the value function.
        exploration: What may collect experience instead of the actor.
        distill: A small actor that may act instead of the actor, by which it is taught.
        constraint: What it costs to do what must not be done.
    """

    world_model: WorldModelConfig = WorldModelConfig()
    actor: ActorConfig = ActorConfig()
    critic: HeadConfig = HeadConfig()
    behavior: BehaviorConfig = BehaviorConfig()
    joint: bool = False
    planner: ActingPlannerConfig = ACTING_PLANNER
    model_opt: OptimizerConfig = OptimizerConfig(lr=3e-4)
    actor_opt: OptimizerConfig = OptimizerConfig(lr=8e-5)
    critic_opt: OptimizerConfig = OptimizerConfig(lr=8e-5)
    exploration: ExplorationConfig = ExplorationConfig()
    distill: DistillConfig = DistillConfig()
    constraint: ConstraintConfig = ConstraintConfig()

    def __post_init__(self) -> None:
        """Raises an OptionError where options do not fit each other."""
        super().__post_init__()
        behavior = self.behavior
        if behavior.replay_value.scale and not self.joint:
            refuse(self, f"{AT}behavior.replay_value.scale above 0 needs {AT}joint true")
        if behavior.start_gradients and not self.joint:
            refuse(self, f"{AT}behavior.start_gradients true needs {AT}joint true")
        check_cost(self, self.constraint, self.env.counts_cost, self.world_model.predict_cost)
        if behavior.method == "cloning" and not self.run.data:
            needed = f"set {AT}run.data, or {AT}behavior.method imagination"
            refuse(self, f"{AT}behavior.method cloning imitates logged actions; {needed}")
        if behavior.method == "cloning" and behavior.penalty:
            fault = f"{AT}behavior.penalty is of imagined returns, and {AT}behavior.method cloning"
            refuse(self, f"{fault} imagines none; leave one of them out")
        self._check_exploration()
        self._check_distillation()
        if self.planner.acts and self.constraint.counts:
            fault = f"{AT}planner.acts plans for rewards alone, and {AT}constraint.method"
            wanted = f"set {AT}planner.acts false, or {AT}constraint.method none"
            refuse(self, f"{fault} {self.constraint.method} minds costs; {wanted}")

    def _check_distillation(self) -> None:
        if self.distill.kind == "none":
            return
        others = {
            f"{AT}exploration.method {self.exploration.method}": self.exploration.method != "none",
            f"{AT}planner.acts true": self.planner.acts,
        }
        for other, acts in others.items():
            if acts:
                found = f"{AT}distill.kind {self.distill.kind} lets a small actor act"
                refuse(self, f"{found}, and {other} somebody else; leave one of them out")

    def _check_exploration(self) -> None:
        exploration = self.exploration
        method, curiosity = exploration.method, exploration.curiosity
        if method == "none":
            if exploration.until or exploration.task_scale:
                name = "until" if exploration.until else "task_scale"
                value = getattr(exploration, name)
                needed = f"{AT}exploration.method plan2explore, surprise or curiosity"
                refuse(self, f"{AT}exploration.{name} is {value:g} and nothing explores; {needed}")
            return
        if self.planner.acts:
            wanted = (
                f"set {AT}exploration.method none, or {AT}planner.acts false; in the model of a "
                "finished run 'planet eval' plans"
            )
            refuse(self, f"{AT}planner.acts plans for the task, not for {method}; {wanted}")
        if not exploration.scale:
            wanted = f"set it above 0, or {AT}exploration.method none"
            refuse(self, f"{AT}exploration.scale is 0; {wanted}")
        if self.run.data and exploration.until:
            wanted = f"leave {AT}exploration.until 0"
            refuse(self, f"nothing acts where {AT}run.data is learned from; {wanted}")
        if method != "curiosity":
            return
        if self.run.data:
            wanted = f"choose {AT}exploration.method plan2explore or surprise"
            refuse(self, f"curiosity learns while acting, which {AT}run.data leaves out; {wanted}")
        if self.replay.length < curiosity.least_rows:
            wanted = f"raise it to {curiosity.least_rows}, or lower {AT}exploration.curiosity.steps"
            fault = "holds no two rows that curiosity takes for far from each other"
            refuse(self, f"{AT}replay.length is {self.replay.length}, which {fault}; {wanted}")

    def settled(self) -> Self:
        """Returns it with the discount factor of its action repeat, and a head for costs."""
        model = self.world_model.with_cost(self.env.counts_cost)
        if model.discount_repeat:
            model = model.at_repeat(action_repeat(self.task, self.env.action_repeat))
        return dataclasses.replace(self, world_model=model)

    def remarks(self, platform: str) -> list[str]:
        """What to warn of where it runs on a platform, such as "cpu"; a line each."""
        found = super().remarks(platform) + self.world_model.remarks(platform)
        found += self._without_effect()
        if not self.planner.acts:
            return found
        if self.behavior.reward_norm != StreamNormConfig():
            found.append(
                "planner.acts adds the model's rewards to values of rewards as "
                "behavior.reward_norm scales them; leave it at its default"
            )
        return found + self.planner.remarks()

    def _without_effect(self) -> list[str]:
        """What is set and belongs to the other of one joint step and three steps; a line each."""
        if self.joint:
            return [
                f"{name} is without effect with joint true, where model_opt steps everything; set "
                "model_opt, and its rates for a part"
                for name in ("actor_opt", "critic_opt")
                if getattr(self, name) != getattr(Config, name)
            ]
        return [
            f"behavior.{name} is without effect with joint false, where losses are not added up"
            for name in ("actor_scale", "critic_scale")
            if getattr(self.behavior, name) != 1
        ]
