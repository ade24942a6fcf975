"""One loss and one optimizer for everything, as DreamerV3 has it (arXiv:2301.04104).

    L = L_model + c_a L_actor + c_v L_critic + c_r L_replay

with the old weights throughout: unlike in V1 and V2, imagination does not see the model's new ones.
Each parameter is reached by its own loss only: imagination starts from stopped states, takes the
model and the critic as constants, and the critic takes the imagined states as such. The exceptions
are options: the critic's loss on replayed rows shapes the latent states
(``replay_value.gradients``, on in V3), and so may both losses at the replayed state
(``start_gradients``, off).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from common.dynamics.base import State
from common.learning.constraint import MULTIPLIER, penalised
from common.model.losses import Losses, learned_reward, loss_metrics
from common.model.world_model import WorldModel
from common.rows import COST
from common.types import Array, Params, Rows
from dreamer.behavior import Behavior, Imagined, Normalisers
from dreamer.behavior import Noise as ImaginationNoise
from dreamer.config import BehaviorConfig


class Found(NamedTuple):
    """What the joint loss computed.

    Attributes:
        terms: The mean of every loss, unscaled: those of the world model by their names, "actor",
            "critic" and, where they are on, "replay_value" and "distill".
        losses: Of the world model.
        imagined: Of imagination; its normalisers have the replayed rows in them.
        metrics: Scalars.
    """

    terms: dict[str, Array]
    losses: Losses
    imagined: Imagined
    metrics: dict[str, Array]


def joint_loss(
    model: WorldModel, behavior: Behavior, config: BehaviorConfig
) -> Callable[..., tuple[Array, Found]]:
    """Returns ``(trained, params, normalisers, updates, noise, imagination, batch, start)``'s loss.

    Args:
        model: The world model.
        behavior: The losses of actor and critic.
        config: Their weights, and what they shape.
    """

    def loss(
        trained: dict[str, Params],
        params: dict[str, Params],
        normalisers: Normalisers,
        updates: Array,
        noise: tuple[Array, Array | None],
        imagination: ImaginationNoise,
        batch: Rows,
        start: State | None,
        pull: Callable[[Params, Array], Array] | None = None,
    ) -> tuple[Array, Found]:
        """``trained`` are the parameters that take a gradient, of those that ``params`` holds.

        ``pull``: ``(actor parameters, features [B, T, D]) -> loss`` that is added; None for none.
        """
        world = trained["world_model"]
        losses = model.losses(world, noise[0], batch, start, noise[1], normalisers["vectors"])
        rows = last_rows(losses.observed.states, config.starts)
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows)
        if not config.start_gradients:
            flat = jax.lax.stop_gradient(flat)
        constants = jax.lax.stop_gradient(params)
        flags = {key: last_rows(batch[key], config.starts) for key in _NEEDED}
        flags["reward"] = learned_reward(model.config, flags["reward"])
        if MULTIPLIER in normalisers:
            cost = last_rows(batch[COST], config.starts)
            flags["reward"] = penalised(flags["reward"], cost, normalisers[MULTIPLIER])
        actor, imagined = behavior.actor_loss(
            trained["actor"], constants, normalisers, updates, imagination, flat,
            flags["is_terminal"].reshape(-1),
            behavior.clone(model.feature(world, losses.observed.states), batch),
        )  # fmt: skip
        slow = constants["slow_critic"]
        first = model.feature(world, flat) if config.start_gradients else None
        critic, metrics = behavior.critic_loss(trained["critic"], slow, imagined, first)
        terms = {key: term.mean() for key, term in losses.terms.items()}
        terms |= {"actor": actor, "critic": critic}
        total = losses.total + config.actor_scale * actor + config.critic_scale * critic
        if config.replay_value.scale:
            features = model.feature(world, rows)
            if not config.replay_value.gradients:
                features = jax.lax.stop_gradient(features)
            bootstrap = imagined.target[0].reshape(flags["reward"].shape)
            replayed, counted, more = behavior.replay_loss(
                trained["critic"], slow, _swap(features), jax.tree.map(_swap, flags),
                _swap(bootstrap), imagined.normalisers,
            )  # fmt: skip
            terms["replay_value"] = replayed
            total += config.replay_value.scale * replayed
            imagined = imagined._replace(normalisers=counted)
            metrics |= more
        if pull is not None:
            features = model.feature(world, losses.observed.states)
            terms["distill"] = pull(trained["actor"], features)
            total += terms["distill"]
            metrics["actor/distill_loss"] = terms["distill"]
        metrics |= imagined.metrics
        metrics |= {f"world_model/{key}": x for key, x in loss_metrics(losses).items()}
        return total, Found(terms, losses, imagined, metrics | {"joint/loss": total})

    return loss


_NEEDED = ("reward", "is_first", "is_last", "is_terminal")


def last_rows(rows: Any, amount: int) -> Any:
    """Returns the last rows of arrays ``[B, T, ...]``; all where the amount is 0."""
    return jax.tree.map(lambda x: x[:, -amount:] if amount else x, rows)


def _swap(x: Array) -> Array:
    """Exchanges the batch and the time axis."""
    return jnp.swapaxes(x, 0, 1)
