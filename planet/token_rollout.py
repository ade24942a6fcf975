"""A token-level transformer dynamics as planners see it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from common.tokens.tdm import Context, TDMFunctions, branch
from common.types import Array, Key, Params
from planet.candidates import Rollout


def token_rollout(model: TDMFunctions) -> Rollout:
    """Sums the decoded rewards along one imagined trajectory of each sequence.

    return = sum_{k=1..H} r_k,  (o_k, r_k) ~ p(. | context, a_1..k, o_<k, r_<k)

    All candidates, in all iterations of a planner, share the keys and values of the context.
    The actions are those of the body; they may be fewer than the model's.

    Args:
        model: The model; start is the ``Context`` that ``model.start`` made.
    """

    def rollout(params: Params, key: Key, start: Context, actions: Array) -> Array:
        _, candidates, horizon, size = actions.shape
        missing = start.present.shape[1] - start.last.shape[1] - size
        actions = jnp.pad(actions, ((0, 0), (0, 0), (0, 0), (0, missing)))

        def step(futures: Any, now: tuple[Key, Array]) -> tuple[Any, Array]:
            _, reward, futures = model.imagine_step(params, now[0], futures, now[1])
            return futures, reward

        steps = jax.random.split(key, horizon), jnp.moveaxis(actions, 2, 0)
        _, rewards = jax.lax.scan(step, branch(start, candidates, horizon), steps)
        return rewards.sum(0)

    return rollout
