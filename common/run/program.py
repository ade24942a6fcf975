"""What the command line, the run loop and the benchmarks need of an agent's package."""

from __future__ import annotations

import importlib
import types
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from common.agent import Agent
from common.errors import UserError
from common.run.config import Settings
from common.spaces import ActionSpec, ObservationSpec

if TYPE_CHECKING:
    from common.run.driver import Policy

AGENTS = ("dreamer", "planet")
"""Names of the agents of this package, and of the packages that they are in."""

Config = TypeVar("Config", bound=Settings)


class Model(NamedTuple, Generic[Config]):
    """What an agent can act with that has learned nothing, beside the model of a run.

    Attributes:
        summary: What it is and what it needs, for the help.
        fit: ``(config) -> config``: sets the options that it acts under.
        policy: ``(config, envs, seed) -> policy``.
    """

    summary: str
    fit: Callable[[Config], Config]
    policy: Callable[[Config, Any, int], Policy]


class Program(NamedTuple, Generic[Config]):
    """An agent together with its options.

    Attributes:
        name: Name of the agent and of its command, such as "dreamer".
        default_config: An instance of its configuration dataclass.
        make_agent: ``(config, observation_specs, action_spec) -> Agent``.
        adopt: ``(values) -> values``: turns the configuration of another agent, as nested
            plain values, into one of this agent that acts with the other's world model;
            None where this agent needs more than that.
        guided: ``(config, make_other, observation_specs, action_spec) -> Agent``: acts under an
            adopted configuration by what the other agent has learned; None where this agent
            can't, or adopts nothing.
        acting: Section of the configuration that says only how to act, so that ``eval`` may
            change it; "" for none.
        models: Other models that ``eval --model`` may act with, by name.
    """

    name: str
    default_config: Config
    make_agent: Callable[[Config, Mapping[str, ObservationSpec], ActionSpec], Agent]
    adopt: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    guided: (
        Callable[[Config, Callable[[], Agent], Mapping[str, ObservationSpec], ActionSpec], Agent]
        | None
    ) = None
    acting: str = ""
    models: Mapping[str, Model[Config]] = types.MappingProxyType({})


def find_program(name: str) -> Program:
    """Returns the program of an agent of this package, by its name.

    Agents never import each other; where one needs another, they meet here.

    Raises:
        UserError: There is none of that name. Nothing else is imported, whatever a file says.
    """
    if name not in AGENTS:
        raise UserError(f"there is no agent {name!r}; there are {' and '.join(AGENTS)}")
    return importlib.import_module(f"{name}.program").load_program()
