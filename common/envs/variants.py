"""Procedural variants of control-suite bodies: ``dmc_walker_walk@12`` is walker number 12.

The number seeds factors, which edit the domain's MJCF before it is compiled. Every factor
is drawn by itself, log-uniformly, from a generator seeded with the number and the names of
domain and factor: it depends on nothing else, so that all tasks of a domain share the body
of a number, and the same number gives the same XML to the byte. Rewards, episodes and
initial states are the task's own; only the model is another.

==================  ===================  ====================================================
factor              range                what it multiplies
==================  ===================  ====================================================
``length/<limb>``   ``LENGTH``           positions within a limb: of its capsules' ends, its
                                         sites, its joint and of the limbs that hang on it;
                                         thickness stays (``REACHER_LENGTH``, ``FINGER_LENGTH``
                                         where the task would be out of reach)
``mass/<limb>``     ``MASS``             mass of a limb's geometry, or its density where the
                                         model gives none: longer limbs are then heavier too
``damping``         ``DAMPING``          damping of all joints
``gear``            ``GEAR``             strength of all motors
``friction``        ``FRICTION``         friction of all surfaces, and dry friction of joints
``length/string``   ``STRING``           the string of the cup
``size/ball``       ``SIZE``             radius of the ball
==================  ===================  ====================================================

=============  ======================================  ========================  ========
domain         lengths and masses                      masses only               friction
=============  ======================================  ========================  ========
acrobot        upper_arm, lower_arm; the target stays
               where the stretched arms end
ball_in_cup    string, ball's size                     cup, ball                 yes
cartpole       pole (all poles the same)               cart
cheetah        torso, bthigh, bshin, bfoot, fthigh,    total: the model fixes    yes
               fshin, ffoot                            the sum, limbs share it
finger         proximal, distal                        spinner                   yes
hopper         torso, pelvis, thigh, calf, foot                                  yes
pendulum       pole
reacher        arm, hand
walker         torso, thigh, leg, foot; both sides                               yes
               the same
=============  ======================================  ========================  ========

Damping and gear are varied in every domain; finger_spin sets the damping of the spinner by
itself. Bodies that walk begin as high above the ground as the unvaried one. A walker with
short legs cannot stand as high as its task asks, and earns less than 1 for standing.
"""

from __future__ import annotations

import functools
import math
import re
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from common.errors import UserError, nearest

Range = tuple[float, float]
LENGTH = 0.8, 1.25
REACHER_LENGTH = 0.85, 1.25
"""The farthest target of the reacher lies 0.2 from its shoulder; its arms are 0.24 long."""
FINGER_LENGTH = 0.9, 1.15
MASS = 0.6, 1.6
DAMPING = 0.5, 2.0
GEAR = 0.75, 1.35
FRICTION = 0.7, 1.4
STRING = 0.95, 1.3
"""A shorter string would be too short for some of the task's initial states."""
SIZE = 0.8, 1.25

MARK = "@"
_SEED = re.compile(r"0|[1-9][0-9]{0,8}")
_SIDE = re.compile(r"^(left|right)_|_\d+$")
_DENSITY = "1000"
_FRICTION = "1 0.005 0.0001"
"""MuJoCo's own density and friction."""
_POLES = {"two_poles": 2, "three_poles": 3}


class _Domain(NamedTuple):
    """What is varied in a domain.

    Attributes:
        limbs: Bodies with a length and a mass, without side and number.
        weights: Bodies of which only the mass is varied.
        length: Range of the lengths.
        touches: Whether anything touches anything.
        stands: Whether it stands on the ground, so that its height follows its lengths.
        extras: Factors of its own.
        finish: ``(tree, factors)``: applies what only this domain has.
    """

    limbs: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    length: Range = LENGTH
    touches: bool = False
    stands: bool = False
    extras: Mapping[str, Range] = {}
    finish: Callable[[ET.Element, Mapping[str, float]], None] = lambda tree, factors: None

    def ranges(self) -> dict[str, Range]:
        """The range of every factor."""
        ranges = {f"length/{limb}": self.length for limb in self.limbs}
        ranges |= {f"mass/{body}": MASS for body in (*self.limbs, *self.weights)}
        ranges |= {"damping": DAMPING, "gear": GEAR}
        return ranges | ({"friction": FRICTION} if self.touches else {}) | dict(self.extras)


