"""The token-level roll-out without what makes it fast, to measure what that is worth.

All give the same returns where decoding takes the likeliest bin.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from common.tokens.config import TDMConfig
from common.tokens.steps import Steps
from common.tokens.tdm import Context, TDMFunctions
from common.types import Array, Key, Params
from planet.search import Future, Rollout
from planet.token_model import token_rollout


def separate_rollout(model: TDMFunctions) -> Rollout:
    """Gives each candidate a copy of the context's keys and values.

    Args:
        model: The model; start is the ``Context`` that ``model.start`` made.
    """
    rollout = token_rollout(model)

    def separate(params: Params, key: Key, start: Context, actions: Array) -> Future:
        envs, candidates, *rest = actions.shape
        copies = jax.tree.map(lambda x: jnp.repeat(x, candidates, 0), start)
        actions = actions.reshape(envs * candidates, 1, *rest)
        rewards = rollout(params, key, copies, actions).rewards
        return Future(rewards.reshape(envs, candidates, -1))

    return separate


def uncached_rollout(model: TDMFunctions, config: TDMConfig) -> Rollout:
    """Runs over the whole past again for every pass, remembering nothing.

    A pass decodes one entry, or all entries of a row where their order is parallel.

    Args:
        model: The model; start is its past, ``Steps`` ``[N, T]``.
        config: Of the model; the likeliest bins are decoded.
    """
    tokens = config.tokens()

    def uncached(params: Params, key: Key, start: Steps, actions: Array) -> Future:
        envs, candidates, horizon, size = actions.shape
        steps = jax.tree.map(lambda x: jnp.repeat(x, candidates, 0), start)
        missing = steps.action.shape[-1] - size
        actions = actions.reshape(envs * candidates, horizon, size)
        actions = jnp.pad(actions, ((0, 0), (0, 0), (0, missing)))
        places = jnp.arange(steps.observation.shape[-1] + 1)
        rewards = []
        for step in range(horizon):
            steps = _append(steps, actions[:, step])

            def decode(steps: Steps) -> Array:
                logits = model.predict(params, steps)[:, -1]
                return tokens.from_unit(tokens.center(logits.argmax(-1)))

            def entry(steps: Steps, place: Array, decode: Any = decode) -> tuple[Steps, None]:
                return _put(steps, jnp.where(places == place, decode(steps), _newest(steps))), None

            if config.order == "parallel":
                steps = _put(steps, decode(steps))
            else:
                steps, _ = jax.lax.scan(entry, steps, places)
            rewards.append(steps.reward[:, -1])
        return Future(jnp.stack(rewards, -1).reshape(envs, candidates, horizon))

    return uncached


def _append(steps: Steps, action: Array) -> Steps:
    """Adds a row whose observation and reward are not known yet."""
    zeros = (jnp.zeros_like(x[:, :1]) for x in steps[:4])
    steps = Steps(*map(lambda x, y: jnp.concatenate([x, y], 1), steps[:4], zeros), *steps[4:])
    return steps._replace(action=steps.action.at[:, -1].set(action))


def _newest(steps: Steps) -> Array:
    """Observation and, behind it, reward of the last row ``[B, D + 1]``."""
    return jnp.concatenate([steps.observation[:, -1], steps.reward[:, -1:]], -1)


def _put(steps: Steps, row: Array) -> Steps:
    observation = steps.observation.at[:, -1].set(row[:, :-1])
    return steps._replace(observation=observation, reward=steps.reward.at[:, -1].set(row[:, -1]))
