"""Three models of the dynamics as planned models, so that the experiments treat them alike.

All see the same windows of rows, start from the last rows of an environment and plan by the
same planner; params are ``Fitted``, and the batch of ``loss`` is ``Steps`` ``[B, T]``. What a
contender was given to scale numbers with travels in its parameters, so that one compiled
function serves every data set.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.tdm import ensemble
from benchmarks.tdm.ensemble import EnsembleConfig
from benchmarks.tdm.scale import Scale
from common.model.config import WorldModelConfig
from common.model.world_model import world_model
from common.spaces import ActionPart, ActionSpec, ObservationSpec
from common.tokens import tdm
from common.tokens.config import TDMConfig
from common.tokens.steps import Steps, predicted
from common.tokens.tdm import TDMFunctions
from common.types import Array, Key, Params
from planet.latent_model import Learned, latent_model
from planet.model import PlannedModel
from planet.search import Future
from planet.token_model import token_model
from planet.window import window

DRAWS = 1
"""Keys of a contender's ``start``. Some draw nothing; so all are tried on the same candidates."""


class Fitted(NamedTuple):
    """Parameters of a contender.

    Attributes:
        weights: What learning changes.
        scale: Of the data that it first saw.
    """

    weights: Params
    scale: Scale


@functools.lru_cache(maxsize=8)
def make_tdm(
    config: TDMConfig, context: int, observation_size: int, action_size: int, samples: int = 1
) -> PlannedModel:
    """Returns the token-level transformer.

    Args:
        config: Its options; ``low`` and ``high`` of the tokeniser "uniform" stay -1 and 1, the
            range of the data is taken from ``Fitted.scale``.
        context: Rows that it sees, C.
        observation_size: Observation entries of the largest body, D.
        action_size: Action entries of the largest body, A.
        samples: Imagined trajectories that ``imagine`` averages; 1 suffices where decoding
            draws nothing.
    """
    functions = _in_units(tdm.functions(config, observation_size, action_size), config)
    model = token_model(functions, window(context, observation_size, action_size, DRAWS))
    return model._replace(imagine=_mean_of(samples, model.imagine))


@functools.lru_cache(maxsize=8)
def make_ensemble(
    config: EnsembleConfig, context: int, observation_size: int, action_size: int
) -> PlannedModel:
    """Returns the ensemble of networks; arguments as of ``make_tdm``.

    A candidate's return, and an expected row, is the mean over trajectories that each stay
    with one member.
    """
    model = ensemble.functions(config, observation_size, action_size)

    def follow(fitted: Fitted, start: Array, actions: Array) -> tuple[Array, Array]:
        """Trajectories ``[E, N, H, ...]`` of observations ``[N, D]`` and actions ``[N, H, A]``."""

        def step(observation: Array, action: Array) -> tuple[Array, tuple[Array, Array]]:
            action = jnp.broadcast_to(action, (config.members, *action.shape))
            observation, reward = model.step(fitted.weights, fitted.scale, observation, action)
            # A member that runs away is stopped at the border of what was ever seen.
            kept = jnp.clip(observation, fitted.scale.low[:-1], fitted.scale.high[:-1])
            return kept, (kept, reward)

        start = jnp.broadcast_to(start, (config.members, *start.shape))
        _, rows = jax.lax.scan(step, start, actions.swapaxes(0, 1))
        return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 2), rows)

    def imagine(fitted: Fitted, key: Key, start: Array, actions: Array) -> tuple[Array, Array]:
        del key
        return jax.tree.map(lambda x: x.mean(0), follow(fitted, start, actions))

    def rollout(fitted: Fitted, key: Key, start: Array, actions: Array) -> Future:
        del key
        count, candidates = actions.shape[:2]
        flat = actions.reshape(count * candidates, *actions.shape[2:])
        _, reward = follow(fitted, jnp.repeat(start, candidates, 0), flat)
        return Future(reward.mean(0).reshape(count, candidates, -1))

    def loss(fitted: Fitted, key: Key, steps: Steps) -> tuple[Array, dict[str, Array]]:
        return model.loss(fitted.weights, fitted.scale, key, steps), {}

    def start(fitted: Fitted, keys: Array, steps: Steps) -> Array:
        del fitted, keys
        return steps.observation[:, -1]

    memory = window(context, observation_size, action_size, DRAWS)
    return PlannedModel(model.init, loss, memory, start, imagine, rollout)


