"""Presets: YAML files of options, composed by name.

The files of ``configs/`` come with the package; a path names a file of the user's own.
A preset may list others under ``includes``, which come before it, and may hold a mapping
``agents`` from an agent's name to values that only that agent takes, so that agents share
the presets of a suite.
"""

from __future__ import annotations

import importlib.util
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from common.config import read_mapping, update
from common.errors import UserError, nearest
from common.run.program import Config, Program

# Found by place and not by import: a folder "configs" of the user's must not hide it.
FOLDER = pathlib.Path(__file__).resolve().parents[2] / "configs"


def preset_names() -> list[str]:
    """Returns the names of the presets that come with the package, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def preset_descriptions() -> dict[str, str]:
    """Returns the first comment line of every preset by name."""
    return {name: _first_comment(FOLDER / f"{name}.yaml") for name in preset_names()}


def _first_comment(path: pathlib.Path) -> str:
    line = path.read_text().partition("\n")[0]
    return line.lstrip("# ") if line.startswith("#") else ""


def resolve(
    program: Program[Config],
    names: Sequence[str] = (),
    *values: Mapping[str, Any],
) -> Config:
    """Returns an agent's configuration: its own defaults, then presets, then other values.

    Args:
        program: The agent.
        names: Presets, composed from left to right; see ``load_presets``.
        values: Over the presets, later ones over earlier ones; see ``common.config.update``.

    Raises:
        UserError: An unknown preset or option, or a value that its option cannot have.
    """
    return update(program.default_config, load_presets(names, program.name), *values)


def load_presets(names: Sequence[str], agent: str) -> dict[str, Any]:
    """Composes presets from left to right into one nested mapping.

    A preset may list others under ``includes``, which come before it, and may hold a
    mapping ``agents`` from an agent's name to values that only that agent takes.

    Args:
        names: Names of presets that come with the package, or paths of YAML files.
        agent: Whose values to take from ``agents``, such as "dreamer".

    Raises:
        UserError: An unknown preset, a file that is not a mapping, or a circle.
    """
    merged: dict[str, Any] = {}
    for name in names:
        _merge(merged, _load_preset(name, agent, ()))
    return merged


def _load_preset(name: str, agent: str, parents: tuple[str, ...]) -> dict[str, Any]:
    if name in parents:
        raise UserError(f"preset {name!r} includes itself: {' -> '.join((*parents, name))}")
    content = read_mapping(_preset_path(name))
    merged: dict[str, Any] = {}
    includes = content.pop("includes", [])
    for other in [includes] if isinstance(includes, str) else includes:
        _merge(merged, _load_preset(other, agent, (*parents, name)))
    agents = content.pop("agents", {})
    for other in agents:
        if other != agent and importlib.util.find_spec(other) is None:
            raise UserError(f"preset {name!r} has values for the unknown agent {other!r}")
    _merge(merged, content)
    _merge(merged, agents.get(agent) or {})
    return merged


def _preset_path(name: str) -> pathlib.Path:
    known = preset_names()
    if name in known:
        return FOLDER / f"{name}.yaml"
    path = pathlib.Path(name).expanduser()
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(f"unknown preset {name!r}{nearest(name, known)}")
    return path


def _merge(target: dict[str, Any], source: Mapping[str, Any]) -> None:
    """Writes the source over the target, mapping by mapping; dotted keys are taken apart."""
    for key, value in source.items():
        name, _, rest = str(key).partition(".")
        value = {rest: value} if rest else value
        if isinstance(value, Mapping):
            inner = target.get(name)
            target[name] = dict(inner) if isinstance(inner, Mapping) else {}
            _merge(target[name], value)
        else:
            target[name] = value
