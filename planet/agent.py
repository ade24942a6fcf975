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

from common.agent import Agent
from common.distributions import action_noise_size, uniform_noise
from common.dynamics.base import State
from common.exploration import add_action_noise
from common.imagine import OpenLoop, open_loop
from common.model_learning import learn_model
from common.optimizers import make_optimizer
from common.spaces import ActionSpec, ObservationSpec
from common.types import Array, Key, Mode, Params, Rows
from common.world_model import WorldModel, world_model
from planet.candidates import Belief, initial_belief
from planet.config import Config
from planet.planner import first_belief, make_planner
from planet.rollout import model_rollout


class TrainState(NamedTuple):
    """Everything that an update changes.

    Attributes:
        params: Of the "world_model".
        optimizer: State of its optimizer.
    """

    params: dict[str, Params]
    optimizer: Any


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
        self.plan = make_planner(config.planner, model.actions)
        self.rollout = model_rollout(model)

    def init(self, key: Key) -> TrainState:
        """Draws all weights."""
        params = self.model.init(key)
        return TrainState({"world_model": params}, self.optimizer.init(params))

    def initial_carry(self, num_envs: int) -> Carry:
        """Returns the memory before the first row."""
        actions = self.model.actions
        belief = initial_belief(actions, num_envs, self.config.planner.horizon)
        return Carry(self.model.initial(num_envs), jnp.zeros((num_envs, actions.size)), belief)

    def act(
        self, params: Params, key: Key, carry: Carry, observation: Rows, mode: Mode
    ) -> tuple[Array, Carry]:
        """Chooses actions; see ``common.agent.Agent``."""
        model, config = self.model, self.config
        keys = jax.random.split(key, 4)
        amount = carry.action.shape[0]
        rows = quantize_images(keys[0], observation, config.image_bits)
        noise = model.draw_noise(keys[1], (amount,))
        rows = rows | {"action": carry.action}
        state = model.observe_step(params["world_model"], noise, carry.state, rows)
        belief = first_belief(config.planner, model.actions, carry.belief, observation["is_first"])
        plan = self.plan(self.rollout, params["world_model"], keys[2], state, belief=belief)
        action = plan.action
        if mode == "train" and config.exploration_noise:
            uniforms = uniform_noise(keys[3], (amount, action_noise_size(model.actions)))
            action = add_action_noise(action, uniforms, config.exploration_noise, model.actions)
        return action, Carry(state, action, plan.belief)

    def update(
        self, state: TrainState, key: Key, batch: Rows
    ) -> tuple[TrainState, dict[str, Array]]:
        """Takes one gradient step of the world model."""
        keys, shape = jax.random.split(key, 3), batch["reward"].shape
        batch = quantize_images(keys[0], batch, self.config.image_bits)
        step = learn_model(
            self.model, self.optimizer, state.params["world_model"], state.optimizer,
            self.model.draw_noise(keys[1], shape), batch,
            overshooting=self.model.draw_overshooting(keys[2], shape),
        )  # fmt: skip
        return TrainState({"world_model": step.params}, step.optimizer), step.metrics

    def report(self, params: Params, key: Key, batch: Rows) -> dict[str, OpenLoop]:
        """Predicts images from actions alone; see ``common.imagine.open_loop``."""
        return open_loop(self.model, params["world_model"], key, batch)


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
    """Builds PlaNet for flat observation and action specs.

    Raises:
        UserError: An option with an impossible value.
    """
    planet = PlaNet(world_model(config.world_model, observations, actions), config)
    return Agent(
        init=planet.init,
        params=lambda state: state.params,
        initial_carry=planet.initial_carry,
        act=planet.act,
        update=planet.update,
        report=planet.report,
    )
