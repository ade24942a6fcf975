"""Options of the environments."""

from __future__ import annotations

import dataclasses

from common.errors import UserError, nearest

WORKERS = ("auto", "none", "process")
RENDERS = ("full", "fast")


@dataclasses.dataclass(frozen=True)
class EnvConfig:
    """How environments are built.

    Attributes:
        amount: Environments that run in parallel.
        workers: "process" gives each environment a process of its own, "none" steps
            all of them in this process, "auto" takes processes for more than one
            (Atari brings its own threads and ignores this).
        action_repeat: Simulator steps per action; 0 takes the suite's usual number
            (2 for control-suite tasks, 4 for Atari, 1 for everything else), -1 the number
            with which PlaNet was published for the task, else the usual one.
        image_size: Height and width of rendered images, in pixels.
        pixels: Whether control-suite tasks show their camera image to the agent.
        state: Whether control-suite tasks show their state vectors to the agent.
        camera: Camera of control-suite tasks; -1 takes the usual one of each task.
        render: "full" draws as published; "fast" leaves out shadows, reflections and
            multisampling, which is many times faster in software.
        time_limit: Longest episode in simulator steps; 0 takes the suite's own limit.
        sticky: Probability with which Atari repeats the previous action.
        all_actions: Whether Atari offers all 18 actions or only those the game uses.
        noops: Largest number of no-op actions at the start of an Atari episode.
        grayscale: Whether Atari images have one channel or three.
        kwargs: Keyword arguments for the constructor of a Gymnasium environment.
    """

    amount: int = 1
    workers: str = "auto"
    action_repeat: int = 0
    image_size: int = 64
    pixels: bool = True
    state: bool = False
    camera: int = -1
    render: str = "full"
    time_limit: int = 0
    sticky: float = 0.25
    all_actions: bool = True
    noops: int = 30
    grayscale: bool = True
    kwargs: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises a UserError where a value is out of its range."""
        for name, choices in (("workers", WORKERS), ("render", RENDERS)):
            value = getattr(self, name)
            if value not in choices:
                raise UserError(f"unknown env.{name} {value!r}{nearest(value, choices)}")
        for name, least in (
            ("amount", 1),
            ("action_repeat", -1),
            ("image_size", 32),
            ("camera", -1),
            ("time_limit", 0),
            ("noops", 0),
        ):
            value = getattr(self, name)
            if value < least:
                raise UserError(f"env.{name} is {value}; expected at least {least}")
        if not 0 <= self.sticky < 1:
            raise UserError(f"env.sticky is {self.sticky}; expected a probability below 1")
