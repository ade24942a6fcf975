"""The simulator of control-suite tasks as a model: many action sequences, threaded.

``mujoco.rollout`` steps all candidates in C++ threads, from the exact state and with the
very model of each environment (a reacher's target is part of its model, not of its
state). What it returns equals, to the bit or nearly, what the environment will do.
"""

from __future__ import annotations

import os

import mujoco
import mujoco.rollout
import numpy as np

from common.envs.dmc import ControlSuite
from common.envs.dmc_rewards import States, find_reward
from common.envs.vector import VectorEnvs
from common.errors import UserError

_STATE = mujoco.mjtState.mjSTATE_FULLPHYSICS


class Simulator:
    """Rolls action sequences out from the states that environments are in.

    Args:
        envs: N environments of one task, in this process.
        threads: Threads to simulate in; 0 for one per core.

    Raises:
        UserError: They are not of the control suite, or the task's reward is not known for
            many states at once.
    """

    def __init__(self, envs: VectorEnvs, threads: int = 0):
        self._envs = envs
        first = envs.local(0)
        if not isinstance(first, ControlSuite):
            raise UserError("only tasks of the control suite (dmc_...) can be simulated")
        self._reward = find_reward(first.name)
        model = _model(first)
        threads = threads or os.cpu_count() or 1
        self._data = [mujoco.MjData(model) for _ in range(threads)]
        self._pool = mujoco.rollout.Rollout(nthread=threads if threads > 1 else 0)
        self._sizes = mujoco.mj_stateSize(model, _STATE), model.nq, model.nv

    def states(self) -> np.ndarray:
        """Returns the present state of each environment, float64 ``[N, S]``.

        It holds all that the next steps depend on, the solver's warm start included.
        """
        size, _, _ = self._sizes
        states = []
        for suite in self._suites():
            data, state = suite.environment.physics.data.ptr, np.zeros(size)
            mujoco.mj_getState(_model(suite), data, state, _STATE)
            states.append(np.concatenate([state, data.qacc_warmstart]))
        return np.stack(states)

    def follow(self, states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Simulates actions; episodes never end here.

        Args:
            states: From ``states`` ``[N, S]``.
            actions: In [-1, 1] ``[N, J, H, A]``.

        Returns:
            Rewards of each agent step, action repeat summed, float64 ``[N, J, H]``, and the
            states after the last ``[N, J, S]``, with a solver's warm start of zeros.
        """
        each = zip(self._suites(), states, actions, strict=True)
        rewards, last = zip(*(self._roll(*one) for one in each), strict=True)
        return np.stack(rewards), np.stack(last)

    def close(self) -> None:
        """Ends the threads."""
        self._pool.close()

    def _suites(self) -> list[ControlSuite]:
        return [self._envs.local(index) for index in range(self._envs.num_envs)]

    def _roll(
        self, suite: ControlSuite, state: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        model, (size, nq, nv) = _model(suite), self._sizes
        candidates, horizon, _ = actions.shape
        environment = suite.environment
        substeps = round(environment.control_timestep() / environment.physics.timestep())
        control = np.repeat(suite.control(actions), suite.action_repeat, axis=1)
        steps = np.repeat(control, substeps, axis=1)
        # Sensors are read before each step; one step more reads those of the last state.
        steps = np.concatenate([steps, steps[:, -1:]], 1)
        reached, sensors = self._pool.rollout(
            model, self._data, np.tile(state[:size], (candidates, 1)), steps,
            initial_warmstart=np.tile(state[size:], (candidates, 1)),
        )  # fmt: skip
        reached, sensors = reached[:, substeps - 1 : -1 : substeps], sensors[:, substeps::substeps]
        # A full state is time, positions, velocities, then what these tasks do not have.
        qpos, qvel = reached[..., 1 : 1 + nq], reached[..., 1 + nq : 1 + nq + nv]
        rewards = self._reward(model, States(qpos, qvel, control, sensors))
        rewards = rewards.reshape(candidates, horizon, suite.action_repeat).sum(-1)
        return rewards, np.pad(reached[:, -1], ((0, 0), (0, state.size - size)))


def _model(suite: ControlSuite) -> mujoco.MjModel:
    return suite.environment.physics.model.ptr
