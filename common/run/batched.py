"""A trained agent in the loops of other libraries: several environments, one call a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from common.errors import UserError
from common.rows import stacked_entries
from common.run.driver import ActFunction
from common.spaces import ActionSpec, ObservationSpec
from common.types import Params


def check_carry(carry: Any, like: Any) -> None:
    """Raises a UserError where a carry has not the structure and the shapes of ``like``."""
    same = jax.tree.structure(carry) == jax.tree.structure(like)
    leaves = zip(jax.tree.leaves(carry), jax.tree.leaves(like), strict=same)
    if not same or any(np.shape(one) != other.shape for one, other in leaves):
        raise UserError(
            f"the agent's memory is {str(carry)[:40]!r}; expected what its last call returned, for "
            "as many environments, or None to begin"
        )


class BatchedAgent:
    """Acts in N environments at once, by the method that Stable-Baselines3 calls ``predict``.

    Its ``evaluate_policy(agent, vec_env)`` takes one, and so does any loop over a vector of
    environments, such as Gymnasium's.
    """

    def __init__(
        self,
        act: ActFunction,
        params: Params,
        observations: Mapping[str, ObservationSpec],
        actions: ActionSpec,
        num_envs: int,
        seed: int,
    ):
        """Keeps the parts.

        Args:
            act: The compiled acting function.
            params: What it acts with.
            observations: The flat observation that the agent was trained on.
            actions: The flat action vector.
            num_envs: Environments, N.
            seed: Seed of the draws.
        """
        self._act, self._params = act, params
        self._observations, self._actions = observations, actions
        self._num_envs, self._key = num_envs, jax.random.key(seed)
        self._like = jax.eval_shape(lambda: act.agent.initial_carry(num_envs))

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """Chooses the next action of every environment.

        Args:
            observation: Of all environments, as a vector of them returns it: an array
                ``[N, ...]``, or a (nested) dict of such.
            state: What the last call returned; None at the beginning.
            episode_start: Where the observation begins an episode ``[N]``, so that the
                environment's past counts for nothing; None for nowhere, but where there is
                no state.
            deterministic: Whether to take the best action instead of a sampled one.

        Returns:
            The actions in the environments' own form and units, an array ``[N, ...]`` or, of a
            Dict space, a list; and the state.

        Raises:
            UserError: The observation is not of the kind that the agent was trained on, or not
                of N environments, or the state is none that a call returned.
        """
        amount = self._num_envs
        rows = stacked_entries(observation, self._observations, amount)
        rows["is_first"] = np.full(amount, state is None)
        if episode_start is not None:
            starts = np.asarray(episode_start, bool)
            if starts.shape != (amount,):
                raise UserError(f"episode_start has shape {starts.shape}; expected ({amount},)")
            rows["is_first"] |= starts
        state = self._act.agent.initial_carry(amount) if state is None else state
        check_carry(state, self._like)
        mode = "eval" if deterministic else "train"
        self._key, flat, state = self._act(self._params, self._key, state, rows, mode=mode)
        actions = [self._actions.decode(action) for action in np.asarray(flat)]
        return actions if isinstance(actions[0], dict) else np.stack(actions), state
