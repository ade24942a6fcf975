"""Three learners of dynamics behind one interface, so that the experiments treat them alike.

All see the same windows of rows, start from the last rows of an environment and plan by the
same planner. What a contender was given to scale numbers with travels in its parameters, so
that one compiled function serves every data set.
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
from common.tokens.tdm import TDMFunctions, branch
from common.types import Array, Key, Params
from planet.candidates import Rollout
from planet.rollout import model_rollout
from planet.token_rollout import token_rollout


class Fitted(NamedTuple):
    """Parameters of a contender.

    Attributes:
        weights: What learning changes.
        scale: Of the data that it first saw.
    """

    weights: Params
    scale: Scale


class Learner(NamedTuple):
    """What learning needs to know.

    Attributes:
        init: ``(key) -> weights``.
        loss: ``(fitted, key, steps [B, T]) -> loss``.
    """

    init: Callable[[Key], Params]
    loss: Callable[[Fitted, Key, Steps], Array]


class Contender(NamedTuple):
    """A model of the dynamics.

    Attributes:
        learner: How it learns.
        start: ``(fitted, key, steps [N, T]) -> start``; the last row is the present one, rows
            before the newest ``is_first`` are none of its past.
        imagine: ``(fitted, key, start, actions [N, H, A]) -> (observation [N, H, D], reward
            [N, H])``: what it expects to come.
        rollout: What planners call; its params are ``Fitted``.
    """

    learner: Learner
    start: Callable[[Fitted, Key, Steps], Any]
    imagine: Callable[[Fitted, Key, Any, Array], tuple[Array, Array]]
    rollout: Rollout


@functools.lru_cache(maxsize=8)
def make_tdm(
    config: TDMConfig, observation_size: int, action_size: int, samples: int = 1
) -> Contender:
    """Returns the token-level transformer.

    Args:
        config: Its options; ``low`` and ``high`` of the tokeniser "uniform" stay -1 and 1, the
            range of the data is taken from ``Fitted.scale``.
        observation_size: Observation entries of the largest body, D.
        action_size: Action entries of the largest body, A.
        samples: Imagined trajectories that ``imagine`` averages; 1 suffices where decoding
            draws nothing.
    """
    model = _in_units(tdm.functions(config, observation_size, action_size), config)

    def imagine(
        fitted: Fitted, key: Key, start: tdm.Context, actions: Array
    ) -> tuple[Array, Array]:
        horizon = actions.shape[1]

        def step(futures: tdm.Futures, now: tuple[Key, Array]) -> tuple:
            repeated = jnp.repeat(now[1][:, None], samples, 1)
            observation, reward, futures = model.imagine_step(fitted, now[0], futures, repeated)
            return futures, (observation.mean(1), reward.mean(1))

        now = jax.random.split(key, horizon), actions.swapaxes(0, 1)
        _, rows = jax.lax.scan(step, branch(start, samples, horizon), now)
        return jax.tree.map(lambda x: x.swapaxes(0, 1), rows)

    def loss(fitted: Fitted, key: Key, steps: Steps) -> Array:
        del key
        return model.loss(fitted, steps)[0]

    def start(fitted: Fitted, key: Key, steps: Steps) -> tdm.Context:
        del key
        return model.start(fitted, steps)

    return Contender(Learner(model.init, loss), start, imagine, token_rollout(model))


@functools.lru_cache(maxsize=8)
def make_ensemble(config: EnsembleConfig, observation_size: int, action_size: int) -> Contender:
    """Returns the ensemble of networks.

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

    def rollout(fitted: Fitted, key: Key, start: Array, actions: Array) -> Array:
        del key
        count, candidates = actions.shape[:2]
        flat = actions.reshape(count * candidates, *actions.shape[2:])
        _, reward = follow(fitted, jnp.repeat(start, candidates, 0), flat)
        return reward.sum(-1).mean(0).reshape(count, candidates)

    def loss(fitted: Fitted, key: Key, steps: Steps) -> Array:
        return model.loss(fitted.weights, fitted.scale, key, steps)

    def start(fitted: Fitted, key: Key, steps: Steps) -> Array:
        del fitted, key
        return steps.observation[:, -1]

    return Contender(Learner(model.init, loss), start, imagine, rollout)


@functools.lru_cache(maxsize=8)
def make_rssm(
    config: WorldModelConfig, observation_size: int, action_size: int, samples: int
) -> Contender:
    """Returns the recurrent state-space model on standardised observations and rewards.

    Args:
        config: The world model.
        observation_size: D.
        action_size: A.
        samples: Imagined trajectories that ``imagine`` averages.
    """
    bounds = (-1.0,) * action_size, (1.0,) * action_size
    actions = ActionSpec((ActionPart((), "continuous", action_size, *bounds, (action_size,)),))
    specs = {"observation": ObservationSpec((observation_size,), "vector")}
    model = world_model(config, specs, actions)
    returns = model_rollout(model)

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

    def loss(fitted: Fitted, key: Key, steps: Steps) -> Array:
        return model.loss(fitted.weights, key, rows(fitted.scale, steps))[0]

    def start(fitted: Fitted, key: Key, steps: Steps) -> Any:
        states = model.observe(fitted.weights, key, rows(fitted.scale, steps))
        return jax.tree.map(lambda x: x[:, -1], states)

    def imagine(fitted: Fitted, key: Key, start: Any, actions: Array) -> tuple[Array, Array]:
        repeat = lambda x: jnp.repeat(x, samples, 0)  # noqa: E731
        states = model.imagine(fitted.weights, key, jax.tree.map(repeat, start), repeat(actions))
        observation = model.decode(fitted.weights, states)["observation"]
        reward = model.reward(fitted.weights, model.feature(fitted.weights, states)).mean()
        row = jnp.concatenate([observation, reward[..., None]], -1)
        row = row.reshape(-1, samples, *row.shape[1:]).mean(1)
        row = fitted.scale.from_standard(row)
        return row[..., :-1], row[..., -1]

    def rollout(fitted: Fitted, key: Key, start: Any, actions: Array) -> Array:
        standard = returns(fitted.weights, key, start, actions)
        return fitted.scale.mean[-1] * actions.shape[2] + fitted.scale.std[-1] * standard

    return Contender(Learner(model.init, loss), start, imagine, rollout)


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
