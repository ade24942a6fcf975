"""The true simulator as a model: the planner, proved apart from learning."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np

from common.envs.simulator import Simulator
from common.envs.vector import VectorEnvs
from common.run.driver import NumpyRows
from common.types import Array, Key, Params
from planet.beliefs import Belief
from planet.config import Config
from planet.planner import make_searcher
from planet.search import Future, Rollout


def simulator_rollout(simulator: Simulator) -> Rollout:
    """Tells the rewards of MuJoCo itself, and the states that it ends in.

    Args:
        simulator: Of the environments that are planned for; params are ignored, start is
            ``pack(simulator.states())``, and the last states ``[N, J, 2 S]`` are packed alike.
    """

    def simulate(start: Array, actions: Array) -> tuple[np.ndarray, np.ndarray]:
        states = np.asarray(start).view(np.float64)
        rewards, last = simulator.follow(states, np.asarray(actions))
        return rewards.astype(np.float32), pack(last)

    def rollout(params: Params, key: Key, start: Array, actions: Array) -> Future:
        chex.assert_rank([start, actions], [2, 4])
        chex.assert_equal_shape_prefix([start, actions], 1)
        rewards = jax.ShapeDtypeStruct(actions.shape[:3], jnp.float32)
        last = jax.ShapeDtypeStruct((*actions.shape[:2], start.shape[1]), jnp.uint32)
        rewards, last = jax.pure_callback(simulate, (rewards, last), start, actions)
        return Future(rewards, last=last)

    return rollout


def pack(states: np.ndarray) -> np.ndarray:
    """Passes float64 ``[..., S]`` through JAX, bit by bit: uint32 ``[..., 2 S]``."""
    return np.ascontiguousarray(states).view(np.uint32)


class SimulatorPolicy:
    """Plans each action with the simulator, from the state that it is in."""

    def __init__(self, config: Config, envs: VectorEnvs, seed: int):
        """Begins with empty memory.

        Args:
            config: Its ``planner`` applies.
            envs: Environments of one task, in this process.
            seed: Seed of the candidates.

        Raises:
            UserError: The environments cannot be simulated; see ``Simulator``.
        """
        self._simulator = Simulator(envs)
        self._key = jax.random.key(seed)
        rollout = simulator_rollout(self._simulator)
        searcher = make_searcher(rollout, config.planner, envs.action_spec)
        self._belief = searcher.initial(envs.num_envs)

        def act(key: Key, start: Array, belief: Belief, is_first: Array) -> tuple:
            key, now = jax.random.split(key)
            plan = searcher.search({}, now, start, belief, is_first)
            return key, plan.action, plan.belief

        self._act = jax.jit(act)

    def __call__(self, rows: NumpyRows) -> np.ndarray:
        """Plans from the present states; of the rows only ``is_first`` is read."""
        start = pack(self._simulator.states())
        self._key, action, self._belief = self._act(
            self._key, start, self._belief, rows["is_first"]
        )
        return np.asarray(action)
