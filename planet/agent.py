"""PlaNet: a model of the world, and a planner that searches for the next action in it.

One update is a gradient step of the model on replayed sequences, nothing else. To act, the
model takes in what was observed so far, the planner searches for the sequence of actions
with the highest predicted return, and its first action is taken (arXiv:1811.04551,
Algorithm 1). While collecting, noise is added to it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from common.agent import NORMALISERS, Agent, Latents, OpenLoop
from common.errors import UserError
from common.learning.constraint import (
    MULTIPLIER,
    check_head,
    initial_multiplier,
    next_multiplier,
)
from common.learning.optimizers import make_optimizer
from common.model.context import Context
from common.model.imagine import open_loop
from common.model.learn import ModelStep, learn_model
from common.model.world_model import WorldModel, world_model
from common.rows import COST
from common.spaces import ActionSpec, ObservationSpec
from common.types import Array, Key, Mode, Params, Rows
from planet.config import Config
from planet.controller import Carry, Controller
from planet.latent_model import Learned, latent_model, learned_part, quantize_images
from planet.model import PlannedModel
from planet.planner import make_searcher
from planet.tdmpc2.agent import make_tdmpc2
from planet.token_model import vector_model


class TrainState(NamedTuple):
    """Everything that an update changes.

    Attributes:
        params: Of the model, under its name.
        optimizer: State of its optimizer.
        normalisers: What is counted and not learned: of a world model "vectors", the statistics
            of its vectors.
    """

    params: dict[str, Params]
    optimizer: Any
    normalisers: dict[str, Any]


class PlanningAgent:
    """An agent that learns a model and plans in it; ``make_agent`` shows it as an Agent."""

    def __init__(self, name: str, model: PlannedModel, config: Config, actions: ActionSpec):
        """Builds planner and optimizer.

        Args:
            name: Of the model, in params and metrics.
            model: The model; its ``loss`` takes rows ``[B, T, ...]``.
            config: Planner, noise and optimizer.
            actions: The flat action vector.

        Raises:
            UserError: As of ``planet.planner.make_planner``.
        """
        self.name, self.model, self.config = name, model, config
        self.optimizer = make_optimizer(config.model_opt)
        searcher = make_searcher(model.rollout, config.planner, actions, model.guide)
        explore = config.exploration_noise, config.planner.explore
        self._controller = Controller(model, searcher, actions, *explore)

    def init(self, key: Key) -> TrainState:
        """Draws all weights."""
        params = self.model.init(key)
        return TrainState({self.name: params}, self.optimizer.init(params), {})

    def acting_params(self, state: TrainState) -> dict[str, Any]:
        """Returns what acting and reporting need of a state."""
        normalisers = {NORMALISERS: state.normalisers} if state.normalisers else {}
        return state.params | normalisers

    def initial_carry(self, num_envs: int) -> Carry:
        """Returns the memory before the first row."""
        return self._controller.initial_carry(num_envs)

    def act(
        self, params: Params, key: Key, carry: Carry, observation: Rows, mode: Mode
    ) -> tuple[Array, Carry]:
        """Chooses actions; see ``common.agent.Agent``."""
        return self._controller.act(self._learned(params), key, carry, observation, mode)

    def update(
        self, state: TrainState, key: Key, batch: Rows
    ) -> tuple[TrainState, dict[str, Array]]:
        """Takes one gradient step of the model."""
        params = state.params[self.name]
        grads, metrics = jax.grad(self.model.loss, has_aux=True)(params, key, batch)
        params, optimizer, more = self.optimizer.update(grads, state.optimizer, params)
        metrics = {f"{self.name}/{name}": value for name, value in (metrics | more).items()}
        return TrainState({self.name: params}, optimizer, {}), metrics

    def _learned(self, params: Params) -> Any:
        """Returns what the planned model takes of the parameters for acting."""
        return params[self.name]

    def latents(self) -> Latents | None:
        """Returns None: the model remembers rows, of which the replay has its own."""
        return None

    def report(self, params: Params, key: Key, batch: Rows) -> dict[str, OpenLoop]:
        """Returns nothing: there are no pictures."""
        return {}


class PlaNet(PlanningAgent):
    """The agent whose model is a world model, as published."""

    def __init__(self, model: WorldModel, config: Config):
        """Keeps the model; see ``PlanningAgent``."""
        planned = latent_model(model, config.image_bits)
        super().__init__("world_model", planned, config, model.actions)
        check_head(config.constraint, model.cost is not None)
        self._world_model = model
        self._context = Context(model, config.replay.latents, config.replay.burn_in)

    def init(self, key: Key) -> TrainState:
        """Draws all weights."""
        params, statistics, _ = self.model.init(key)
        optimizer = self.optimizer.init(params)
        counted = {"vectors": statistics} | initial_multiplier(self.config.constraint)
        return TrainState({self.name: params}, optimizer, counted)

    def update(
        self, state: TrainState, key: Key, batch: Rows
    ) -> tuple[TrainState, dict[str, Array]]:
        """Takes one gradient step of the world model."""
        state, step = self._step(state, key, batch)
        return state, step.metrics

    def latents(self) -> Latents | None:
        """Says how latent states are kept in the replay, where they are."""
        context = self._context

        def update(state: TrainState, key: Key, batch: Rows) -> tuple[TrainState, Any, Rows]:
            state, step = self._step(state, key, batch)
            return state, step.metrics, context.pack(step.losses.observed.states)

        pack = lambda carry: context.pack(carry.memory)  # noqa: E731
        return Latents(context.specs, pack, update) if context.specs else None

    def _step(self, state: TrainState, key: Key, batch: Rows) -> tuple[TrainState, ModelStep]:
        model, keys, params = self._world_model, jax.random.split(key, 3), state.params[self.name]
        batch = quantize_images(keys[0], batch, self.config.image_bits)
        statistics, before = state.normalisers["vectors"], jax.random.fold_in(key, 3)
        batch, start = self._context.begin(params, statistics, before, batch, float_images=True)
        shape = batch["reward"].shape
        step = learn_model(
            model, self.optimizer, params, state.optimizer, statistics,
            model.draw_noise(keys[1], shape), batch, start, model.draw_overshooting(keys[2], shape),
            float_images=True,
        )  # fmt: skip
        counted, metrics = {"vectors": step.statistics}, step.metrics
        if self.config.constraint.counts:
            weight = state.normalisers[MULTIPLIER]
            counted[MULTIPLIER] = next_multiplier(
                weight, batch[COST], self.config.constraint, ~batch["is_first"]
            )
            metrics = metrics | {"constraint/weight": counted[MULTIPLIER]}
        state = TrainState({self.name: step.params}, step.optimizer, counted)
        return state, step._replace(metrics=metrics)

    def report(self, params: Params, key: Key, batch: Rows) -> dict[str, OpenLoop]:
        """Predicts images from actions alone; see ``common.model.imagine.open_loop``."""
        learned = self._learned(params)
        return open_loop(
            self._world_model, learned.params, key, batch, statistics=learned.statistics
        )

    def _learned(self, params: Params) -> Learned:
        return learned_part(params)


def make_agent(
    config: Config, observations: dict[str, ObservationSpec], actions: ActionSpec
) -> Agent:
    """Builds the agent for flat observation and action specs.

    Raises:
        UserError: An option with an impossible value, or images that the model cannot read.
    """
    if config.model == "tdmpc2":
        return make_tdmpc2(config, observations, actions)
    if config.model == "tdm":
        if config.replay.latents or config.replay.burn_in:
            raise UserError(
                "model tdm has no latent state for windows to begin in; set replay.latents false "
                "and replay.burn_in 0"
            )
        agent = PlanningAgent("tdm", vector_model(config, observations, actions), config, actions)
    else:
        agent = PlaNet(world_model(config.world_model, observations, actions), config)
    return Agent(
        init=agent.init,
        params=agent.acting_params,
        initial_carry=agent.initial_carry,
        act=agent.act,
        update=agent.update,
        report=agent.report,
        latents=agent.latents(),
    )
