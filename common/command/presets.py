"""Presets: YAML files of options, composed by name.

The files of ``configs/`` come with the package; a path names a file of the user's own.
A preset may list others under ``includes``, which come before it, and may hold a mapping
``agents`` from an agent's name to values that only that agent takes, so that agents share
the presets of a suite, and likewise ``tasks`` from patterns of tasks' names, so that a preset
serves several.
"""

from __future__ import annotations

import fnmatch
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from common.config import DEEPEST, read_mapping, update
from common.envs.registry import split
from common.errors import UserError, nearest, warn_once
from common.run.program import Config, Program

# Found by place and not by import: a folder "configs" of the user's must not hide it.
_ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = _ROOT / "configs"


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
    task = program.default_config.task
    for some in (load_presets(names, program.name), *values):
        task = some.get("task", task)
    presets = load_presets(names, program.name, task)
    for name in names:
        if not load_presets([name], program.name, task):
            warn_once(f"the preset {name} has nothing for {program.name}")
    return update(program.default_config, presets, *values).settled()


def load_presets(names: Sequence[str], agent: str, task: Any = "") -> dict[str, Any]:
    """Composes presets from left to right into one nested mapping.

    A preset may list others under ``includes``, which come before it, and may hold a
    mapping ``agents`` from an agent's name to values that only that agent takes. Either may
    hold a mapping ``tasks`` from patterns such as "dmc_walker_*" to values over its other ones,
    which runs take whose task, or every one of whose tasks, is of that name.

    Args:
        names: Names of presets that come with the package, or paths of YAML files.
        agent: Whose values to take from ``agents``, such as "dreamer".
        task: The task of the run, or several as ``--task`` takes them; what is no name is of
            no pattern.

    Raises:
        UserError: An unknown preset, a file that is not a mapping, or a circle.
    """
    merged: dict[str, Any] = {}
    known: dict[pathlib.Path, dict[str, Any]] = {}
    for name in names:
        _merge(merged, _load_preset(name, agent, task, {}, known))
    return merged


def _load_preset(
    name: str,
    agent: str,
    task: Any,
    parents: Mapping[pathlib.Path, str],
    known: dict[pathlib.Path, dict[str, Any]],
) -> dict[str, Any]:
    """Reads a preset with those that it includes.

    Args:
        name: Its name.
        agent: Whose values to take.
        task: Whose values to take as well.
        parents: The presets that include this one, by their files.
        known: What every file gave that was read before, filled here: presets that include
            one twice each do not make it be read many times.
    """
    path = _preset_path(name)
    place = path.resolve()
    if place in parents:
        raise UserError(
            f"preset {name!r} includes itself: {' -> '.join((*parents.values(), name))}"
        )
    if len(parents) >= DEEPEST:
        raise UserError(f"preset {name!r} is included by {DEEPEST} presets, one by the other")
    if place in known:
        return known[place]
    content = read_mapping(path)
    merged: dict[str, Any] = {}
    for other in _includes(name, content.pop("includes", [])):
        _merge(merged, _load_preset(other, agent, task, {**parents, place: name}, known))
    agents = _agents(name, agent, content.pop("agents", {}))
    for values in (content, agents.get(agent) or {}):
        _merge(merged, {key: value for key, value in values.items() if key != "tasks"})
        for some in _of_task(name, task, values.get("tasks")):
            _merge(merged, some)
    known[place] = merged
    return merged


def _includes(name: str, found: Any) -> list[str]:
    includes = [found] if isinstance(found, str) else found
    if not isinstance(includes, list) or not all(isinstance(other, str) for other in includes):
        raise UserError(f"preset {name!r}: includes must be a list of names of presets")
    return includes


def _agents(name: str, agent: str, found: Any) -> Mapping[str, Mapping[str, Any]]:
    agents = found or {}
    if not isinstance(agents, Mapping):
        raise UserError(f"preset {name!r}: agents must be a mapping from agents to their options")
    known = {agent, *known_agents()}
    for other, values in agents.items():
        if other not in known:
            hint = nearest(str(other), known)
            raise UserError(f"preset {name!r} has values for the unknown agent {other!r}{hint}")
        if not isinstance(values or {}, Mapping):
            raise UserError(f"preset {name!r}: agents.{other} must be a mapping of options")
    return agents


def _of_task(name: str, task: Any, found: Any) -> Iterator[Mapping[str, Any]]:
    """Yields the values of every pattern that a task is of, in order of the file."""
    patterns = found or {}
    if not isinstance(patterns, Mapping):
        raise UserError(f"preset {name!r}: tasks must be a mapping from patterns to options")
    for pattern, values in patterns.items():
        if not isinstance(values or {}, Mapping) or "task" in (values or {}):
            raise UserError(
                f"preset {name!r}: tasks.{pattern} must be a mapping of options other than task"
            )
        parts = [part for part in split(task) if isinstance(part, str)]
        if parts and all(fnmatch.fnmatchcase(part, str(pattern)) for part in parts):
            yield values or {}


def known_agents() -> list[str]:
    """Returns the names of the agents of this package: the folders that hold a program."""
    return sorted(path.parent.name for path in _ROOT.glob("*/program.py"))


def is_own(name: str) -> bool:
    """Whether a preset comes with the package, and is not a file of somebody else's."""
    return name in preset_names()


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
        name, *rest = str(key).split(".")
        if len(rest) > DEEPEST:
            raise UserError(f"the option {str(key)[:50]!r}... has {len(rest) + 1} parts")
        value = {".".join(rest): value} if rest else value
        if isinstance(value, Mapping):
            inner = target.get(name)
            target[name] = dict(inner) if isinstance(inner, Mapping) else {}
            _merge(target[name], value)
        else:
            target[name] = value
