"""Sizes at which agents are timed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from common.agent import Agent
from common.command.presets import resolve
from common.run.program import Program
from common.spaces import ActionPart, ActionSpec, ObservationSpec
from dreamer.config import Config as DreamerConfig
from dreamer.program import load_program as load_dreamer
from planet.config import Config as PlanetConfig
from planet.program import load_program as load_planet

RGB = {"image": ObservationSpec((64, 64, 3), "image")}
GRAY = {"image": ObservationSpec((64, 64, 1), "image")}
CARTPOLE = {
    "position": ObservationSpec((3,), "vector"),
    "velocity": ObservationSpec((2,), "vector"),
}


WALKER = {"state": ObservationSpec((24,), "vector")}


def _continuous(size: int) -> ActionSpec:
    part = ActionPart((), "continuous", size, (-1.0,) * size, (1.0,) * size, (size,))
    return ActionSpec((part,))


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes at which the pieces are timed.

    Attributes:
        summary: One line about it.
        presets: Presets, composed from left to right.
        observations: What the environment shows.
        actions: What the environment takes.
        options: Values over those of the presets.
        load_program: Which agent it is.
    """

    summary: str
    presets: tuple[str, ...]
    observations: Mapping[str, ObservationSpec]
    actions: ActionSpec
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    load_program: Callable[[], Program] = load_dreamer

    def config(self) -> DreamerConfig | PlanetConfig:
        """Returns the agent's configuration at this shape, with batches of 16x50 by default."""
        sizes = {"replay.batch": 16, "replay.length": 50}
        return resolve(self.load_program(), self.presets, sizes, self.options)

    def agent(self) -> Agent:
        """Builds the agent of this shape."""
        return self.load_program().make_agent(self.config(), self.observations, self.actions)


TOKENS = {
    "model": "tdm",
    # Every token of a window is scored against every other one: 50 rows would take 8 GiB.
    "replay.length": 16,
    "tdm": {"context": 16, "decode": "argmax"},
    "planner": {"method": "shooting", "horizon": 10, "iterations": 1, "candidates": 128},
}
# Windows are as long as its horizon and one row; the discount is that of the walker's episodes.
TDMPC2 = {"model": "tdmpc2", "replay.length": 4, "tdmpc2.discount": 0.99}
SHAPES = {
    "dmc_vision": Shape(
        "DreamerV2 on the control suite from pixels", ("dmc_vision",), RGB, _continuous(6)
    ),
    "atari": Shape(
        "DreamerV2 on Atari", ("atari",), GRAY, ActionSpec((ActionPart((), "categorical", 18),))
    ),
    "quickstart": Shape(
        "the README's first run, cartpole from its state", ("quickstart",), CARTPOLE, _continuous(1)
    ),
    "proprio": Shape(
        "DreamerV2, a walker from its state",
        ("dmc_proprio",),
        WALKER,
        _continuous(6),
    ),
    "proprio_v3": Shape(
        "DreamerV3 of size 1m, a walker from its state",
        ("dmc_proprio_v3",),
        WALKER,
        _continuous(6),
        {"replay.length": 64},  # As published.
    ),
    "vision_v3": Shape(
        "DreamerV3 of size 12m, a walker from pixels",
        ("dmc_vision_v3", "size_12m"),
        RGB,
        _continuous(6),
        {"replay.length": 64},
    ),
    "atari100k_v3": Shape(
        "DreamerV3 on Atari 100k at its published size, 200m",
        ("atari100k_v3",),
        RGB,
        ActionSpec((ActionPart((), "categorical", 18),)),
        {"replay.length": 64},
    ),
    "small": Shape(
        "about 0.55 million parameters, from pixels",
        ("dmc_vision", "size_xs"),
        RGB,
        _continuous(6),
        {
            "world_model.rssm": {"stoch": 8, "classes": 8, "deter": 128, "hidden": 128},
            "world_model.encoder": {"depth": 7},
            "world_model.decoder": {"depth": 7},
            "world_model.reward": {"units": 128},
            "actor": {"units": 128},
            "critic": {"units": 128},
        },
    ),
    "planet": Shape(
        "PlaNet on the control suite from pixels, the reward model of the paper",
        ("planet",),
        RGB,
        _continuous(6),
        {"world_model.reward": {"layers": 2, "units": 200}},
        load_planet,
    ),
    "tdm": Shape(
        "random shooting in the token-level dynamics, a walker from its state",
        ("dmc_proprio",),
        WALKER,
        _continuous(6),
        TOKENS | {"tdm.order": "autoregressive"},
        load_planet,
    ),
    "tdm_parallel": Shape(
        "the same with all entries of a row at once",
        ("dmc_proprio",),
        WALKER,
        _continuous(6),
        TOKENS | {"tdm.order": "parallel"},
        load_planet,
    ),
    "tdmpc2": Shape(
        "TD-MPC2 of 5 million parameters, a walker from its state",
        ("tdmpc2",),
        WALKER,
        _continuous(6),
        TDMPC2 | {"replay.batch": 256},
        load_planet,
    ),
    "tdmpc2_cpu": Shape(
        "TD-MPC2 as it learns on one core, a walker from its state",
        ("tdmpc2_cpu",),
        WALKER,
        _continuous(6),
        TDMPC2 | {"replay.batch": 128},
        load_planet,
    ),
}
