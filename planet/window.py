"""The memory of models that read rows: a window of the newest ones."""

from __future__ import annotations

import jax.numpy as jnp

from common.tokens.steps import Steps, pad
from common.types import Array, Params, Rows
from planet.model import Memory


def window(length: int, observation_size: int, action_size: int, draws: int = 0) -> Memory:
    """Remembers rows as ``Steps`` ``[N, length]``, the present one last.

    Rows from before the episode stay in the window, for the model does not look beyond the
    newest ``is_first``. Before the first row there are zeros, each the first of an episode.

    Args:
        length: Rows to remember.
        observation_size: Observation entries of the model, D.
        action_size: Action entries of the model, A.
        draws: Keys that the model's ``start`` takes.
    """

    def initial(num_envs: int) -> Steps:
        return Steps(
            observation=jnp.zeros((num_envs, length, observation_size)),
            action=jnp.zeros((num_envs, length, action_size)),
            reward=jnp.zeros((num_envs, length)),
            is_first=jnp.ones((num_envs, length), bool),
            has_observation=jnp.ones((num_envs, observation_size), bool),
            has_action=jnp.ones((num_envs, action_size), bool),
        )

    def remember(params: Params, keys: Array, past: Steps, rows: Rows) -> Steps:
        del params, keys
        rows = {"reward": jnp.zeros(rows["is_first"].shape), **rows}
        rows = {key: jnp.asarray(x)[:, None] for key, x in rows.items()}
        now = pad(rows, observation_size, action_size)
        pairs = zip(past[:4], now[:4], strict=True)
        return Steps(*(jnp.concatenate([x[:, 1:], y], 1) for x, y in pairs), *now[4:])

    return Memory(initial, remember, draws)
