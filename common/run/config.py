"""Options that a run has whatever the agent: its schedule, and what it learns from."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal, Self

from common.checks import Count, Options, Positive, Range, Seed, Whole
from common.envs.config import EnvConfig
from common.replay.config import ReplayConfig


@dataclasses.dataclass(frozen=True)
class RunConfig(Options):
    """When what happens during a run.

    Frames are simulator steps, action repeat included; agent steps are actions. With data,
    no step is taken to learn, and every interval below that is in frames is in updates.

    Attributes:
        frames: Length of the run, in frames of all environments together.
        data: Folder of episodes to learn from instead of collecting any: that of a run, of a
            collection, or of .npz files in the episode format. It is only read.
        updates: Length of a run with data, in updates.
        prefill: Agent steps by a random policy before learning starts.
        prefill_episodes: Episodes that the prefill must hold as well, of several tasks so many
            for each.
        pretrain: Updates right after the prefill.
        train_every: Agent steps per update, all environments counted; below 1 for several
            updates per step.
        updates_per_episode: Updates after every episode, as PlaNet learns, of several tasks
            after as many episodes as there are tasks; 0 for those of train_every instead.
        eval_every: Frames between evaluations; 0 for none but the last.
        eval_episodes: Episodes of an evaluation; 0 for no evaluations at all.
        log_every: Frames between two lines of metrics.
        report_every: Frames between two open-loop videos; 0 for none.
        checkpoint_every: Seconds between two checkpoints.
        checkpoints: Checkpoints to keep; where the newest is damaged, a run goes on from the one
            before.
        random_episodes: Episodes by which the random policy is scored at the start, as
            the baseline that the report draws; 0 for none.
        video: Whether evaluations and imagination are filmed.
        loggers: Where metrics and videos go as well: "wandb", Weights & Biases.
    """

    frames: Count = 1_000_000
    data: str = ""
    updates: Count = 10_000
    prefill: Whole = 1000
    prefill_episodes: Whole = 0
    pretrain: Whole = 100
    train_every: Positive = 5.0
    updates_per_episode: Whole = 0
    eval_every: Whole = 20_000
    eval_episodes: Annotated[Whole, Range(high=10_000)] = 10
    log_every: Count = 2_000
    report_every: Whole = 50_000
    checkpoint_every: Whole = 300
    checkpoints: Count = 2
    random_episodes: Annotated[Whole, Range(high=10_000)] = 10
    video: bool = True
    loggers: tuple[Literal["wandb"], ...] = ()


@dataclasses.dataclass(frozen=True)
class Settings(Options):
    """What the run loop reads of a configuration; every agent's configuration extends it.

    Attributes:
        task: What to learn: dmc_<domain>_<task>, atari_<game>, gym_<id> or <module>:<factory>;
            several, separated by commas, take turns by episode.
        seed: Seed of weights, environments, acting and replay.
        env: Environments.
        replay: Kept experience.
        run: Schedule of the run.
    """

    task: str = "dmc_walker_walk"
    seed: Seed = 0
    env: EnvConfig = EnvConfig()
    replay: ReplayConfig = ReplayConfig()
    run: RunConfig = RunConfig()

    def settled(self) -> Self:
        """Returns it with what follows from several options written out, as a run keeps it."""
        return self
