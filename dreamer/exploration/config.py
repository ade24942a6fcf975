"""Options of exploration."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from common.checks import Count, NonNegative, Options, Range, Share, Whole
from common.learning.normalize import StreamNormConfig
from common.learning.optimizers import OptimizerConfig
from common.nets.heads import HeadConfig
from common.nets.layers import Activation, Init, Norm


@dataclasses.dataclass(frozen=True)
class EnsembleConfig(Options):
    """Models that predict one step: Plan2Explore seeks what they disagree about, and
    ``behavior.penalty`` keeps away from it.

    Attributes:
        members: Models, each with random weights of its own.
        target: What they predict of the next latent state: its sample ("stoch"), its
            deterministic part ("deter") or both as heads see it ("feature"); or what the encoder
            makes of the next observation ("embed").
        layers: Hidden layers of each.
        units: Units of each hidden layer.
        activation: Activation of the hidden layers.
        norm: "layer" or "rms" normalises the hidden layers, "none" does not.
        init: How kernels are drawn: "glorot" or "trunc_normal" (V3).
    """

    members: Annotated[int, Range(2)] = 10
    target: Literal["stoch", "deter", "feature", "embed"] = "stoch"
    layers: Whole = 4
    units: Count = 400
    activation: Activation = "elu"
    norm: Norm = "none"
    init: Init = "glorot"


@dataclasses.dataclass(frozen=True)
class CuriosityConfig(Options):
    """Episodic curiosity: which observations are far from all that an episode has shown so far.

    Attributes:
        steps: Agent steps within which one observation counts as reachable from another.
        gap: How many times as many steps two have to be apart to count as not reachable.
        slots: Observations that the memory of an episode holds.
        replacement: Which one goes where a full memory takes in another: a "random" one, or the
            oldest ("fifo").
        threshold: Similarity to the memory below which an observation is taken in.
        percentile: Which percentile of its similarities to all in the memory that is.
        layers: Hidden layers of the network that compares two observations.
        units: Units of each hidden layer.
        activation: Activation of the hidden layers.
        norm: "layer" or "rms" normalises the hidden layers, "none" does not.
        init: How kernels are drawn: "glorot" or "trunc_normal" (V3).
    """

    steps: Count = 5
    gap: Count = 5
    slots: Annotated[Count, Range(high=100_000)] = 200
    replacement: Literal["random", "fifo"] = "random"
    threshold: Share = 0.5
    percentile: Annotated[float, Range(0, 100)] = 90.0
    layers: Whole = 4
    units: Count = 512
    activation: Activation = "relu"
    norm: Norm = "layer"
    init: Init = "glorot"

    @property
    def least_rows(self) -> int:
        """Rows of a window that holds two observations of which one is not reachable."""
        return self.steps * self.gap + 2


@dataclasses.dataclass(frozen=True)
class ExplorationConfig(Options):
    """What collects experience in the place of the task's policy, which is evaluated all the same.

    Attributes:
        method: "plan2explore" seeks what an ensemble of models disagrees about; "surprise" what the
            world model predicts badly, which noise is too; "curiosity" what is many steps from all
            that the episode has shown; "none" explores by the task's own policy.
        scale: Weight of the intrinsic reward.
        task_scale: Weight of the task's reward beside it; 0 explores without a task.
        until: Frames after which the task's policy collects; 0 for never.
        surprise: What counts as a bad prediction: "kl", how far an observation moves the model's
            belief, or "loss", that and how badly the observation is then reconstructed.
        intrinsic_norm: Normalisation of the imagined rewards, the task's share included.
        ensemble: Models of "plan2explore", and others of ``behavior.penalty``.
        curiosity: Memory and network of "curiosity".
        head: Predicts the reward of a state, for "surprise" and "curiosity".
        opt: Optimizer of ensembles, network and head.
    """

    method: Literal["none", "plan2explore", "surprise", "curiosity"] = "none"
    scale: NonNegative = 1.0
    task_scale: NonNegative = 0.0
    until: Whole = 0
    surprise: Literal["loss", "kl"] = "loss"
    intrinsic_norm: StreamNormConfig = StreamNormConfig()
    ensemble: EnsembleConfig = EnsembleConfig()
    curiosity: CuriosityConfig = CuriosityConfig()
    head: HeadConfig = HeadConfig(likelihood="symlog")
    opt: OptimizerConfig = OptimizerConfig(lr=3e-4)
