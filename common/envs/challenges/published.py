"""What the Real-World RL suite varies of its bodies: quantities, their ranges, combined challenges.

Facts of google-research/realworldrl_suite at its newest commit (2020-08-11).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Course(NamedTuple):
    """How a quantity may change.

    Attributes:
        start: Its first value.
        min: The least.
        max: The largest.
        std: Standard deviation of a step.
    """

    start: float
    min: float
    max: float
    std: float


QUANTITIES: Mapping[str, Mapping[str, Course]] = {
    "cartpole": {
        "pole_length": Course(1, 0.3, 3, 0.3),
        "pole_mass": Course(0.1, 0.1, 10, 0.5),
        "joint_damping": Course(2e-6, 2e-6, 0.2, 0.02),
        "slider_damping": Course(5e-4, 5e-4, 3, 0.3),
    },
    "walker": {
        "thigh_length": Course(0.225, 0.1, 0.7, 0.05),
        "torso_length": Course(0.3, 0.1, 0.7, 0.05),
        "joint_damping": Course(0.1, 0.1, 10, 0.5),
        "contact_friction": Course(0.7, 0.01, 2, 0.05),
    },
    "quadruped": {
        "shin_length": Course(0.25, 0.25, 2, 0.1),
        "torso_density": Course(1000, 500, 10_000, 500),
        "joint_damping": Course(30, 10, 150, 10),
        "contact_friction": Course(1.5, 0.1, 4.5, 0.5),
    },
    "humanoid": {
        "contact_friction": Course(0.7, 0.05, 1.2, 0.1),
        "joint_damping": Course(0.2, 0.01, 2.5, 0.2),
        "head_size": Course(0.09, 0.01, 0.19, 0.02),
    },
    "manipulator": {
        "lower_arm_length": Course(0.12, 0.1, 0.25, 0.01),
        "root_damping": Course(2, 0.1, 10, 0.1),
        "shoulder_damping": Course(1.5, 0.1, 10, 0.1),
    },
}
"""Of every domain; the first is the one that combined challenges vary."""

COMBINED: Mapping[str, Mapping[str, tuple[float, float, float]]] = {
    "cartpole": {"easy": (0.9, 1.1, 0.02), "medium": (0.7, 1.7, 0.1), "hard": (0.5, 2.3, 0.15)},
    "walker": {
        "easy": (0.225, 0.25, 0.002), "medium": (0.225, 0.4, 0.015), "hard": (0.225, 0.55, 0.04),
    },
    "quadruped": {
        "easy": (0.25, 0.3, 0.005), "medium": (0.25, 0.8, 0.05), "hard": (0.25, 1.4, 0.1),
    },
    "humanoid": {"easy": (0.6, 0.8, 0.02), "medium": (0.5, 0.9, 0.04), "hard": (0.4, 1, 0.06)},
    "manipulator": dict.fromkeys(("easy", "medium", "hard"), (0.1, 0.25, 0.01)),
}  # fmt: skip
"""Least, largest and step of a domain's first quantity; the manipulator's are its usual ones."""

TASKS = {
    "cartpole": ("balance", "swingup"),
    "walker": ("stand", "walk", "run"),
    "quadruped": ("walk", "run"),
    "humanoid": ("stand", "walk"),
    "manipulator": ("bring_ball", "bring_peg", "insert_ball", "insert_peg"),
}
"""The suite's tasks, of 1,000 steps each."""
