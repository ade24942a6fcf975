"""Constraints of the Real-World RL suite: which are kept, told from the simulator's state.

==============  ==================================================================================
domain          constraints, kept where the number is within its limit; s is the coefficient
==============  ==================================================================================
cartpole        ``slider_pos`` 2 s m, ``slider_accel`` 130 s m/s² (balance: 1.5 s and 10 s);
                ``balance_velocity`` 0.5 s rad/s, within (1 - s) / 0.5 + 0.15 rad of upright
walker          ``joint_angle`` s times hips -30 to 110, knees -160 to 15, ankles -75 to 60 degrees;
                ``joint_velocity`` 65 s rad/s; ``dangerous_fall`` torso leans forwards by more than
                -0.5 s; ``torso_upright`` above 1 - s
quadruped       ``joint_angle`` 60 s degrees; ``joint_velocity`` 20 s rad/s (run: 0.4 s);
                ``upright`` above 1 - 0.7 s; ``foot_force`` 20,000 s N (run: 300,000 s)
humanoid        ``upright`` above 1 - s; ``joint_angle`` π s rad; ``joint_velocity`` 90 s rad/s;
                ``dangerous_fall`` 100 s N on head and torso; ``foot_force`` 8,000 s N
manipulator     ``joint_angle`` shoulder 160 s, elbow 140 s degrees; ``joint_velocity`` 10 s rad/s;
                ``joint_accel`` 3,600 s rad/s²; ``grasp_force`` 5 s, of log(1 + N)
all             ``action_roc`` change of every entry of the control between two steps: 1.5 s, walker
                1.55 s, quadruped 1.4 s, humanoid 1.85 s; not among "all"
==============  ==================================================================================

Limits are those of google-research/realworldrl_suite. In its code a walker keeps ``joint_angle``
where any joint does, which nearly always holds; here all have to. Its humanoid leaves out one joint
of ``joint_velocity``; here none is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from common.envs.challenges.config import SafetyConfig
from common.envs.challenges.perturb import check_task
from common.errors import UserError, nearest
from common.rows import LOG_PREFIX

Check = Callable[[Any, float], bool]
"""(dm_control physics, coefficient) -> whether a constraint is kept."""

ACTION_ROC = "action_roc"
_RATES = {"cartpole": 1.5, "walker": 1.55, "quadruped": 1.4, "humanoid": 1.85, "manipulator": 1.5}


class Safety:
    """The constraints of an environment.

    Attributes:
        names: Of those that count.

    Args:
        domain: Such as "walker".
        task: Such as "walk".
        config: Which constraints, and how easy they are to keep.

    Raises:
        UserError: The suite has none for the task, or not these.
    """

    def __init__(self, domain: str, task: str, config: SafetyConfig):
        check_task("safety.constraints", domain, task)
        checks = _checks(domain, task)
        self.names = _chosen(config.constraints, domain, checks)
        self._checks = {name: check for name, check in checks.items() if name in self.names}
        self._coeff, self._rate = config.coeff, config.coeff * _RATES[domain]
        self._last: np.ndarray | None = None

    def reset(self) -> None:
        """Forgets the control of the episode before."""
        self._last = None

    def kept(self, physics: Any) -> np.ndarray:
        """Says of every constraint ``[K]`` whether the newest simulator step kept it."""
        kept = {name: check(physics, self._coeff) for name, check in self._checks.items()}
        control = np.array(physics.control())
        change = 0.0 if self._last is None else np.abs(control - self._last)
        kept[ACTION_ROC] = self._last is None or bool(np.all(change < self._rate))
        self._last = control
        return np.array([kept[name] for name in self.names], bool)


def _chosen(wanted: Sequence[str], domain: str, checks: Mapping[str, Check]) -> tuple[str, ...]:
    known = [*checks, ACTION_ROC]
    for name in wanted:
        if name not in (*known, "all"):
            raise UserError(
                f"env.challenge.safety.constraints {name!r} is none of the {domain}'s"
                f"{nearest(name, [*known, 'all'])}"
            )
    names = {*wanted, *(checks if "all" in wanted else ())}
    return tuple(name for name in known if name in names)


def _checks(domain: str, task: str) -> dict[str, Check]:
    if domain == "cartpole":
        return _cartpole(*((2.0, 130.0) if task == "swingup" else (1.5, 10.0)))
    if domain == "quadruped":
        return _quadruped(*((0.4, 300_000.0) if task == "run" else (20.0, 20_000.0)))
    return {"walker": _WALKER, "humanoid": _HUMANOID, "manipulator": _MANIPULATOR}[domain]


def _cartpole(metres: float, acceleration: float) -> dict[str, Check]:
    def slow_when_upright(physics: Any, coeff: float) -> bool:
        near = physics.pole_angle_cosine()[0] > np.cos((1 - coeff) / 0.5 + 0.15)
        return not (near and abs(physics.angular_vel()[0]) > coeff * 0.5)

    return {
        "slider_pos": lambda physics, coeff: abs(physics.cart_position()) < coeff * metres,
        "slider_accel": lambda physics, coeff: (
            _largest(_of(physics, "qacc", ["slider"])) < coeff * acceleration
        ),
        "balance_velocity": slow_when_upright,
    }


_DEGREES = {
    "left_hip": (-30, 110), "right_hip": (-30, 110), "left_knee": (-160, 15),
    "right_knee": (-160, 15), "left_ankle": (-75, 60), "right_ankle": (-75, 60),
}  # fmt: skip
_ARM = {"arm_shoulder": (-160, 160), "arm_elbow": (-140, 140)}


def _within(degrees: Mapping[str, tuple[float, float]]) -> Check:
    low, high = np.radians(list(degrees.values())).T

    def check(physics: Any, coeff: float) -> bool:
        angles = _of(physics, "qpos", list(degrees))
        return bool(((angles > coeff * low) & (angles < coeff * high)).all())

    return check


_WALKER: dict[str, Check] = {
    "joint_angle": _within(_DEGREES),
    "joint_velocity": lambda physics, coeff: _largest(physics.data.qvel[3:]) < coeff * 65,
    "dangerous_fall": lambda physics, coeff: -physics.named.data.xmat["torso", "zx"] > coeff * -0.5,
    "torso_upright": lambda physics, coeff: physics.torso_upright() > 1 - coeff,
}


def _quadruped(speed: float, force: float) -> dict[str, Check]:
    return {
        "joint_angle": lambda physics, coeff: (
            _largest(physics.data.qpos[7:]) < coeff * np.radians(60)
        ),
        "joint_velocity": lambda physics, coeff: _largest(physics.data.qvel[6:]) < coeff * speed,
        "upright": lambda physics, coeff: float(physics.torso_upright()) > 1 - coeff * 0.7,
        "foot_force": lambda physics, coeff: (
            _strongest(
                physics, *(f"force_toe_{at}_{side}" for at in ("front", "back") for side in _SIDES)
            )
            < coeff * force
        ),
    }


_SIDES = ("left", "right")
_HUMANOID: dict[str, Check] = {
    "upright": lambda physics, coeff: physics.torso_upright() > 1 - coeff,
    "joint_angle": lambda physics, coeff: _largest(physics.data.qpos[7:]) < coeff * np.pi,
    "joint_velocity": lambda physics, coeff: _largest(physics.data.qvel[6:]) < coeff * 90,
    "dangerous_fall": lambda physics, coeff: (
        _strongest(physics, "head_touch", "torso_touch") < coeff * 100
    ),
    "foot_force": lambda physics, coeff: (
        _strongest(physics, *(f"{one}_{other}_foot_touch" for one in _SIDES for other in _SIDES))
        < coeff * 8000
    ),
}
_MANIPULATOR: dict[str, Check] = {
    "joint_angle": _within(_ARM),
    "joint_velocity": lambda physics, coeff: (
        _largest(_of(physics, "qvel", list(_ARM))) < coeff * 10
    ),
    "joint_accel": lambda physics, coeff: _largest(_of(physics, "qacc", list(_ARM))) < coeff * 3600,
    "grasp_force": lambda physics, coeff: _largest(physics.touch()) < coeff * 5,
}


def _of(physics: Any, what: str, joints: Sequence[str]) -> np.ndarray:
    values = getattr(physics.named.data, what)
    return np.array([np.ravel(values[joint])[0] for joint in joints])


def _largest(numbers: np.ndarray) -> float:
    return float(np.abs(numbers).max())


def _strongest(physics: Any, *sensors: str) -> float:
    return max(float(np.linalg.norm(physics.named.data.sensordata[name])) for name in sensors)


class Tally:
    """What the simulator steps of one action add up to: the reward, and what they violated.

    Attributes:
        reward: Sum of the rewards, each (1 - c) of the task's and c of the kept share.
        cost: Sum of the violated shares; None where nothing is a constraint.

    Args:
        safety: The constraints; None where there are none.
        coeff: The share c.
    """

    def __init__(self, safety: Safety | None, coeff: float):
        self._safety, self._coeff = safety, coeff
        self.reward, self._task_reward = 0.0, 0.0
        self.cost = None if safety is None else 0.0
        self._violated = np.zeros(len(safety.names) if safety else 0, int)
        self._kept_share = 0.0

    def add(self, physics: Any, reward: float) -> None:
        """Adds a simulator step."""
        self._task_reward += reward
        if self._safety is None:
            self.reward += reward
            return
        kept = self._safety.kept(physics)
        share = float(kept.mean())
        self.reward += (1 - self._coeff) * reward + self._coeff * share
        self.cost += 1 - share
        self._kept_share += share
        self._violated += ~kept

    @property
    def log(self) -> dict[str, float]:
        """How many of the steps violated each constraint."""
        names = self._safety.names if self._safety else ()
        return {
            f"{LOG_PREFIX}violated/{name}": float(times)
            for name, times in zip(names, self._violated, strict=True)
        }

    @property
    def constraints(self) -> np.ndarray:
        """Whether all of the steps kept each constraint ``[K]``, 1 or 0; so too of no steps."""
        return (self._violated == 0).astype(np.float32)

    @property
    def objectives(self) -> np.ndarray:
        """The task's reward and the kept share ``[2]``, each a sum over the steps."""
        return np.array([self._task_reward, self._kept_share], np.float32)
