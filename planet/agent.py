"""PlaNet: a world model, and a planner that searches for the next action in it.

One update is a gradient step of the world model on replayed sequences, nothing else. To
act, the model infers the state from what was observed so far, the planner searches for
the sequence of actions with the highest predicted return, and its first action is taken
(arXiv:1811.04551, Algorithm 1). While collecting, noise is added to it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from common.agent import NORMALISERS, Agent, OpenLoop
from common.dynamics.base import State
from common.learning.optimizers import make_optimizer
from common.model.imagine import open_loop
from common.model.learn import learn_model
from common.model.world_model import WorldModel, world_model
from common.spaces import ActionSpec, ObservationSpec
from common.types import Array, Key, Mode, Params, Rows
from planet.acting import Actor
from planet.candidates import Belief
from planet.config import Config
from planet.rollout import model_rollout
from planet.token_agent import TokenPlanner


class TrainState(NamedTuple):
    """Everything that an update changes.

    Attributes:
        params: Of the "world_model".
        optimizer: State of its optimizer.
        normalisers: "vectors", the statistics of the model's vectors.
    """

    params: dict[str, Params]
    optimizer: Any
    normalisers: dict[str, Any]


class Carry(NamedTuple):
    """What acting remembers of each environment.

    Attributes:
        state: Latent state ``[N]``.
        action: Previous action ``[N, A]``.
        belief: What is left of the last search ``[N, H, A]``, for warm starts.
    """

    state: State
    action: Array
    belief: Belief


class PlaNet:
    """The parts of PlaNet bound to one configuration; ``make_agent`` shows them as an Agent."""

    def __init__(self, model: WorldModel, config: Config):
        """Keeps the model and builds planner and optimizer."""
        self.model = model
        self.config = config
        self.optimizer = make_optimizer(config.model_opt)
        self.actor = Actor(config, model.actions, model_rollout(model))

    def init(self, key: Key) -> TrainState:
        """Draws all weights."""
        params = self.model.init(key)
        statistics = {"vectors": self.model.statistics}
        return TrainState({"world_model": params}, self.optimizer.init(params), statistics)

    def acting_params(self, state: TrainState) -> dict[str, Any]:
        """Returns what acting and reporting need of a state."""
        return state.params | {NORMALISERS: state.normalisers}

    def initial_carry(self, num_envs: int) -> Carry:
        """Returns the memory before the first row."""
        action = jnp.zeros((num_envs, self.model.actions.size))
        belief = self.actor.initial_belief(num_envs)
        return Carry(self.model.initial(num_envs), action, belief)

    def act(
        self, params: Params, key: Key, carry: Carry, observation: Rows, mode: Mode
    ) -> tuple[Array, Carry]:
        """Chooses actions; see ``common.agent.Agent``."""
        model, amount = self.model, carry.action.shape[0]
        keys = jax.random.split(key, 4)
        rows = quantize_images(keys[0], observation, self.config.image_bits)
        noise = model.draw_noise(keys[1], (amount,))
        rows = rows | {"action": carry.action}
        statistics = params.get(NORMALISERS, {}).get("vectors")
        params = params["world_model"]
        state = model.observe_step(params, noise, carry.state, rows, statistics)
        action, belief = self.actor.act(
            params, (keys[2], keys[3]), state, carry.belief, observation["is_first"], mode
        )
        return action, Carry(state, action, belief)

    def update(
        self, state: TrainState, key: Key, batch: Rows
    ) -> tuple[TrainState, dict[str, Array]]:
        """Takes one gradient step of the world model."""
        keys, shape = jax.random.split(key, 3), batch["reward"].shape
        batch = quantize_images(keys[0], batch, self.config.image_bits)
        step = learn_model(
            self.model, self.optimizer, state.params["world_model"], state.optimizer,
            state.normalisers["vectors"], self.model.draw_noise(keys[1], shape), batch,
            overshooting=self.model.draw_overshooting(keys[2], shape),
        )  # fmt: skip
        statistics = {"vectors": step.statistics}
        return TrainState({"world_model": step.params}, step.optimizer, statistics), step.metrics

    def report(self, params: Params, key: Key, batch: Rows) -> dict[str, OpenLoop]:
        """Predicts images from actions alone; see ``common.model.imagine.open_loop``."""
        statistics = params.get(NORMALISERS, {}).get("vectors")
        return open_loop(self.model, params["world_model"], key, batch, statistics=statistics)


def quantize_images(key: Key, rows: Rows, bits: int) -> Rows:
    """Reduces uint8 images to some bits and fills the rest with noise.

    ``floor(x / 2^(8 - bits)) / 2^bits + U(0, 1 / 2^bits) - 0.5``, as in PlaNet's code
    (after Kingma and Dhariwal, arXiv:1807.03039). With 8 bits the rows stay as they are.

    Args:
        key: For the noise.
        rows: Arrays; those of type uint8 are images.
        bits: Bits to keep, 1 to 8.
    """
    if bits == 8:
        return rows
    levels = 2**bits
    images = sorted(name for name, x in rows.items() if x.dtype == jnp.uint8)
    keys = dict(zip(images, jax.random.split(key, max(1, len(images))), strict=False))

    def quantize(name: str) -> Array:
        kept = jnp.asarray(rows[name] // (256 // levels), jnp.float32)
        return (kept + jax.random.uniform(keys[name], kept.shape)) / levels - 0.5

    return {name: quantize(name) if name in keys else x for name, x in rows.items()}


def make_agent(
    config: Config, observations: dict[str, ObservationSpec], actions: ActionSpec
) -> Agent:
    """Builds the agent for flat observation and action specs.

    Raises:
        UserError: An option with an impossible value, or images that the model cannot read.
    """
    if config.model == "tdm":
        agent = TokenPlanner(config, observations, actions)
    else:
        agent = PlaNet(world_model(config.world_model, observations, actions), config)
    return Agent(
        init=agent.init,
        params=agent.acting_params,
        initial_carry=agent.initial_carry,
        act=agent.act,
        update=agent.update,
        report=agent.report,
    )