@functools.lru_cache(maxsize=8)
def make_rssm(
    config: WorldModelConfig, context: int, observation_size: int, action_size: int, samples: int
) -> PlannedModel:
    """Returns the recurrent state-space model on standardised observations and rewards.

    It begins anew at the first row of its window, so that it sees no more than the others.
    Arguments as of ``make_tdm``.
    """
    bounds = (-1.0,) * action_size, (1.0,) * action_size
    actions = ActionSpec((ActionPart((), "continuous", action_size, *bounds, (action_size,)),))
    specs = {"observation": ObservationSpec((observation_size,), "vector")}
    model = world_model(config, specs, actions)
    latent = latent_model(model)
    expect = _mean_of(samples, latent.imagine)

    def rows(scale: Scale, steps: Steps) -> dict[str, Array]:
        standard = scale.standard(predicted(steps))
        never = jnp.zeros_like(steps.is_first)
        return {
            "observation": standard[..., :-1],
            "action": steps.action,
            "reward": jnp.where(steps.is_first, 0, standard[..., -1]),
            "is_first": steps.is_first,
            "is_last": never,
            "is_terminal": never,
        }

    def loss(fitted: Fitted, key: Key, steps: Steps) -> tuple[Array, dict[str, Array]]:
        return latent.loss(Learned(fitted.weights, None), key, rows(fitted.scale, steps))

    def start(fitted: Fitted, keys: Array, steps: Steps) -> Any:
        states = model.observe(fitted.weights, keys[0], rows(fitted.scale, steps))
        return jax.tree.map(lambda x: x[:, -1], states)

    def imagine(fitted: Fitted, key: Key, start: Any, actions: Array) -> tuple[Array, Array]:
        observation, reward = expect(Learned(fitted.weights, None), key, start, actions)
        row = jnp.concatenate([observation["observation"], reward[..., None]], -1)
        row = fitted.scale.from_standard(row)
        return row[..., :-1], row[..., -1]

    def rollout(fitted: Fitted, key: Key, start: Any, actions: Array) -> Future:
        standard = latent.rollout(Learned(fitted.weights, None), key, start, actions)
        rewards = fitted.scale.mean[-1] + fitted.scale.std[-1] * standard.rewards
        return standard._replace(rewards=rewards)

    memory = window(context, observation_size, action_size, DRAWS)
    return PlannedModel(model.init, loss, memory, start, imagine, rollout)


def scaled(config: TDMConfig, scale: Scale, steps: Steps) -> Steps:
    """Rows as the tokeniser of a configuration takes them; "uniform" takes units."""
    if config.tokeniser != "uniform":
        return steps
    units = scale.units(predicted(steps))
    return steps._replace(observation=units[..., :-1], reward=units[..., -1])


def _in_units(model: TDMFunctions, config: TDMConfig) -> TDMFunctions:
    """The model on rows in their own units, with ``Fitted`` as its params."""

    def imagine_step(
        fitted: Fitted, key: Key, futures: tdm.Futures, action: Array
    ) -> tuple[Array, Array, tdm.Futures]:
        observation, reward, futures = model.imagine_step(fitted.weights, key, futures, action)
        if config.tokeniser == "uniform":
            row = fitted.scale.from_units(jnp.concatenate([observation, reward[..., None]], -1))
            observation, reward = row[..., :-1], row[..., -1]
        return observation, reward, futures

    def see(function: Callable) -> Callable:
        return lambda fitted, steps: function(fitted.weights, scaled(config, fitted.scale, steps))

    return TDMFunctions(
        model.init, see(model.predict), see(model.start), imagine_step, see(model.loss)
    )


def _mean_of(samples: int, imagine: Callable) -> Callable:
    """Returns the mean over imagined trajectories of the same actions."""

    def mean(params: Params, key: Key, start: Any, actions: Array) -> Any:
        start, actions = jax.tree.map(lambda x: jnp.repeat(x, samples, 0), (start, actions))
        rows = imagine(params, key, start, actions)
        return jax.tree.map(lambda x: x.reshape(-1, samples, *x.shape[1:]).mean(1), rows)

    return mean
