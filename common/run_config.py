"""The schedule of a training run, for every agent."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """When what happens during a run.

    Frames are simulator steps, action repeat included; agent steps are actions.

    Attributes:
        frames: Length of the run, in frames of all environments together.
        prefill: Agent steps by a random policy before learning starts.
        pretrain: Updates right after the prefill.
        train_every: Agent steps per update, all environments counted; below 1 for several
            updates per step.
        eval_every: Frames between evaluations; 0 for none but the last.
        eval_episodes: Episodes of an evaluation.
        log_every: Frames between two lines of metrics.
        report_every: Frames between two open-loop videos; 0 for none.
        checkpoint_every: Seconds between two checkpoints.
        checkpoints: Checkpoints to keep.
        random_episodes: Episodes by which the random policy is scored at the start, as
            the baseline that the report draws; 0 for none.
        video: Whether evaluations and imagination are filmed.
    """

    frames: int = 1_000_000
    prefill: int = 1000
    pretrain: int = 100
    train_every: float = 5.0
    eval_every: int = 20_000
    eval_episodes: int = 10
    log_every: int = 2_000
    report_every: int = 50_000
    checkpoint_every: int = 300
    checkpoints: int = 1
    random_episodes: int = 10
    video: bool = True