def _finish_acrobot(tree: ET.Element, factors: Mapping[str, float]) -> None:
    base = _numbers(tree.find(".//body[@name='upper_arm']").get("pos"))
    tip = sum(factors[f"length/{limb}"] for limb in ("upper_arm", "lower_arm"))  # Each is 1 long.
    target = tree.find(".//site[@name='target']")
    target.set("pos", _text(base + [0, 0, tip]))


def _finish_cheetah(tree: ET.Element, factors: Mapping[str, float]) -> None:
    _scale(tree.find("compiler"), "settotalmass", factors["mass/total"])


def _finish_cup(tree: ET.Element, factors: Mapping[str, float]) -> None:
    _scale(tree.find(".//spatial[@name='string']"), "range", factors["length/string"])
    _scale(tree.find(".//geom[@name='ball']"), "size", factors["size/ball"])


DOMAINS: Mapping[str, _Domain] = {
    "acrobot": _Domain(("upper_arm", "lower_arm"), finish=_finish_acrobot),
    "ball_in_cup": _Domain(
        weights=("cup", "ball"), touches=True,
        extras={"length/string": STRING, "size/ball": SIZE}, finish=_finish_cup,
    ),
    "cartpole": _Domain(("pole",), ("cart",)),
    "cheetah": _Domain(
        ("torso", "bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot"), touches=True,
        stands=True, extras={"mass/total": MASS}, finish=_finish_cheetah,
    ),
    "finger": _Domain(("proximal", "distal"), ("spinner",), FINGER_LENGTH, touches=True),
    "hopper": _Domain(("torso", "pelvis", "thigh", "calf", "foot"), touches=True, stands=True),
    "pendulum": _Domain(("pole",)),
    "reacher": _Domain(("arm", "hand"), length=REACHER_LENGTH),
    "walker": _Domain(("torso", "thigh", "leg", "foot"), touches=True, stands=True),
}  # fmt: skip


def split_seed(name: str) -> tuple[str, int | None]:
    """Splits the number of a variant off a task's name: "walker_walk@12" has number 12.

    Returns:
        The name of the task, and the number; None for the unvaried body.

    Raises:
        UserError: What follows the mark is no whole number.
    """
    task, mark, seed = name.partition(MARK)
    if not mark:
        return task, None
    if not _SEED.fullmatch(seed):
        raise UserError(
            f"'dmc_{name}' names no variant; after {MARK} comes a whole number of at "
            f"most nine digits, such as dmc_{task}{MARK}7"
        )
    return task, int(seed)


def draw(domain: str, seed: int) -> dict[str, float]:
    """Returns the factors of a body, in the order in which they are listed above.

    Raises:
        UserError: There are no variants of the domain.
    """
    if domain not in DOMAINS:
        raise UserError(f"there are no variants of {domain!r}{nearest(domain, DOMAINS)}")
    factors = {}
    for name, (low, high) in DOMAINS[domain].ranges().items():
        rng = np.random.default_rng([seed, zlib.crc32(f"{domain}:{name}".encode())])
        factors[name] = round(math.exp(rng.uniform(math.log(low), math.log(high))), 6)
    return factors


@functools.lru_cache(maxsize=256)  # Several environments of a body are the rule.
def variant(suite: Any, domain: str, task: str, seed: int) -> tuple[str, dict[str, Any]]:
    """Returns the MJCF of a variant and the files that it includes.

    Args:
        suite: ``dm_control.suite``.
        domain: Such as "walker".
        task: Such as "walk"; it matters only where tasks of a domain have other models.
        seed: Number of the variant.

    Raises:
        UserError: There are no variants of the domain.
    """
    factors = draw(domain, seed)
    poles = {"num_poles": _POLES[task]} if task in _POLES else {}
    xml, assets = getattr(suite, domain).get_model_and_assets(**poles)
    return edit(xml, assets, domain, factors), assets


