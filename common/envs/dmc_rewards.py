"""Rewards of control-suite tasks for many states at once.

The suite computes a reward for one state at a time, in Python. Whoever plans with the
simulator needs hundreds of thousands per action; here they are the same numbers, from
arrays. Each formula is that of the task in dm_control.suite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from common.errors import UserError, nearest


class States(NamedTuple):
    """States after simulator steps, with any leading axes.

    Attributes:
        qpos: Positions ``[..., nq]``.
        qvel: Velocities ``[..., nv]``.
        control: Control that led there ``[..., nu]``.
        sensors: Sensor readings of these very states ``[..., nsensordata]``.
    """

    qpos: np.ndarray
    qvel: np.ndarray
    control: np.ndarray
    sensors: np.ndarray


Reward = Callable[[Any, States], np.ndarray]
"""(mujoco.MjModel, states [...]) -> rewards [...]."""


def find_reward(name: str) -> Reward:
    """Returns the reward of a task, such as "cheetah_run".

    Raises:
        UserError: The task's reward is not among those written for many states.
    """
    if name not in REWARDS:
        known = [f"dmc_{known}" for known in REWARDS]
        raise UserError(
            f"there is no batched reward of 'dmc_{name}' to simulate it with"
            f"{nearest(f'dmc_{name}', known)}"
        )
    return REWARDS[name]


def _tolerance(*args: Any, **kwargs: Any) -> np.ndarray:
    from dm_control.utils import rewards  # Not at the top: the renderer is chosen before.

    return rewards.tolerance(*args, **kwargs)


def _cartpole(model: Any, states: States) -> np.ndarray:
    cosine = np.cos(np.cumsum(states.qpos[..., 1:], -1))
    upright = (cosine.mean(-1) + 1) / 2
    centered = (1 + _tolerance(states.qpos[..., 0], margin=2)) / 2
    small_control = _tolerance(
        states.control[..., 0], margin=1, value_at_margin=0, sigmoid="quadratic"
    )
    small_velocity = _tolerance(states.qvel[..., 1:], margin=5).min(-1)
    return upright * (4 + small_control) / 5 * (1 + small_velocity) / 2 * centered


def _cheetah(model: Any, states: States) -> np.ndarray:
    speed = states.sensors[..., model.sensor("torso_subtreelinvel").adr[0]]
    return _tolerance(speed, bounds=(10, np.inf), margin=10, value_at_margin=0, sigmoid="linear")


def _walker(speed: float) -> Reward:
    def reward(model: Any, states: States) -> np.ndarray:
        height = model.body("torso").pos[2] + states.qpos[..., 0]
        standing = _tolerance(height, bounds=(1.2, np.inf), margin=0.6)
        upright = (1 + np.cos(states.qpos[..., 2])) / 2
        stand = (3 * standing + upright) / 4
        velocity = states.sensors[..., model.sensor("torso_subtreelinvel").adr[0]]
        move = _tolerance(
            velocity, bounds=(speed, np.inf), margin=speed / 2, value_at_margin=0.5,
            sigmoid="linear",
        )  # fmt: skip
        return stand * (5 * move + 1) / 6

    return reward


def _finger_spin(model: Any, states: States) -> np.ndarray:
    velocity = states.sensors[..., model.sensor("hinge_velocity").adr[0]]
    return (velocity <= -15).astype(float)


def _cup_catch(model: Any, states: States) -> np.ndarray:
    cup, ball, target = model.body("cup"), model.body("ball"), model.site("target")
    offset = cup.pos + target.pos - ball.pos
    away = np.abs(states.qpos[..., :2] - states.qpos[..., 2:] + offset[[0, 2]])
    room = target.size[[0, 2]] - model.geom("ball").size[0]
    return (away < room).all(-1).astype(float)


def _reacher(model: Any, states: States) -> np.ndarray:
    angles = np.cumsum(states.qpos, -1)
    reach = model.body("hand").pos[0], (model.body("finger").pos + model.geom("finger").pos)[0]
    finger = sum(
        length * np.stack([np.cos(angles[..., joint]), np.sin(angles[..., joint])], -1)
        for joint, length in enumerate(reach)
    )
    target = model.geom("target")
    distance = np.linalg.norm(target.pos[:2] - finger, axis=-1)
    return _tolerance(distance, (0, target.size[0] + model.geom("finger").size[0]))


REWARDS: dict[str, Reward] = {
    "cartpole_balance": _cartpole,
    "cartpole_swingup": _cartpole,
    "cheetah_run": _cheetah,
    "walker_walk": _walker(1),
    "walker_run": _walker(8),
    "finger_spin": _finger_spin,
    "ball_in_cup_catch": _cup_catch,
    "reacher_easy": _reacher,
    "reacher_hard": _reacher,
}
