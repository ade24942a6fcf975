"""Specifications as the Real-World RL suite documents them, turned into options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.config import update
from common.envs.challenges.config import ChallengeConfig
from common.errors import UserError, nearest

_FAULTS = {
    f"{what}_{how}": f"{what.rstrip('s')}s_{how}"
    for what in ("observations", "actions", "action")
    for how in ("prob", "steps")
}
"""Its text says action_prob where its code reads actions_prob, and does nothing; both work here."""

_NAMES: Mapping[str, Mapping[str, str]] = {
    "delay_spec": {name: f"delay.{name}" for name in ("actions", "observations", "rewards")},
    "noise_spec.gaussian": {name: f"gaussian.{name}" for name in ("actions", "observations")},
    "noise_spec.dropped": {name: f"dropped.{ours}" for name, ours in _FAULTS.items()},
    "noise_spec.stuck": {name: f"stuck.{ours}" for name, ours in _FAULTS.items()},
    "noise_spec.repetition": {
        name: f"repetition.{ours}" for name, ours in _FAULTS.items() if name.startswith("action")
    },
    "perturb_spec": {
        name: f"perturb.{name}"
        for name in ("param", "scheduler", "period", "start", "min", "max", "std")
    },
    "dimensionality_spec": {"num_random_state_observations": "dimensions"},
    "safety_spec": {
        "constraints": "safety.constraints",
        "safety_coeff": "safety.coeff",
        "observations": "safety.observations",
    },
    "multiobj_spec": {"coeff": "multiobj.coeff", "observed": "multiobj.observed"},
}
_USUAL = {"safety_spec": {"constraints": ("all",)}, "perturb_spec": {"param": "auto"}}
"""What a specification means that only says ``enable``."""


def from_specs(**specs: Mapping[str, Any]) -> ChallengeConfig:
    """Returns the options of the suite's specifications.

    ``from_specs(delay_spec={"enable": True, "actions": 3})``. What is not enabled is left out.
    ``repetition`` means what the suite's text says: so many times after the first.

    Args:
        specs: ``delay_spec``, ``noise_spec`` and the others; ``combined_challenge`` is a preset
            here: rwrl_easy, rwrl_medium or rwrl_hard.

    Raises:
        UserError: A name is unknown, or a value is none that its option can have.
    """
    flat = {key: value for key, value in specs.items() if key != "noise_spec"}
    noise = _mapping("noise_spec", specs.get("noise_spec", {}))
    flat |= {f"noise_spec.{key}": value for key, value in noise.items()}
    values: dict[str, Any] = {}
    for spec, given in flat.items():
        if spec not in _NAMES:
            raise UserError(f"unknown specification {spec!r}{nearest(spec, _NAMES)}")
        content = _mapping(spec, given)
        if not content.get("enable", False):
            continue
        values |= _translated(spec, _USUAL.get(spec, {}) | dict(content))
    return update(ChallengeConfig(), values)


def _mapping(spec: str, content: Any) -> Mapping[str, Any]:
    """Returns a specification; the suite's None says that there is none."""
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise UserError(f'{spec} is {content!r}; expected a dict such as {{"enable": True}}')
    return content


def _translated(spec: str, content: Mapping[str, Any]) -> dict[str, Any]:
    known, values = _NAMES[spec], {}
    content = {key: value for key, value in content.items() if key != "enable"}
    if spec == "multiobj_spec":
        if content.pop("objective", "safety") != "safety":
            raise UserError("multiobj_spec.objective can be 'safety' only")
        if not content.pop("reward", False):
            content["coeff"] = 0.0
    for key, value in content.items():
        if f"{spec}.{key}" == "safety_spec.limits":
            raise UserError(
                "safety_spec.limits has no option here; safety_spec.safety_coeff moves all limits"
            )
        if key not in known:
            raise UserError(f"unknown entry {spec}.{key}{nearest(key, known)}")
        if key == "constraints":
            names = (value,) if isinstance(value, str) else value
            value = tuple(name.removesuffix("_constraint") for name in names)
        values[known[key]] = value
    return values
