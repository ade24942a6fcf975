"""Options of the environments."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from common.checks import Count, NonNegative, Options, Range, Whole
from common.config import update
from common.envs.challenges.config import ChallengeConfig


@dataclasses.dataclass(frozen=True)
class EnvConfig(Options):
    """How environments are built.

    Attributes:
        amount: Environments that run in parallel.
        workers: "process" gives environments processes of their own, "none" steps
            all of them in this process, "auto" takes processes for more than one
            (Atari brings its own threads and ignores this). "ray" takes actors of the Ray
            cluster of the variable RAY_ADDRESS, or of a Ray that is started on this machine.
            Evaluations do as training does.
        per_worker: Environments of one process or Ray actor, which step one after the other;
            0 takes 1 for processes and 4 for Ray. More save time where an environment is cheap
            against a message. One whose process dies takes the others with it. Ignored where
            environments step in this process, and by Atari.
        timeout: Seconds that a process or Ray actor has for a step or a reset of its
            environments, or to build them; then it is ended by force and they start anew, as
            after a crash. 0 waits for ever.
        action_repeat: Simulator steps per action; 0 takes the suite's usual number
            (2 for control-suite tasks, 4 for Atari and DeepMind Lab, 1 for everything else), -1 the
            number with which PlaNet was published for the task, else the usual one.
        image_size: Height and width of rendered images, in pixels.
        stack: Images that each image holds along its channels, the newest last; for agents
            without a memory, such as TD-MPC2. Not for Atari.
        pixels: Whether control-suite tasks show their camera image to the agent.
        state: Whether control-suite tasks show their state vectors to the agent.
        task_one_hot: Whether the rows of several tasks say which one is played: a one-hot vector
            named "task". TD-MPC2 then has an embedding, an action mask and a discount of each.
        camera: Camera of control-suite tasks; -1 takes the usual one of each task.
        render: "full" draws as published; "fast" leaves out shadows, reflections and
            multisampling, which is many times faster in software.
        time_limit: Longest episode in simulator steps; 0 takes the suite's own limit.
        sticky: Probability with which Atari repeats the previous action.
        all_actions: Whether Atari offers all 18 actions or only those the game uses.
        noops: Largest number of no-op actions at the start of an Atari episode.
        grayscale: Whether Atari images have one channel or three.
        channels: Where uint8 images of Gymnasium environments have their channels: "last" is
            [height, width, channels], "first" is [channels, height, width].
        kwargs: Keyword arguments for the constructor of a Gymnasium environment, or of one of
            the worlds of this package.
        cost: Whether ``info["cost"]`` of a Gymnasium environment counts what must not be done.
        challenge: Delays, noise, changing bodies and constraints; docs/challenges.md.
    """

    amount: Annotated[Count, Range(high=1024)] = 1
    workers: Literal["auto", "none", "process", "ray"] = "auto"
    per_worker: Annotated[Whole, Range(high=1024)] = 0
    timeout: NonNegative = 600.0
    action_repeat: Annotated[int, Range(-1), Range(high=1000)] = 0
    image_size: Annotated[int, Range(32), Range(high=1024)] = 64
    stack: Annotated[Count, Range(high=16)] = 1
    pixels: bool = True
    state: bool = False
    task_one_hot: bool = False
    camera: Annotated[int, Range(-1)] = -1
    render: Literal["full", "fast"] = "full"
    time_limit: Annotated[Whole, Range(high=2**31 - 1)] = 0
    sticky: Annotated[float, Range(0, 1, below=True)] = 0.25
    all_actions: bool = True
    noops: Annotated[Whole, Range(high=10_000)] = 30
    grayscale: bool = True
    channels: Literal["last", "first"] = "last"
    kwargs: dict = dataclasses.field(default_factory=dict)
    cost: bool = False
    challenge: ChallengeConfig = ChallengeConfig()

    @property
    def counts_cost(self) -> bool:
        """Whether rows say what a step did that it must not."""
        return self.cost or bool(self.challenge.safety.constraints)

    @staticmethod
    def recorded_challenges(env: Mapping[str, Any]) -> tuple[str, ...]:
        """Names the challenges that are on in these options as a file holds them.

        Raises:
            UserError: They are damaged, or of another version.
        """
        return update(EnvConfig(), {"challenge": env.get("challenge", {})}).challenge.named()

    def after(self, episodes: int) -> EnvConfig:
        """Returns it for environments that have so many episodes behind them, each of them."""
        perturb = self.challenge.perturb
        if not (perturb.param and episodes):
            return self
        perturb = dataclasses.replace(perturb, episodes=perturb.episodes + episodes)
        challenge = dataclasses.replace(self.challenge, perturb=perturb)
        return dataclasses.replace(self, challenge=challenge)
