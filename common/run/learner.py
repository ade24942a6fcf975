"""An agent that learns: its state, its random numbers, and its compiled functions."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from common.agent import Agent, OpenLoop
from common.errors import UserError
from common.rows import Specs
from common.run.clocks import announced
from common.run.devices import Devices
from common.run.driver import ActFunction, AgentPolicy
from common.types import Params, Rows

PATIENCE = 100
"""Updates in a row that may be left out before a run ends by itself."""
_NORM = "/grad_norm"


class AgentLearner:
    """The changing half of one agent, on one device or several; a ``common.run.protocols.Learner``.

    Attributes:
        policy: Acts in the training environments with the newest parameters.
        latent_specs: What the replay keeps of the latent states, by name; empty for nothing.
        latents: What the newest update inferred of its rows ``[B, T, ...]``, by the same names.
        explores_until: As of the agent.
    """

    def __init__(self, agent: Agent, num_envs: int, seed: int, devices: Devices | None = None):
        """Draws the weights.

        Args:
            agent: Pure functions.
            num_envs: Training environments.
            seed: Seed of weights, updates and exploration.
            devices: Where it learns; None for one device. It acts on the first.
        """
        self._agent, self._devices = agent, devices or Devices()
        # Jitted so that every array of the state has a buffer of its own to donate.
        with announced("building the agent"):
            init = self._devices.jit(agent.init, (False,), (False,))
            self._state = jax.block_until_ready(init(self._devices.repeat(jax.random.key(seed))))
        self._key = self._devices.repeat(jax.random.key(seed + 1))
        kept = agent.latents
        update = kept.update if kept else agent.update

        def step(state: Any, key: Any, batch: Rows) -> tuple:
            key, now = jax.random.split(key)
            return key, *update(state, now, batch)

        results = (False, False, False, True) if kept else (False, False, False)
        rows = (False, False, True)
        self._update = self._devices.jit(step, rows, results, donate_argnums=0)
        self.latent_specs: Specs = kept.specs if kept else {}
        self.latents: Rows = {}
        self.explores_until = agent.explores_until
        self._report = jax.jit(agent.report)
        self._act = ActFunction(agent, announce=True)
        self.policy = AgentPolicy(self._act, self.params, num_envs, seed + 2, "train")
        self.policy.key = self._devices.own_key(self.policy.key)
        self._step: Callable[..., Any] | None = None

    @property
    def params(self) -> Params:
        """Parameters for acting and reporting."""
        return self._devices.one(self._agent.params(self._state))

    @property
    def where(self) -> str:
        """Says what it learns on."""
        return self._devices.describe()

    def place(self, rows: Rows) -> Rows:
        """Returns rows ``[B, T, ...]`` where ``update`` wants them; any thread may call it."""
        return self._devices.divide(rows)

    def update(self, batch: Rows) -> dict[str, Any]:
        """Makes one update on rows of ``place``; returns metrics, still on the device."""
        with contextlib.nullcontext() if self._step else announced("compiling the update"):
            if first := self._step is None:
                self._step = self._devices.ready(self._update, self._state, self._key, batch)
            results = self._step(self._state, self._key, batch)
            self._key, self._state, metrics, *latents = results
            if first:
                jax.block_until_ready(self._state)
        self.policy.params = self.params
        self.latents = self._devices.own(latents[0]) if latents else {}
        return metrics

    def wait(self) -> None:
        """Waits for the newest update to be made."""
        jax.block_until_ready(self._key)  # Comes out of it too, and is but one array.

    def compiled_update(self, batch: Rows) -> str:
        """Returns the program that makes an update on rows of ``place``, as XLA prints it."""
        return self._update.lower(self._state, self._key, batch).compile().as_text()

    def report(self, batch: Rows) -> dict[str, OpenLoop]:
        """Returns what the model imagines of the batch, as NumPy arrays."""
        # A key beside those of the updates, which go on as if nothing had been imagined.
        key = jax.random.fold_in(self._devices.one(self._key), 1)
        return jax.device_get(self._report(self.params, key, batch))

    def evaluation_policy(self, num_envs: int, seed: int) -> AgentPolicy:
        """Returns a policy that takes the mode, with the parameters of now."""
        return AgentPolicy(self._act, self.params, num_envs, seed, "eval")

    def tree(self) -> dict[str, Any]:
        """Returns all arrays, for a checkpoint."""
        state, key = self._devices.one((self._state, self._key))
        return {"agent": state, "key": key, "policy_key": self.policy.key}

    def load(self, tree: dict[str, Any]) -> None:
        """Continues from ``tree``."""
        self._state, self._key = self._devices.repeat((tree["agent"], tree["key"]))
        self.policy.key = self._devices.own_key(tree["policy_key"])
        self.policy.params = self.params


class LeftOut:
    """Watches for updates that changed nothing.

    An optimizer leaves an update out where its gradients are not finite, and reports their
    norm all the same (``common.learning.optimizers``).
    """

    def __init__(self) -> None:
        """Counts from here on."""
        self._norms: list[dict[str, Any]] = []
        self._made: Counter[str] = Counter()
        self._in_a_row: Counter[str] = Counter()

    def add(self, metrics: Mapping[str, Any]) -> None:
        """Takes the metrics of one update, on the device or not; fetches nothing yet."""
        self._norms.append({key: x for key, x in metrics.items() if key.endswith(_NORM)})

    def take(self, over: bool = False) -> list[str]:
        """Says in one line for each optimizer how many updates it left out since the last call.

        Args:
            over: Whether these were the last.

        Raises:
            UserError: An optimizer left out very many in a row, or all until the end.
        """
        norms, self._norms = jax.device_get(self._norms), []
        lines = []
        for name in dict.fromkeys(name for one in norms for name in one):
            finite = [bool(np.isfinite(one[name]).all()) for one in norms if name in one]
            self._made[name] += len(finite)
            for one in finite:
                self._in_a_row[name] = 0 if one else self._in_a_row[name] + 1
            if left_out := finite.count(False):
                lines.append(
                    f"{left_out} of the last {len(finite)} updates of "
                    f"{name.removesuffix(_NORM)} were left out: gradients were not finite"
                )
        for name, amount in self._in_a_row.items():
            if amount >= PATIENCE or (over and amount and amount == self._made[name]):
                raise UserError(
                    f"the last {amount:,} updates of {name.removesuffix(_NORM)} were all left "
                    "out: gradients were not finite, nothing was learned; lower the learning "
                    "rates, or look for huge numbers in observations, actions and rewards"
                )
        return lines
