"""Options that a run has whatever the agent: its schedule, and what it learns from."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal, Self

from common.checks import AT, Count, NonNegative, Options, Range, Seed, Whole, refuse
from common.envs.config import EnvConfig
from common.errors import UserError
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
            updates per step, 0 for those of ``train_ratio`` instead.
        train_ratio: Replayed rows for each row that is collected, all environments and the rows
            of resets counted, as DreamerV3 counts them; 0 for the updates of ``train_every``.
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
        devices: Devices of every host that divide a batch; 0 for all. The result is that of
            one device, to rounding; acting stays on the first.
        coordinator: Where the processes of a training meet, and which of them this one is:
            host:port,amount,index, with the host of process 0 and a port that is free there with
            the next one. Each steps its share of env.amount and has its share of a batch. Empty
            for one process.
        video: Whether evaluations and imagination are filmed.
        loggers: Where metrics and videos go as well: "wandb", Weights & Biases.
    """

    frames: Count = 1_000_000
    data: str = ""
    updates: Count = 10_000
    prefill: Whole = 1000
    prefill_episodes: Whole = 0
    pretrain: Whole = 100
    train_every: NonNegative = 5.0
    train_ratio: NonNegative = 0.0
    updates_per_episode: Whole = 0
    eval_every: Whole = 20_000
    eval_episodes: Annotated[Whole, Range(high=10_000)] = 10
    log_every: Count = 2_000
    report_every: Whole = 50_000
    checkpoint_every: Whole = 300
    checkpoints: Count = 2
    random_episodes: Annotated[Whole, Range(high=10_000)] = 10
    devices: Whole = 1
    coordinator: str = ""
    video: bool = True
    loggers: tuple[Literal["wandb"], ...] = ()

    def __post_init__(self) -> None:
        """Raises an OptionError where two options, or none, say how many updates there are."""
        super().__post_init__()
        if bool(self.train_every) == bool(self.train_ratio):
            refuse(
                self,
                f"{AT}train_every is {self.train_every:g} and {AT}train_ratio is "
                f"{self.train_ratio:g}; one of them says how many updates, set the other one 0",
            )


@dataclasses.dataclass(frozen=True)
class Settings(Options):
    """What the run loop reads of a configuration; every agent's configuration extends it.

    Attributes:
        task: What to learn: dmc_<domain>_<task>, atari_<game>, memory_<world>, maze_<world>,
            rwrl_<domain>_<task>, gym_<id>, crafter_<world>, minigrid_<id>, vizdoom_<id>,
            metaworld_<task>, dmlab_<level> or <module>:<factory>; several, separated by commas,
            take turns by episode.
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

    def __post_init__(self) -> None:
        """Raises an OptionError where rows come faster than they are learned from."""
        super().__post_init__()
        rows = self.replay.batch * self.replay.length
        by_episode = self.run.updates_per_episode
        if self.replay.online and not by_episode and self.updates_per_step() * rows < 1:
            name, wanted = "train_every", f"at most {rows}"
            if self.run.train_ratio:
                name, wanted = "train_ratio", "at least 1"
            refuse(
                self,
                f"{AT}run.{name} is {getattr(self.run, name):g}; {AT}replay.online true, which "
                f"learns from every row, needs {wanted}",
            )

    def updates_per_step(self) -> float:
        """Updates for each step of the clock that ``run.train_ratio`` or ``train_every`` has."""
        if self.run.train_ratio:
            return self.run.train_ratio / (self.replay.batch * self.replay.length)
        return 1 / self.run.train_every

    def settled(self) -> Self:
        """Returns it with what follows from several options written out, as a run keeps it."""
        return self

    def remarks(self, platform: str) -> list[str]:
        """What to warn of where it runs on a platform, such as "cpu"; a line each."""
        del platform
        return self.env.challenge.remarks()


def check_fleet(config: Settings) -> None:
    """Raises a UserError where runs with these options cannot learn in one program."""
    if config.run.updates_per_episode:
        raise UserError(
            f"run.updates_per_episode is {config.run.updates_per_episode}; episodes of a fleet's "
            "members end at other times, give --run.updates_per_episode 0 and --run.train_every"
        )
    if config.run.coordinator:
        raise UserError("a fleet learns in one process; leave out --run.coordinator")
    if config.run.devices != 1:
        raise UserError("a fleet learns on one device of one process; set --run.devices 1")


def environments_each(config: Settings, processes: int) -> int:
    """Returns how many environments each process steps.

    Raises:
        UserError: They, or the rows of a batch, cannot be divided.
    """
    divided = {"replay.batch": config.replay.batch}
    if not config.run.data:
        divided["env.amount"] = config.env.amount
    for name, amount in divided.items():
        if amount % processes:
            raise UserError(
                f"{name} is {amount}, which {processes} processes cannot divide; make it a "
                f"multiple of {processes}"
            )
    return 1 if config.run.data else config.env.amount // processes
