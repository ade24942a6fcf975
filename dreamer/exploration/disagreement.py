"""Plan2Explore's reward: how much an ensemble of one-step models disagrees (arXiv:2005.05960).

K models with random weights of their own predict the next latent state h from the feature f of a
state and the action a that is taken there. Each learns from all replayed rows:

    L = Σ_k mean over b, t of ½ |h[t+1] − μ_k(f[t], a[t+1])|²,  of rows t+1 that begin no episode

and an imagined step from t to t+1 is rewarded by their standard deviation, as DreamerV2's public
code has it (the paper has the variance), a mean over the D entries of h:

    r[t+1] = 1/D Σ_d sqrt(1/K Σ_k (μ_kd − mean of μ_d)²)

Models that have seen enough agree, on noise too: its mean is all that they can learn. DreamerV2's
code gives the models the action that led to f[t]; here it is the one that leads to h[t+1].
"""

from __future__ import annotations

import haiku as hk
import jax
import jax.numpy as jnp

from common.model.imagine import Trajectory
from common.nets.layers import INITS, MLP, Dense
from common.nets.precision import Precision, wrap
from common.types import Array, Key, Params
from dreamer.exploration.config import EnsembleConfig
from dreamer.exploration.intrinsic import Intrinsic, Seen, Sizes


def disagreement(predictions: Array) -> Array:
    """Returns how much members disagree ``[...]``.

    Args:
        predictions: Of every member ``[K, ..., D]``.
    """
    variance = predictions.var(0)
    # The root has no finite derivative at zero.
    apart = variance > 0
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, variance, 1.0)), 0.0).mean(-1)


def ensemble_loss(predictions: Array, target: Array, counts: Array) -> Array:
    """Returns Σ_k mean ½ |h − μ_k|² over the rows that count.

    Args:
        predictions: Of every member ``[K, B, T, D]``.
        target: What they should have predicted, h ``[B, T, D]``.
        counts: Which rows count ``[B, T]``.
    """
    squares = 0.5 * jnp.square(predictions - target).sum(-1)
    weight = counts.astype(jnp.float32)
    return ((squares * weight).sum((1, 2)) / jnp.maximum(weight.sum(), 1)).sum()


def make_disagreement(config: EnsembleConfig, sizes: Sizes, precision: Precision) -> Intrinsic:
    """Builds the ensemble.

    Args:
        config: Members, their layers and their target.
        sizes: Of what the world model infers.
        precision: Number format of the layers' arithmetic.
    """
    layers = config.layers, config.units, config.activation, config.norm
    inputs = sizes.feature + sizes.action

    def member(x: Array) -> Array:
        hidden = MLP(*layers, init=config.init)(x)
        return Dense(getattr(sizes, config.target), "out", INITS[config.init])(hidden)

    network = hk.without_apply_rng(hk.transform(member))

    def init(key: Key) -> Params:
        keys = jax.random.split(key, config.members)
        return jax.vmap(lambda one: network.init(one, jnp.zeros((1, inputs))))(keys)

    predict = wrap(jax.vmap(network.apply, (0, None)), precision)

    def loss(params: Params, noise: None, seen: Seen) -> tuple[Array, dict[str, Array]]:
        predictions = predict(params, jnp.concatenate(_pairs(seen), -1))
        target = _target(config, seen)[:, 1:]
        value = ensemble_loss(predictions, target, ~seen.batch["is_first"][:, 1:])
        return value, {"loss": value, "disagreement": disagreement(predictions).mean()}

    def reward(params: Params, trajectory: Trajectory) -> Array:
        pairs = trajectory.features[:-1], trajectory.actions[1:]
        apart = disagreement(predict(params, jnp.concatenate(pairs, -1)))
        return jnp.concatenate([jnp.zeros_like(apart[:1]), apart])

    return Intrinsic(init, loss, reward)


def _pairs(seen: Seen) -> tuple[Array, Array]:
    """Features of all rows but the last, and the actions that were taken there."""
    return seen.features[:, :-1], seen.batch["action"][:, 1:]


def _target(config: EnsembleConfig, seen: Seen) -> Array:
    """What members predict, of every row as a vector ``[B, T, D]``."""
    if config.target == "feature":
        return seen.features
    if config.target == "embed":
        return seen.losses.embed
    found = getattr(seen.losses.observed.states, config.target)
    return found.reshape(*seen.features.shape[:2], -1)
