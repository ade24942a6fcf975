"""Options of TD-MPC2. The defaults are the public code's for one task from state, 5M weights."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from common.checks import (
    AT,
    Count,
    NonNegative,
    Options,
    Range,
    Share,
    Whole,
    check_multiple,
    refuse,
)
from common.learning.optimizers import OptimizerConfig
from common.learning.schedules import check_schedules

Within = Annotated[float, Range(-80, 80)]
"""What an exponential of float32 can be taken of."""
DISCOUNT_SHARE, DISCOUNT_LOW, DISCOUNT_HIGH = 5, 0.95, 0.995
"""``episode_discount`` looks ahead one fifth of an episode, within these bounds."""


@dataclasses.dataclass(frozen=True)
class TDMPC2Config(Options):
    """What is learned, and how.

    Attributes:
        encoder_layers: Layers of the encoder of vectors; 1 and 2 are the same network.
        encoder_units: Units of its hidden layers.
        units: Units of both hidden layers of dynamics, heads, policy and values.
        latent: Entries of a latent state. From images it is 16 times ``channels`` for 64x64.
        simnorm: Entries of each group of a latent state that sums to one.
        task_size: Entries of the embedding of each of several tasks that are told apart.
        channels: Channels of the encoder of images.
        shift: Pixels that images are shifted by at most, to either side, as augmentation.
        num_q: Members of the ensemble of values; two drawn ones are asked at a time.
        dropout: Share of the first hidden units of a value that are left out while learning.
        bins: Bins of rewards and values, on the scale of the symlog.
        low: The lowest bin.
        high: The highest bin.
        min_log_std: Least logarithm of the policy's standard deviation.
        max_log_std: The largest one.
        terminations: Whether the model learns when episodes end. Targets respect ends anyhow.
        horizon: Steps that the model is rolled out for; windows have one row more.
        rho: Weight of a step by that of the step before.
        consistency: Weight of the loss of latent states.
        reward: Weight of the loss of rewards.
        value: Weight of the loss of values.
        termination: Weight of the loss of terminations.
        entropy: Weight of the policy's entropy, of actions that are numbers.
        squashed_entropy: Whether that entropy is of the actions. The public code has since December
            2024 that of the normal before the tanh, which grows without bound.
        choice_entropy: Weight of the entropy of choices, which the public code does not know; so
            much keeps the policy from settling on one before values say which.
        tau: How far the target values, and the scale of the policy's loss, move in an update.
        discount: Of the next value; 0 takes that of the length of episodes, of several tasks that
            are told apart (env.task_one_hot) for each.
        min_std: Schedule over updates of the least deviation that the planner refits to, where it
            is above planner.min_std. TD-MPC (arXiv:2203.04955) has "linear(0.5,0.05,25000)".
        model_opt: Optimizer of everything but the policy; the public code clips by the norm of
            all of it, and the encoder has a rate of its own.
        policy_opt: Optimizer of the policy.
    """

    encoder_layers: Count = 2
    encoder_units: Count = 256
    units: Count = 512
    latent: Count = 512
    simnorm: Count = 8
    task_size: Count = 96
    channels: Count = 32
    shift: Whole = 3
    num_q: Annotated[int, Range(2)] = 5
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.01
    bins: Annotated[int, Range(2)] = 101
    low: Within = -10.0
    high: Within = 10.0
    min_log_std: Within = -10.0
    max_log_std: Within = 2.0
    terminations: bool = False
    horizon: Count = 3
    rho: Share = 0.5
    consistency: NonNegative = 20.0
    reward: NonNegative = 0.1
    value: NonNegative = 0.1
    termination: NonNegative = 1.0
    entropy: NonNegative = 1e-4
    squashed_entropy: bool = False
    choice_entropy: NonNegative = 1e-2
    tau: Annotated[float, Range(0, 1, above=True)] = 0.01
    discount: Share = 0.0
    min_std: str = "0"
    model_opt: OptimizerConfig = OptimizerConfig(
        lr=3e-4, eps=1e-8, clip=20.0, weight_decay=0, adam="standard", rates={"encoder": 0.3}
    )
    policy_opt: OptimizerConfig = OptimizerConfig(
        lr=3e-4, eps=1e-5, clip=20.0, weight_decay=0, adam="standard"
    )

    def __post_init__(self) -> None:
        """Raises an OptionError where options do not fit each other."""
        super().__post_init__()
        check_schedules(self, "min_std")
        check_multiple(self, "latent", "simnorm")
        for low, high in (("low", "high"), ("min_log_std", "max_log_std")):
            least, largest = getattr(self, low), getattr(self, high)
            if least >= largest:
                refuse(self, f"{AT}{low} is {least:g}; expected less than {AT}{high}, {largest:g}")


def episode_discount(length: int) -> float:
    """Returns the public code's discount: clip((n - 1) / n, 0.95, 0.995), n = length / 5.

    Args:
        length: Decisions of an episode.
    """
    steps = length / DISCOUNT_SHARE
    return min(max((steps - 1) / steps, DISCOUNT_LOW), DISCOUNT_HIGH)
