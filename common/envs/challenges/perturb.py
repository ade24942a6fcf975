"""Bodies that change between episodes: schedules of a quantity, and its place in the MJCF."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from common.envs.challenges.config import PerturbConfig
from common.envs.challenges.published import COMBINED, QUANTITIES, TASKS, Course
from common.errors import UserError, nearest


class Perturbation:
    """One quantity of a body, through a run.

    Attributes:
        param: Its name.
        value: What it is now.

    Args:
        domain: Such as "walker".
        task: Such as "walk".
        config: Which quantity, and how it changes.
        seed: Seed of its course.

    Raises:
        UserError: The suite varies nothing of the task, or not this quantity.
    """

    def __init__(self, domain: str, task: str, config: PerturbConfig, seed: int):
        check_task("perturb.param", domain, task)
        self._domain, self._task = domain, task
        self.param, self._course = _course(domain, config)
        self._config, self._rng = config, np.random.default_rng([seed, 1])
        self._episodes, self._sign = 0, 1.0
        self.value, self._shown = self._course.start, np.nan
        for _ in range(config.episodes):
            self._go_on()

    def next(self, suite: Any) -> tuple[str, Mapping[str, Any]] | None:
        """Goes on to the next episode; returns its MJCF and the files of it where they changed.

        Args:
            suite: ``dm_control.suite``.
        """
        self._go_on()
        if self.value == self._shown:
            return None
        self._shown = self.value
        xml, assets = _model(suite, self._domain, self._task)
        tree = ET.fromstring(xml)
        EDITS[self._domain, self.param](tree, self.value)
        return ET.tostring(tree, encoding="unicode"), assets

    def _go_on(self) -> None:
        """Goes on to the next episode."""
        if self._episodes % self._config.period == 0:
            self._advance()
        self._episodes += 1

    def _advance(self) -> None:
        """Lets a step d change the value; see ``PerturbConfig.scheduler``."""
        course, scheduler = self._course, self._config.scheduler
        step = self._rng.normal(scale=course.std)
        if scheduler == "random_walk":
            self.value += step
        elif scheduler in ("drift_pos", "cyclic_pos"):
            self.value += abs(step)
        elif scheduler in ("drift_neg", "cyclic_neg"):
            self.value -= abs(step)
        elif scheduler == "uniform":
            self.value = self._rng.uniform(course.min, course.max)
        elif scheduler == "saw_wave":
            self.value += self._sign * abs(step)
            if not course.min < self.value < course.max:
                self._sign = -1.0 if self.value >= course.max else 1.0
        over = self.value >= course.max if scheduler == "cyclic_pos" else self.value <= course.min
        if scheduler.startswith("cyclic") and over:
            self.value = course.start
        self.value = float(np.clip(self.value, course.min, course.max))


def check_task(option: str, domain: str, task: str) -> None:
    """Raises a UserError where the suite knows nothing of a task that an option is for."""
    if task not in TASKS.get(domain, ()):
        known = [f"{domain}_{one}" for domain, tasks in TASKS.items() for one in tasks]
        raise UserError(
            f"env.challenge.{option} is for {', '.join(known)}; not for {domain}_{task}"
        )


def _course(domain: str, config: PerturbConfig) -> tuple[str, Course]:
    known = QUANTITIES[domain]
    main = next(iter(known))
    param = main if config.param == "auto" else config.param
    if param not in known:
        raise UserError(
            f"env.challenge.perturb.param {param!r} is none of the {domain}'s"
            f"{nearest(param, [*known, 'auto'])}"
        )
    start, *limits = known[param]
    if config.strength != "default":
        if param != main:
            raise UserError(
                f"env.challenge.perturb.strength {config.strength} is about the {domain}'s {main}; "
                f"set strength default for {param}"
            )
        limits = COMBINED[domain][config.strength]
    own = (config.start, config.min, config.max, config.std)
    usual = (start, *limits)
    course = Course(*(mine or theirs for mine, theirs in zip(own, usual, strict=True)))
    if course.min > course.max:
        raise UserError(
            f"env.challenge.perturb.min of {param} is {course.min:g}, above its max, {course.max:g}"
        )
    return param, course


def _model(suite: Any, domain: str, task: str) -> tuple[str | bytes, Mapping[str, Any]]:
    """Returns the MJCF of a task as dm_control builds it, and the files that it includes."""
    module = getattr(suite, domain)
    if domain == "manipulator":
        move, thing = task.split("_")
        return module.make_model(use_peg=thing == "peg", insert=move == "insert")
    if domain == "quadruped":
        metres = {"walk": module._WALK_SPEED, "run": module._RUN_SPEED}[task]
        xml = module.make_model(floor_size=module._DEFAULT_TIME_LIMIT * metres)
        return xml, suite.common.ASSETS
    return module.get_model_and_assets()


Edit = Callable[[ET.Element, float], None]


def _sets(path: str, **attributes: str) -> Edit:
    """Returns what writes attributes of elements; "{}" in them is the value, "-{}" its negative."""

    def edit(tree: ET.Element, value: float) -> None:
        for element in _all(tree, path):
            for name, text in attributes.items():
                element.set(name, text.replace("-{}", repr(-value)).replace("{}", repr(value)))

    return edit


def _all(tree: ET.Element, path: str) -> list[ET.Element]:
    found = tree.findall(path)
    if not found:
        raise UserError(f"this version of dm_control has no {path} in its model; install 1.0.50")
    return found


def _each(*edits: Edit) -> Edit:
    def edit(tree: ET.Element, value: float) -> None:
        for one in edits:
            one(tree, value)

    return edit


def _pole_length(tree: ET.Element, value: float) -> None:
    for pole in _all(tree, "./default/default[@class='pole']/geom"):
        pole.set("fromto", f"0 0 0 0 0 {value!r}")
        pole.set("mass", repr(value / 10))


def _thigh_length(tree: ET.Element, value: float) -> None:
    _sets(".//geom[@name='right_thigh']", pos="0 0 -{}", size="0.05 {}")(tree, value)
    _sets(".//geom[@name='left_thigh']", pos="0 0 -{}", size="0.05 {}")(tree, value)
    for leg in (
        *_all(tree, ".//body[@name='right_leg']"),
        *_all(tree, ".//body[@name='left_leg']"),
    ):
        leg.set("pos", f"0 0 {-0.25 - 2 * value!r}")


def _torso_length(tree: ET.Element, value: float) -> None:
    _sets(".//geom[@name='torso']", size="0.07 {}")(tree, value)
    _sets(".//body[@name='right_thigh']", pos="0 -.05 -{}")(tree, value)
    _sets(".//body[@name='left_thigh']", pos="0 .05 -{}")(tree, value)


_FLOOR = "./worldbody/geom[@name='floor']"
_BODY = "./default/default[@class='body']"

EDITS: Mapping[tuple[str, str], Edit] = {
    ("cartpole", "pole_length"): _pole_length,
    ("cartpole", "pole_mass"): _sets("./default/default[@class='pole']/geom", mass="{}"),
    ("cartpole", "joint_damping"): _sets("./default/default[@class='pole']/joint", damping="{}"),
    ("cartpole", "slider_damping"): _sets(".//joint[@name='slider']", damping="{}"),
    ("walker", "thigh_length"): _thigh_length,
    ("walker", "torso_length"): _torso_length,
    ("walker", "joint_damping"): _sets("./default/joint", damping="{}"),
    ("walker", "contact_friction"): _each(
        _sets("./default/geom", friction="{} .1 .1"), _sets(_FLOOR, friction="{} .1 .1")
    ),
    ("quadruped", "shin_length"): _each(
        _sets(f"{_BODY}/default[@class='knee']/geom", fromto="0 0 0 {} 0 -{}"),
        _sets("./worldbody/body/body/body/body", pos="{} 0 -{}"),
    ),
    ("quadruped", "torso_density"): _sets(".//geom[@name='torso']", density="{}"),
    ("quadruped", "joint_damping"): _sets(f"{_BODY}/joint", damping="{}"),
    ("quadruped", "contact_friction"): _each(
        _sets(f"{_BODY}/default[@class='toe']/geom", friction="{}"),
        _sets(_FLOOR, friction="{} .1 .1"),
    ),
    ("humanoid", "joint_damping"): _sets(f"{_BODY}/joint", damping="{}"),
    ("humanoid", "contact_friction"): _each(
        _sets(f"{_BODY}/geom", friction="{} .1 .1"), _sets(_FLOOR, friction="{} .1 .1")
    ),
    ("humanoid", "head_size"): _sets(".//geom[@name='head']", size="{}"),
    ("manipulator", "lower_arm_length"): _each(
        _sets(".//geom[@name='lower_arm']", fromto="0 0 0 0 0 {}"),
        _sets(".//body[@name='hand']", pos="0 0 {}"),
    ),
    ("manipulator", "root_damping"): _sets(".//joint[@name='arm_root']", damping="{}"),
    ("manipulator", "shoulder_damping"): _sets(".//joint[@name='arm_shoulder']", damping="{}"),
}
"""What a quantity is in a domain's MJCF, as the suite writes it. It moves both thighs of the walker
to one side where it lengthens the torso; here each stays on its own."""
