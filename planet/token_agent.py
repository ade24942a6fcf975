"""Planning in the token-level dynamics, ``common.tokens.tdm``, which learns from state vectors.

One update is a gradient step of the model on replayed sequences. To act, the model reads
the newest rows of the episode, as many as it attends to, and the planner searches from
there; collecting is as in PlaNet. Vectors stand in the order of their sorted keys.
Entries of one-hot actions are read as the numbers 0 and 1.

The model predicts rewards as it predicts observations, and does not model the ends of
episodes: a plan goes on beyond them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from common.agent import OpenLoop
from common.errors import UserError
from common.learning.optimizers import make_optimizer
from common.spaces import ActionSpec, ObservationSpec
from common.tokens import tdm
from common.tokens.steps import Steps, pad, predicted
from common.tokens.tokeniser import Tokeniser
from common.types import Array, Key, Mode, Params, Rows
from planet.acting import Actor
from planet.candidates import Belief
from planet.config import Config
from planet.token_rollout import token_rollout


class TrainState(NamedTuple):
    """Everything that an update changes.

    Attributes:
        params: Of the "tdm".
        optimizer: State of its optimizer.
    """

    params: dict[str, Params]
    optimizer: Any


class Carry(NamedTuple):
    """What acting remembers of each environment.

    Attributes:
        past: The newest rows, the present one last ``[N, context]``. Those from before the
            episode are there too; the model does not look beyond an ``is_first``.
        action: Previous action ``[N, A]``.
        belief: What is left of the last search ``[N, H, A]``, for warm starts.
    """

    past: Steps
    action: Array
    belief: Belief


class TokenPlanner:
    """The parts of the agent bound to one configuration."""

    def __init__(
        self, config: Config, observations: Mapping[str, ObservationSpec], actions: ActionSpec
    ):
        """Builds model, planner and optimizer.

        Raises:
            UserError: The agent would see images, or an option has an impossible value.
        """
        for key, spec in observations.items():
            if spec.kind == "image":
                raise UserError(
                    f"the token-level model reads vectors, and {key!r} is an image; choose a task "
                    "without, of the control suite by --env.pixels false --env.state true"
                )
        self._config, self._keys = config, sorted(observations)
        self._sizes = sum(spec.shape[0] for spec in observations.values()), actions.size
        self.model = tdm.functions(config.tdm, *self._sizes)
        self._tokens = config.tdm.tokens()
        self._optimizer = make_optimizer(config.model_opt)
        self._actor = Actor(config, actions, token_rollout(self.model))

    def init(self, key: Key) -> TrainState:
        """Draws all weights."""
        params = self.model.init(key)
        return TrainState({"tdm": params}, self._optimizer.init(params))

    def acting_params(self, state: TrainState) -> dict[str, Params]:
        """Returns what acting needs of a state."""
        return state.params

    def initial_carry(self, num_envs: int) -> Carry:
        """Returns the memory before the first row."""
        observation_size, action_size = self._sizes
        # An unknown reward is predicted from the row before it.
        time = max(self._config.tdm.context, 2)
        past = Steps(
            observation=jnp.zeros((num_envs, time, observation_size)),
            action=jnp.zeros((num_envs, time, action_size)),
            reward=jnp.zeros((num_envs, time)),
            is_first=jnp.zeros((num_envs, time), bool),
            has_observation=jnp.ones((num_envs, observation_size), bool),
            has_action=jnp.ones((num_envs, action_size), bool),
        )
        action = jnp.zeros((num_envs, action_size))
        return Carry(past, action, self._actor.initial_belief(num_envs))

    def act(
        self, params: Params, key: Key, carry: Carry, observation: Rows, mode: Mode
    ) -> tuple[Array, Carry]:
        """Chooses actions; see ``common.agent.Agent``.

        Where the observation comes without its ``reward``, the model's own expectation
        takes its place.
        """
        params, is_first = params["tdm"], observation["is_first"]
        past = self._remember(carry, observation)
        if "reward" not in observation:
            expected = jnp.where(is_first, 0, self._expected_reward(params, past))
            past = past._replace(reward=past.reward.at[:, -1].set(expected))
        start = self.model.start(params, past)
        keys = tuple(jax.random.split(key))
        action, belief = self._actor.act(params, keys, start, carry.belief, is_first, mode)
        return action, Carry(past, action, belief)

    def update(
        self, state: TrainState, key: Key, batch: Rows
    ) -> tuple[TrainState, dict[str, Array]]:
        """Takes one gradient step of the model."""
        params, steps = state.params["tdm"], pad(batch, *self._sizes)
        steps = disturb(key, steps, self._tokens, self._config.jitter)
        grads, metrics = jax.grad(self.model.loss, has_aux=True)(params, steps)
        params, optimizer, more = self._optimizer.update(grads, state.optimizer, params)
        metrics = {f"tdm/{name}": value for name, value in (metrics | more).items()}
        return TrainState({"tdm": params}, optimizer), metrics

    def report(self, params: Params, key: Key, batch: Rows) -> dict[str, OpenLoop]:
        """Returns nothing: there are no pictures."""
        return {}

    def _remember(self, carry: Carry, observation: Rows) -> Steps:
        """Appends the present rows ``[N, ...]`` to the past; the oldest ones go."""
        is_first = observation["is_first"]
        rows = {key: observation[key] for key in self._keys}
        rows["action"] = jnp.where(is_first[:, None], 0, carry.action)
        rows["reward"] = observation.get("reward", jnp.zeros(is_first.shape))
        rows["is_first"] = is_first
        now = pad({key: jnp.asarray(x)[:, None] for key, x in rows.items()}, *self._sizes)
        pairs = zip(carry.past[:4], now[:4], strict=True)
        moved = (jnp.concatenate([x[:, 1:], y], 1) for x, y in pairs)
        return Steps(*moved, *now[4:])

    def _expected_reward(self, params: Params, steps: Steps) -> Array:
        """Means of the rewards of the last rows, ``[N]``, given all before them."""
        probs = jax.nn.softmax(self.model.predict(params, steps)[:, -1])
        return self._tokens.from_unit(self._tokens.mean(probs))[:, -1]


def disturb(key: Key, steps: Steps, tokens: Tokeniser, deviation: float) -> Steps:
    """Adds normal noise to observations and rewards, on the scale of a tokeniser.

    x' = u⁻¹(u(x) + deviation e),  e ~ N(0, 1)

    What is read and what is predicted move together, so that a row's tokens are its
    neighbours', too: the transformer cannot learn the few rows of a small replay by heart.

    Args:
        key: For the noise.
        steps: Rows ``[B, T]``.
        tokens: Its units are those of the noise.
        deviation: Of the noise; 0 returns the steps as they are.
    """
    if not deviation:
        return steps
    row = predicted(steps)
    units = tokens.to_unit(row) + deviation * jax.random.normal(key, row.shape)
    row = tokens.from_unit(units)
    return steps._replace(observation=row[..., :-1], reward=row[..., -1])
