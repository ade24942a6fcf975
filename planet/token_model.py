"""The token-level dynamics, ``common.tokens.tdm``, as planners see them.

The memory is a window of the newest rows, as many as the model attends to. Vectors stand in
the order of their sorted keys; entries of one-hot actions are read as the numbers 0 and 1.

The model predicts rewards as it predicts observations, and does not model the ends of
episodes: a plan goes on beyond them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp

from common.errors import UserError
from common.spaces import ActionSpec, ObservationSpec
from common.tokens import tdm
from common.tokens.steps import Steps, pad, predicted
from common.tokens.tdm import Context, TDMFunctions, branch
from common.tokens.tokeniser import Tokeniser
from common.types import Array, Key, Params, Rows
from planet.config import Config
from planet.model import Memory, PlannedModel
from planet.search import Future, Rollout
from planet.window import window


def vector_model(
    config: Config, observations: Mapping[str, ObservationSpec], actions: ActionSpec
) -> PlannedModel:
    """Returns the token-level dynamics of one body, whose ``loss`` takes rows ``[B, T, ...]``.

    Raises:
        UserError: The model would see images, or an option has an impossible value.
    """
    for key, spec in observations.items():
        if spec.kind == "image":
            raise UserError(
                f"the token-level model reads vectors, and {key!r} is an image; choose a task "
                "without, of the control suite by --env.pixels false --env.state true"
            )
    sizes = sum(spec.shape[0] for spec in observations.values()), actions.size
    functions, tokens = tdm.functions(config.tdm, *sizes), config.tdm.tokens()
    # An unknown reward is predicted from the row before it.
    memory = expecting_rewards(window(max(config.tdm.context, 2), *sizes), functions, tokens)

    def loss(params: Params, key: Key, batch: Rows) -> tuple[Array, dict[str, Array]]:
        steps = disturb(key, pad(batch, *sizes), tokens, config.jitter)
        return functions.loss(params, steps)

    return token_model(functions, memory)._replace(loss=loss)


def token_model(model: TDMFunctions, memory: Memory) -> PlannedModel:
    """Returns the interface of planned models of token-level dynamics.

    Args:
        model: The dynamics; the batch of ``loss`` is ``Steps`` ``[B, T]``.
        memory: Of the newest rows, ``Steps`` ``[N, T]``.
    """

    def loss(params: Params, key: Key, steps: Steps) -> tuple[Array, dict[str, Array]]:
        del key
        return model.loss(params, steps)

    def start(params: Params, keys: Array, steps: Steps) -> Context:
        del keys
        return model.start(params, steps)

    def imagine(params: Params, key: Key, start: Context, actions: Array) -> tuple[Array, Array]:
        rows = _follow(model, params, key, start, actions[:, None])
        return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 2)[:, 0], rows)

    return PlannedModel(model.init, loss, memory, start, imagine, token_rollout(model))


def token_rollout(model: TDMFunctions) -> Rollout:
    """Decodes the rewards along one imagined trajectory of each sequence.

        (o_k, r_k) ~ p(. | context, a_1..k, o_<k, r_<k)

    All candidates, in all iterations of a planner, share the keys and values of the context.
    The actions are those of the body; they may be fewer than the model's.

    Args:
        model: The model; start is the ``Context`` that ``model.start`` made, and the last state
            is what is observed after the last step ``[N, J, D]``.
    """

    def rollout(params: Params, key: Key, start: Context, actions: Array) -> Future:
        observation, reward = _follow(model, params, key, start, actions)
        return Future(jnp.moveaxis(reward, 0, -1), last=observation[-1])

    return rollout


def _follow(
    model: TDMFunctions, params: Params, key: Key, start: Context, actions: Array
) -> tuple[Array, Array]:
    """Observations ``[H, N, J, D]`` and rewards ``[H, N, J]`` after actions ``[N, J, H, A]``."""
    chex.assert_rank(actions, 4)
    chex.assert_tree_shape_prefix(start, actions.shape[:1])
    _, candidates, horizon, size = actions.shape
    missing = start.present.shape[1] - start.last.shape[1] - size
    actions = jnp.pad(actions, ((0, 0), (0, 0), (0, 0), (0, missing)))

    def step(futures: Any, now: tuple[Key, Array]) -> tuple[Any, tuple[Array, Array]]:
        observation, reward, futures = model.imagine_step(params, now[0], futures, now[1])
        return futures, (observation, reward)

    steps = jax.random.split(key, horizon), jnp.moveaxis(actions, 2, 0)
    return jax.lax.scan(step, branch(start, candidates, horizon), steps)[1]


def expecting_rewards(memory: Memory, model: TDMFunctions, tokens: Tokeniser) -> Memory:
    """Lets the model's own expectation stand where nobody tells the newest reward.

    Args:
        memory: A window of at least 2 rows: a reward is predicted from the row before it.
        model: The dynamics.
        tokens: Its tokeniser.
    """

    def remember(params: Params, keys: Array, past: Steps, rows: Rows) -> Steps:
        past = memory.remember(params, keys, past, rows)
        if "reward" in rows:
            return past
        probs = jax.nn.softmax(model.predict(params, past)[:, -1])
        expected = tokens.from_unit(tokens.mean(probs))[:, -1]
        expected = jnp.where(rows["is_first"], 0, expected)
        return past._replace(reward=past.reward.at[:, -1].set(expected))

    return memory._replace(remember=remember)


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