def edit(
    xml: str | bytes, assets: Mapping[str, Any], domain: str, factors: Mapping[str, float]
) -> str:
    """Applies the factors to a domain's MJCF.

    Args:
        xml: The domain's own.
        assets: The files that it includes.
        domain: Its name.
        factors: All factors of the domain; 1 leaves a thing as it is.

    Returns:
        The MJCF of the variant.
    """
    one, tree = DOMAINS[domain], ET.fromstring(xml)
    parents = {child: parent for parent in tree.iter() for child in parent}
    for body in tree.find("worldbody").iter("body"):
        _hang(body, _length(parents[body], factors), _length(body, factors))
        for geom in body.findall("geom"):
            _lengthen(tree, parents, geom, _length(body, factors))
            _weigh(tree, parents, geom, factors.get(f"mass/{_limb(body)}", 1.0))
        for part in (*body.findall("joint"), *body.findall("site")):
            _scale(part, "pos", _length(body, factors))
    for joint in tree.iter("joint"):
        _scale(joint, "damping", factors["damping"])
        _scale(joint, "frictionloss", factors.get("friction", 1.0))
    for motor in tree.iter("motor"):
        _scale(motor, "gear", factors["gear"])
    for geom in tree.find("worldbody").iter("geom") if one.touches else ():
        friction = _value(tree, parents, geom, "friction") or _FRICTION
        geom.set("friction", _text(_numbers(friction) * factors["friction"]))
    one.finish(tree, factors)
    if one.stands:
        root = tree.find("worldbody/body")
        higher = _lowest(xml, assets) - _lowest(_write(tree), assets)
        root.set("pos", _text(_numbers(root.get("pos")) + [0, 0, round(higher, 6)]))
    return _write(tree)


def _limb(body: ET.Element) -> str:
    return _SIDE.sub("", body.get("name", ""))


def _length(body: ET.Element, factors: Mapping[str, float]) -> float:
    return factors.get(f"length/{_limb(body)}", 1.0)


def _hang(body: ET.Element, parent: float, own: float) -> None:
    """Moves a body so that its joint is where the end of the scaled parent is."""
    position = _numbers(body.get("pos", "0 0 0"))
    joint = body.find("joint")
    anchor = _numbers("0 0 0" if joint is None else joint.get("pos", "0 0 0"))
    body.set("pos", _text(parent * (position + anchor) - own * anchor))


def _lengthen(tree: ET.Element, parents: Mapping, geom: ET.Element, factor: float) -> None:
    if factor == 1:
        return
    ends = _value(tree, parents, geom, "fromto")
    if ends:
        geom.set("fromto", _text(_numbers(ends) * factor))
        return
    _scale(geom, "pos", factor)
    if _value(tree, parents, geom, "type") == "capsule":
        geom.set("size", _text(_numbers(geom.get("size")) * [1, factor]))


def _weigh(tree: ET.Element, parents: Mapping, geom: ET.Element, factor: float) -> None:
    if factor == 1:
        return
    mass = _value(tree, parents, geom, "mass")
    density = _value(tree, parents, geom, "density") or _DENSITY
    name, value = ("mass", mass) if mass else ("density", density)
    geom.set(name, _text(_numbers(value) * factor))


def _value(tree: ET.Element, parents: Mapping, element: ET.Element, name: str) -> str | None:
    """An attribute of an element, its own or that of the defaults that apply to it."""
    if name in element.attrib:
        return element.get(name)
    default, above = element.get("class"), element
    while default is None and above in parents:
        above = parents[above]
        default = above.get("childclass")
    place = tree.find("default" if default is None else f".//default[@class='{default}']")
    while place is not None and place is not tree:
        found = place.find(element.tag)
        if found is not None and name in found.attrib:
            return found.get(name)
        place = parents[place]
    return None


def _lowest(xml: str | bytes, assets: Mapping[str, Any]) -> float:
    """Height of the lowest point of all capsules, in the pose that the model describes."""
    import mujoco  # Not at the top: the renderer is chosen before.

    model = mujoco.MjModel.from_xml_string(_decoded(xml), dict(assets))
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    capsules = model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE
    radius, half = model.geom_size[capsules, 0], model.geom_size[capsules, 1]
    upright = np.abs(data.geom_xmat[capsules, 8])
    return float((data.geom_xpos[capsules, 2] - half * upright - radius).min())


def _write(tree: ET.Element) -> str:
    return ET.tostring(tree, encoding="unicode")


def _decoded(xml: str | bytes) -> str:
    return xml if isinstance(xml, str) else xml.decode()


def _scale(element: ET.Element, name: str, factor: float) -> None:
    if factor != 1 and name in element.attrib:
        element.set(name, _text(_numbers(element.get(name)) * factor))


def _numbers(text: str) -> np.ndarray:
    return np.array(text.split(), float)


def _text(numbers: np.ndarray) -> str:
    return " ".join(f"{number:.9g}" for number in numbers)
