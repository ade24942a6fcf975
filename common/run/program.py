"""What the command line, the run loop and the benchmarks need of an agent's package."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from common.agent import Agent
from common.spaces import ActionSpec, ObservationSpec


class Program(NamedTuple):
    """An agent together with its options.

    Attributes:
        name: Name of the agent and of its command, such as "dreamer".
        default_config: An instance of its configuration dataclass; it has the fields
            ``task``, ``seed``, ``env``, ``replay`` and ``run``, the others are its own.
        make_agent: ``(config, observation_specs, action_spec) -> Agent``.
        adopt: ``(values) -> values``: turns the configuration of another agent, as nested
            plain values, into one of this agent that acts with the other's world model;
            None where this agent needs more than that.
        acting: Section of the configuration that says only how to act, so that ``eval`` may
            change it; "" for none.
        models: Other models that ``eval --model`` may act with, by name:
            ``(config, envs, seed) -> policy``.
    """

    name: str
    default_config: Any
    make_agent: Callable[[Any, Mapping[str, ObservationSpec], ActionSpec], Agent]
    adopt: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    acting: str = ""
    models: Mapping[str, Callable[[Any, Any, int], Any]] = types.MappingProxyType({})
