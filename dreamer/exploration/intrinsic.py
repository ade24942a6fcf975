"""Intrinsic rewards behind one interface, and which of them a configuration asks for.

An intrinsic reward is what imagination can compute: a function of an imagined trajectory and of
parameters of its own. These learn from replayed rows, as the world model saw them. There are two
kinds. The disagreement of an ensemble is itself a function of features and actions. All others are
streams: a number for every real row, such as how badly the model predicted it, or what the
environment loop noted with it. A head learns to predict the stream from the latent state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from common.model.imagine import Trajectory
from common.model.losses import Losses
from common.model.world_model import WorldModel
from common.rows import row_specs
from common.types import Array, Key, Params, Rows


class Seen(NamedTuple):
    """Replayed rows, as the world model saw them; nothing takes a gradient.

    Attributes:
        batch: The rows ``[B, T, ...]``.
        losses: Of the world model, with latent states, embeddings and log-likelihoods.
        features: Of its latent states ``[B, T, D]``.
    """

    batch: Rows
    losses: Losses
    features: Array


def look(model: WorldModel, world: Params, batch: Rows, losses: Losses) -> Seen:
    """Returns replayed rows as a world model saw them.

    Args:
        model: The world model.
        world: Its parameters, for the features.
        batch: The rows ``[B, T, ...]``.
        losses: Of the world model on them.
    """
    losses = jax.lax.stop_gradient(losses)
    features = model.feature(world, losses.observed.states)
    return jax.lax.stop_gradient(Seen(batch, losses, features))


class Intrinsic(NamedTuple):
    """One intrinsic reward.

    Attributes:
        init: ``(key) -> params``.
        loss: ``(params, noise, seen) -> (loss, metrics)``, differentiable in the parameters.
        reward: ``(params, trajectory) -> [H + 1, N]``, the reward that arrives with every state;
            whoever learns from it does not look at the first, which no imagined action led to.
        draw_noise: ``(key, (B, T)) -> noise`` of one loss; None where nothing is drawn.
    """

    init: Callable[[Key], Params]
    loss: Callable[[Params, Array | None, Seen], tuple[Array, dict[str, Array]]]
    reward: Callable[[Params, Trajectory], Array]
    draw_noise: Callable[[Key, tuple[int, int]], Array | None] = lambda key, shape: None


class Sizes(NamedTuple):
    """Entries of what a world model infers.

    Attributes:
        feature: Of what heads see of a latent state, D.
        stoch: Of its sample, all variables and classes counted.
        deter: Of its deterministic part.
        embed: Of what the encoder makes of an observation, E.
        action: Of the flat action vector, A.
    """

    feature: int
    stoch: int
    deter: int
    embed: int
    action: int


def find_sizes(model: WorldModel) -> Sizes:
    """Returns a world model's sizes; nothing is computed."""

    def infer(key: Key) -> tuple[Array, Any, Array]:
        params, state = model.init(key), model.initial(1)
        rows = row_specs(model.observations, model.actions)
        rows = {name: jnp.zeros((1, *shape), dtype) for name, (shape, dtype) in rows.items()}
        return model.feature(params, state), state, model.embed(params, rows)

    feature, state, embed = jax.eval_shape(infer, jax.random.key(0))
    return Sizes(
        feature.shape[-1], state.stoch.size, state.deter.size, embed.shape[-1], model.actions.size
    )
