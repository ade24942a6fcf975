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
    Range,
    Share,
    Whole,
    refuse,
)
from common.envs.registry import action_repeat
from common.learning.normalize import SpreadConfig, StreamNormConfig
from common.learning.optimizers import OptimizerConfig
from common.learning.schedules import check_schedules
from common.model.config import WorldModelConfig
from common.nets.heads import HeadConfig
from common.nets.layers import Activation, Norm
from common.run.config import Settings


@dataclasses.dataclass(frozen=True)
class ActorConfig(Options):
    """The policy.

    Attributes:
        layers: Hidden layers.
        units: Units of each hidden layer.
        activation: Activation of the hidden layers.
        norm: "layer" or "rms" normalises the hidden layers, "none" does not.
        continuous: Distribution of continuous actions: "trunc_normal" (V2) or
            "tanh_normal" (V1). Discrete actions are always one-hot.
        init_std: Added to the raw standard deviation of continuous actions.
        min_std: Smallest standard deviation of continuous actions.
    """

    layers: Whole = 4
    units: Count = 400
    activation: Activation = "elu"
    norm: Norm = "none"
    continuous: Literal["trunc_normal", "tanh_normal"] = "trunc_normal"
    init_std: Finite = 0.0
    min_std: NonNegative = 0.1


@dataclasses.dataclass(frozen=True)
class BehaviorConfig(Options):
    """How actor and critic learn in imagination.

    Numbers that change over time are strings: "1e-4", "linear(start,end,updates)",
    "warmup(updates,value)", "exp(start,end,half_life)" or "horizon(start,end,updates)".

    Attributes:
        horizon: Imagined steps, H, at least 2.
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
        slow_regularizer: How much the critic is held near what its slow copy expects (V3: 1).
        reward_norm: Normalisation of the imagined rewards.
        return_norm: How far imagined returns spread, by which the actor's gain is divided.
        exploration_noise: Standard deviation of noise added to continuous actions while
            collecting; for discrete actions the probability of a random one.
    """

    horizon: Annotated[int, Range(2)] = 15
    lambda_: Share = 0.95
    actor_grad: Literal["auto", "dynamics", "reinforce", "both"] = "auto"
    actor_grad_mix: str = "0.1"
    actor_entropy: str = "1e-4"
    include_start: bool = True
    include_reward: bool = True
    slow_target: bool = True
    slow_target_update: Count = 100
    slow_target_fraction: Share = 1.0
    slow_regularizer: NonNegative = 0.0
    reward_norm: StreamNormConfig = StreamNormConfig()
    return_norm: SpreadConfig = SpreadConfig()
    exploration_noise: NonNegative = 0.0

    def __post_init__(self) -> None:
        """Raises an OptionError where a value is none that its option can have."""
        super().__post_init__()
        check_schedules(self, "actor_grad_mix", "actor_entropy")
        if not (self.include_reward or self.include_start):
            refuse(self, f"{AT}include_start false needs {AT}include_reward true")


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """A whole run of Dreamer.

    Attributes:
        world_model: The world model.
        actor: The policy.
        critic: The value function.
        behavior: Learning in imagination.
        model_opt: Optimizer of the world model.
        actor_opt: Optimizer of the policy.
        critic_opt: Optimizer of the value function.
    """

    world_model: WorldModelConfig = WorldModelConfig()
    actor: ActorConfig = ActorConfig()
    critic: HeadConfig = HeadConfig()
    behavior: BehaviorConfig = BehaviorConfig()
    model_opt: OptimizerConfig = OptimizerConfig(lr=3e-4)
    actor_opt: OptimizerConfig = OptimizerConfig(lr=8e-5)
    critic_opt: OptimizerConfig = OptimizerConfig(lr=8e-5)

    def settled(self) -> Self:
        """Returns it with the discount factor of the action repeat that the run has."""
        if not self.world_model.discount_repeat:
            return self
        repeat = action_repeat(self.task, self.env.action_repeat)
        return dataclasses.replace(self, world_model=self.world_model.at_repeat(repeat))
