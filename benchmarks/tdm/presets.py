"""Every number of the experiments, in two sizes.

"small" is meant for half an hour on two CPU cores, collection included; "full" is for a GPU, and
its numbers are not tried out yet. Planners, noise and sizes of "small" were chosen by seed 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from benchmarks.tdm.ensemble import EnsembleConfig
from benchmarks.tdm.fitting import Fitting
from common.dynamics.kl import KLConfig
from common.dynamics.rssm import RSSMConfig
from common.envs.config import EnvConfig
from common.errors import UserError, nearest
from common.model.config import WorldModelConfig
from common.nets.coders import DecoderConfig, EncoderConfig
from common.nets.heads import HeadConfig
from common.planner import PlannerConfig
from common.tokens.config import TDMConfig


@dataclasses.dataclass(frozen=True)
class Family:
    """Variants of one body: on some of them a generalist learns, others it never sees.

    Attributes:
        base: The task whose body varies, such as "dmc_cartpole_swingup".
        members: Numbers of the variants that it learns on.
        held_out: Numbers of the variants that it is tried on.
    """

    base: str
    members: tuple[int, ...]
    held_out: tuple[int, ...]

    def __post_init__(self) -> None:
        """Raises a UserError where a variant is on both sides."""
        both = set(self.members) & set(self.held_out)
        if both:
            raise UserError(f"variants {sorted(both)} of {self.base} are members and held out")

    @property
    def training(self) -> tuple[str, ...]:
        """Tasks that the generalist learns on."""
        return tuple(f"{self.base}@{number}" for number in self.members)

    @property
    def targets(self) -> tuple[str, ...]:
        """Tasks that it is tried on."""
        return tuple(f"{self.base}@{number}" for number in self.held_out)


@dataclasses.dataclass(frozen=True)
class Preset:
    """One size of all experiments.

    Attributes:
        name: Its name.
        seeds: Seeds of weights, windows, planner and start states.
        tasks: Tasks of the experiment "specialist".
        families: Families of "few-shot" and "zero-shot".
        shots: Episodes of the target in "few-shot".
        policies: Who collects the data, as the command "collect" writes it, and the
            episodes of each.
        collector: How policies plan that plan with the simulator.
        training: Presets and options of agents that collect, as words of a command line.
        repeats: Simulator steps for each action, by the domain of the task.
        time_limit: Longest episode in simulator steps; 0 for the suite's own.
        held_back: Episodes of every task that errors are measured on, none learns from them.
        context: Rows that every contender sees before it predicts, C.
        horizon: Steps of the open-loop error, H.
        windows: Windows of the open-loop error.
        samples: Imagined trajectories whose mean is a prediction, for contenders that draw.
        episodes: Episodes played for each cell, side by side.
        planner: The planner, the same for all contenders.
        tdm: The token-level transformer; the cloned policy has its tokens and sizes.
        ensemble: The ensemble of networks.
        rssm: The recurrent state-space model.
        fits: How each learns, by "tdm", "ensemble", "rssm", "generalist", "policy" and
            "fine-tuned". The others have more updates than the TDM, and learn faster still: on a
            large body an update of the TDM takes many times as long.
    """

    name: str
    seeds: tuple[int, ...]
    tasks: tuple[str, ...]
    families: tuple[Family, ...]
    shots: tuple[int, ...]
    policies: Mapping[str, int]
    collector: PlannerConfig
    training: tuple[str, ...]
    repeats: Mapping[str, int]
    time_limit: int
    held_back: int
    context: int
    horizon: int
    windows: int
    samples: int
    episodes: int
    planner: PlannerConfig
    tdm: TDMConfig
    ensemble: EnsembleConfig
    rssm: WorldModelConfig
    fits: Mapping[str, Fitting]

    def env(self, task: str) -> EnvConfig:
        """How the environments of a task are built, for data and for play."""
        domain = max((one for one in self.repeats if f"dmc_{one}_" in task), key=len, default="")
        return EnvConfig(
            action_repeat=self.repeats.get(domain, 0),
            time_limit=self.time_limit,
            pixels=False,
            state=True,
        )

    @property
    def best_return(self) -> float:
        """The best possible return: a reward of 1 for each simulator step."""
        return float(self.time_limit or 1000)


def preset(name: str) -> Preset:
    """Returns a preset by its name.

    Raises:
        UserError: There is none of that name.
    """
    if name not in PRESETS:
        raise UserError(f"unknown preset {name!r}{nearest(name, PRESETS)}")
    return PRESETS[name]


_TASKS = (
    "dmc_cartpole_swingup",
    "dmc_reacher_easy",
    "dmc_finger_spin",
    "dmc_walker_walk",
    "dmc_cheetah_run",
)
_REPEATS = {"cartpole": 8, "reacher": 4, "finger": 4, "walker": 4, "cheetah": 4}


def _rssm(deter: int, units: int) -> WorldModelConfig:
    """A world model of vectors; they come to it standardised."""
    return WorldModelConfig(
        rssm=RSSMConfig(latent="gaussian", stoch=30, deter=deter, hidden=deter),
        encoder=EncoderConfig(layers=2, units=units),
        decoder=DecoderConfig(layers=2, units=units),
        reward=HeadConfig(layers=2, units=units),
        kl=KLConfig(scale=0.001, balance=0.8, free=0.0),
        predict_discount=False,
    )


SMALL = Preset(
    name="small",
    seeds=(1, 2, 3),
    tasks=_TASKS,
    families=(Family("dmc_cartpole_swingup", (1, 2, 3, 4, 5, 6), (7, 8)),),
    shots=(1, 3, 10),
    policies={"random": 12, "simulator": 8, "simulator:0.5": 12},
    collector=PlannerConfig(
        method="mppi", horizon=10, iterations=1, candidates=24, warm_start=True
    ),
    training=("--configs", "quickstart"),
    repeats=_REPEATS,
    time_limit=320,
    held_back=4,
    context=3,
    horizon=10,
    windows=64,
    samples=5,
    episodes=3,
    planner=PlannerConfig(method="mppi", horizon=10, iterations=1, candidates=48, warm_start=True),
    tdm=TDMConfig(
        tokeniser="uniform",
        bins=64,
        order="parallel",
        decode="mean",
        context=3,
        layers=2,
        heads=2,
        width=64,
        units=128,
    ),
    ensemble=EnsembleConfig(),
    rssm=_rssm(64, 64),
    fits={
        "tdm": Fitting(updates=800, batch=16, window=8, lr=3e-3, jitter=0.1),
        "ensemble": Fitting(updates=3000, batch=16, window=8, lr=1e-3),
        "rssm": Fitting(updates=1500, batch=16, window=8, lr=1e-3),
        "generalist": Fitting(updates=2000, batch=16, window=8, lr=3e-3, jitter=0.1),
        "policy": Fitting(updates=2000, batch=16, window=8, lr=3e-3, jitter=0.05),
        "fine-tuned": Fitting(updates=200, batch=16, window=8, lr=1e-4, jitter=0.1),
    },
)

FULL = dataclasses.replace(
    SMALL,
    name="full",
    tasks=(*_TASKS, "dmc_walker_run", "dmc_cup_catch"),
    families=tuple(
        Family(base, tuple(range(1, 17)), (17, 18, 19, 20))
        for base in ("dmc_cartpole_swingup", "dmc_walker_walk", "dmc_cheetah_run")
    ),
    shots=(1, 3, 10, 30),
    # One training of an agent gives both of its levels.
    policies={"random": 10, "simulator": 5, "simulator:0.5": 5, "50e3": 10, "200e3": 10},
    collector=PlannerConfig(
        method="mppi", horizon=12, iterations=1, candidates=100, warm_start=True
    ),
    repeats=dict.fromkeys(_REPEATS, 2) | {"cartpole": 8, "reacher": 4, "cup": 4},
    time_limit=0,
    held_back=8,
    context=16,
    horizon=25,
    windows=512,
    episodes=10,
    planner=PlannerConfig(method="mppi", horizon=15, iterations=2, candidates=256, warm_start=True),
    tdm=dataclasses.replace(
        SMALL.tdm, bins=1024, context=16, layers=4, heads=4, width=256, units=512
    ),
    ensemble=EnsembleConfig(layers=3, units=256),
    rssm=_rssm(256, 256),
    fits={
        "tdm": Fitting(updates=20_000, batch=64, window=24, lr=5e-4),
        "ensemble": Fitting(updates=60_000, batch=64, window=24, lr=5e-4),
        "rssm": Fitting(updates=40_000, batch=64, window=24, lr=5e-4),
        "generalist": Fitting(updates=60_000, batch=64, window=24, lr=5e-4),
        "policy": Fitting(updates=60_000, batch=64, window=24, lr=5e-4),
        "fine-tuned": Fitting(updates=4000, batch=64, window=24, lr=1e-4),
    },
)

PRESETS = {one.name: one for one in (SMALL, FULL)}
"""The presets by name."""
