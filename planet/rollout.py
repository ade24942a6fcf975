"""A world model as planners see it: action sequences in, returns out."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from common.model.world_model import WorldModel
from common.types import Array, Key, Params
from planet.candidates import Rollout


def model_rollout(model: WorldModel) -> Rollout:
    """Sums the predicted mean rewards along one sampled trajectory of each sequence.

    return = sum_{k=1..H} c_k r(s_k),  s_k ~ prior(s_{k-1}, a_k),
    c_1 = 1, c_{k+1} = c_k p(s_k goes on); c_k = 1 where the model has no discount head.

    Args:
        model: The world model; params are those of its ``init``, start is a state ``[N]``.
    """

    def rollout(params: Params, key: Key, start: Any, actions: Array) -> Array:
        num_envs, candidates, horizon, size = actions.shape
        amount = num_envs * candidates
        # Candidates of one environment stay side by side: [N, J] -> [N J].
        states = jax.tree.map(lambda x: jnp.repeat(x, candidates, axis=0), start)
        noise = model.draw_noise(key, (horizon, amount))
        steps = actions.reshape(amount, horizon, size).swapaxes(0, 1)

        def step(state: Any, now: tuple[Array, Array]) -> tuple[Any, Array]:
            state = model.imagine_step(params, now[1], state, now[0])
            return state, model.feature(params, state)

        _, features = jax.lax.scan(step, states, (steps, noise))
        reward = model.reward(params, features).mean()
        if model.config.predict_discount:
            goes_on = model.discount(params, features).mean() / model.config.discount_factor
            reached = jnp.cumprod(goes_on, 0)[:-1]
            reward = reward * jnp.concatenate([jnp.ones_like(reached[:1]), reached])
        return reward.sum(0).reshape(num_envs, candidates)

    return rollout
