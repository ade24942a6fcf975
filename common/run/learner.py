"""An agent that learns: its state, its random numbers, and its compiled functions."""

from __future__ import annotations

from typing import Any

import jax

from common.agent import Agent, OpenLoop
from common.run.clocks import announced
from common.run.driver import ActFunction, AgentPolicy
from common.types import Params, Rows


class AgentLearner:
    """The changing half of one agent, on one device; a ``common.run.protocols.Learner``.

    Attributes:
        policy: Acts in the training environments with the newest parameters.
    """

    def __init__(self, agent: Agent, num_envs: int, seed: int):
        """Draws the weights.

        Args:
            agent: Pure functions.
            num_envs: Training environments.
            seed: Seed of weights, updates and exploration.
        """
        self._agent = agent
        # Jitted so that every array of the state has a buffer of its own to donate.
        with announced("building the agent"):
            self._state = jax.block_until_ready(jax.jit(agent.init)(jax.random.key(seed)))
        self._key = jax.random.key(seed + 1)
        self._update = jax.jit(agent.update, donate_argnums=0)
        self._report = jax.jit(agent.report)
        self._act = ActFunction(agent, announce=True)
        self.policy = AgentPolicy(self._act, self.params, num_envs, seed + 2, "train")
        self._compiled = False

    @property
    def params(self) -> Params:
        """Parameters for acting and reporting."""
        return self._agent.params(self._state)

    def update(self, batch: Rows) -> dict[str, Any]:
        """Makes one update on rows ``[B, T, ...]``; returns metrics, still on the device."""
        self._key, key = jax.random.split(self._key)
        if self._compiled:
            self._state, metrics = self._update(self._state, key, batch)
        else:
            with announced("compiling the update"):
                self._state, metrics = self._update(self._state, key, batch)
                jax.block_until_ready(self._state)
            self._compiled = True
        self.policy.params = self.params
        return metrics

    def report(self, batch: Rows) -> dict[str, OpenLoop]:
        """Returns what the model imagines of the batch, as NumPy arrays."""
        self._key, key = jax.random.split(self._key)
        return jax.device_get(self._report(self.params, key, batch))

    def evaluation_policy(self, num_envs: int, seed: int) -> AgentPolicy:
        """Returns a policy that takes the mode, with the parameters of now."""
        return AgentPolicy(self._act, self.params, num_envs, seed, "eval")

    def tree(self) -> dict[str, Any]:
        """Returns all arrays, for a checkpoint."""
        return {"agent": self._state, "key": self._key, "policy_key": self.policy.key}

    def load(self, tree: dict[str, Any]) -> None:
        """Continues from ``tree``."""
        self._state, self._key = tree["agent"], tree["key"]
        self.policy.key, self.policy.params = tree["policy_key"], self.params
