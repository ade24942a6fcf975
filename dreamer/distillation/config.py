"""Options of distillation."""

from __future__ import annotations

import dataclasses
from typing import Literal

from common.checks import AT, Count, NonNegative, Options, Whole, refuse
from common.learning.optimizers import OptimizerConfig


@dataclasses.dataclass(frozen=True)
class DistillConfig(Options):
    """A small actor that acts in the place of the learner, and is taught what that would do.

    Attributes:
        kind: "gru" remembers what it saw, "mlp" sees the newest observation alone; "none" lets
            the learner act itself.
        units: Units of its hidden layers, and of its recurrent state.
        layers: Dense layers of its own between a vector and the recurrent or the last layer.
        depth: Channels of its first convolution, where there are images.
        ratio: Steps of distillation on the rows of every update of the learner.
        policy_scale: Weight of the divergence from the learner's policy to its own.
        value_scale: Weight of the squared error of its value; 0 teaches none.
        regularizer: Weight of the same divergence in the loss of the learner's policy, which it
            holds near the small actor's; 0 leaves the learner alone.
        opt: Optimizer of the small actor.
    """

    kind: Literal["none", "gru", "mlp"] = "none"
    units: Count = 64
    layers: Whole = 1
    depth: Count = 8
    ratio: Count = 1
    policy_scale: NonNegative = 1.0
    value_scale: NonNegative = 0.5
    regularizer: NonNegative = 0.0
    opt: OptimizerConfig = OptimizerConfig(lr=1e-3)

    def __post_init__(self) -> None:
        """Raises an OptionError where nothing would be taught."""
        super().__post_init__()
        if self.kind != "none" and not self.policy_scale:
            refuse(self, f"{AT}policy_scale is 0, which teaches no policy; set it above 0")
        if self.kind == "none" and self.regularizer:
            found = f"{AT}regularizer is {self.regularizer:g} and nothing is taught"
            refuse(self, f"{found}; needed is {AT}kind gru or mlp")
