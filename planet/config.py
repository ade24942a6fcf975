"""All options of PlaNet. The defaults are the paper's (arXiv:1811.04551)."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal, Self

from common.checks import AT, NonNegative, Range, refuse
from common.dynamics.kl import KLConfig
from common.dynamics.rssm import RSSMConfig
from common.envs.config import EnvConfig
from common.envs.registry import episode_steps, split
from common.learning.constraint import ConstraintConfig, check_cost
from common.learning.optimizers import OptimizerConfig
from common.model.config import WorldModelConfig
from common.nets.coders import DecoderConfig, EncoderConfig
from common.nets.heads import HeadConfig
from common.planner import PlannerConfig
from common.replay.config import ReplayConfig
from common.run.config import RunConfig, Settings
from common.tokens.config import TDMConfig
from planet.tdmpc2.config import TDMPC2Config, episode_discount

PLANET_MODEL = WorldModelConfig(
    rssm=RSSMConfig(
        latent="gaussian",
        stoch=30,
        deter=200,
        hidden=200,
        cell="original_gru",
        activation="relu",
        std="softplus",
        min_std=0.1,
    ),
    encoder=EncoderConfig(depth=32, layers=3, units=300, activation="relu"),
    decoder=DecoderConfig(depth=32, layers=3, units=300, activation="relu"),
    reward=HeadConfig(layers=3, units=300, activation="relu"),
    # One plain KL with free nats per step; see common.dynamics.kl.
    kl=KLConfig(scale=1.0, balance=0.5, free=3.0, free_avg=False),
    predict_discount=False,
    reward_scale=10.0,
)
"""The world model of PlaNet's public code; reward scale and heads are the code's."""


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """A whole run of PlaNet.

    Attributes:
        model: The model that is learned and planned in: "world_model", PlaNet's latent one, or
            "tdm", the token-level transformer, for state vectors only, or "tdmpc2", TD-MPC2's,
            which learns values and a policy too.
        world_model: The world model.
        tdm: The token-level transformer.
        tdmpc2: TD-MPC2's networks and losses.
        jitter: Standard deviation of noise that the token-level transformer learns under, on
            observations and rewards, as units of its tokeniser. Without it a small replay is
            learned by heart.
        image_bits: Bits that the world model sees of each of an image's 8; fewer than 8 are
            filled up with noise again, so that the densities stay continuous.
        planner: How actions are planned.
        exploration_noise: Standard deviation of noise added to continuous actions while
            collecting; for discrete actions the probability of a random one.
        model_opt: Optimizer of the model.
        constraint: What it costs to do what must not be done; of the world model.
    """

    task: str = "dmc_cheetah_run"
    env: EnvConfig = EnvConfig(action_repeat=-1)
    replay: ReplayConfig = ReplayConfig(batch=50, length=50, sampling="episodes")
    run: RunConfig = RunConfig(prefill=0, prefill_episodes=5, pretrain=100, updates_per_episode=100)
    model: Literal["world_model", "tdm", "tdmpc2"] = "world_model"
    world_model: WorldModelConfig = PLANET_MODEL
    tdm: TDMConfig = TDMConfig()
    tdmpc2: TDMPC2Config = TDMPC2Config()
    jitter: NonNegative = 0.0
    image_bits: Annotated[int, Range(1, 8)] = 5
    planner: PlannerConfig = PlannerConfig()
    exploration_noise: NonNegative = 0.3
    model_opt: OptimizerConfig = OptimizerConfig(lr=1e-3, eps=1e-4, clip=1000.0, weight_decay=0)
    constraint: ConstraintConfig = ConstraintConfig()

    def __post_init__(self) -> None:
        """Raises an OptionError where options do not fit each other."""
        super().__post_init__()
        check_cost(self, self.constraint, self.env.counts_cost, self.world_model.predict_cost)
        if self.constraint.counts and self.model != "world_model":
            fault = f"{AT}model {self.model} predicts no costs; set {AT}constraint.method none"
            refuse(self, f"{fault}, or {AT}model world_model")

    def settled(self) -> Self:
        """Returns it with the discount of TD-MPC2 that the length of episodes asks for.

        That of several tasks which are told apart stays 0: each has its own. A world model gets a
        head for costs where they are counted.
        """
        if self.model == "world_model":
            model = self.world_model.with_cost(self.env.counts_cost)
            return dataclasses.replace(self, world_model=model)
        told = self.env.task_one_hot and len(set(split(self.task))) > 1
        if self.model == "tdm" or self.tdmpc2.discount or told:
            return self
        steps = episode_steps(self.task, self.env)
        discount = episode_discount(steps) if steps else 0.0
        return dataclasses.replace(self, tdmpc2=dataclasses.replace(self.tdmpc2, discount=discount))

    def remarks(self, platform: str) -> list[str]:
        """What to warn of where it runs on a platform, such as "cpu"; a line each."""
        found = super().remarks(platform) + self.planner.remarks()
        if self.model != "tdm":
            found += self.world_model.remarks(platform)
        elif self.world_model.precision != "float32":
            found.append("world_model.precision is not of model tdm, which has float32")
        if self.model == "tdmpc2" and self.model_opt != Config.model_opt:
            found.append("model_opt is not of model tdmpc2, which has tdmpc2.model_opt")
        return found
