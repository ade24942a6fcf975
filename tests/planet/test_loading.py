"""PlaNet acts with the world model of another agent."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

import planet
from common.command.line import main
from common.errors import UserError
from common.export import EXPORT, export
from common.model.world_model import world_model
from common.nets.heads import HeadConfig
from common.run.loading import LoadedAgent
from common.spaces import ObservationSpec
from dreamer.agent import make_agent
from dreamer.config import ActorConfig, Config
from dreamer.program import load_program as load_dreamer
from planet.agent import PlaNet
from planet.config import Config as PlanetConfig
from planet.program import adopt
from tests.tiny import ACTIONS, TINY, random_params

SPECS = {"image": ObservationSpec((32, 32, 1), "image")}
CONFIG = Config(
    task="dmc_reacher_easy",
    world_model=TINY,
    actor=ActorConfig(layers=1, units=8),
    critic=HeadConfig(layers=1, units=8),
)


def test_planning_in_the_model_of_a_dreamer(tmp_path):
    agent = make_agent(CONFIG, SPECS, ACTIONS)
    params = random_params(lambda key: agent.params(agent.init(key)))
    export(tmp_path / EXPORT, "dreamer", CONFIG, SPECS, ACTIONS, params)
    loaded = planet.load(str(tmp_path), seed=4)
    assert loaded.config == PlanetConfig(
        task="dmc_reacher_easy", world_model=TINY, image_bits=8, env=CONFIG.env
    )
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 1), dtype=np.uint8)
    action, carry = loaded.act({"image": image})
    own = PlaNet(world_model(TINY, SPECS, ACTIONS), loaded.config)
    _, key = jax.random.split(jax.random.key(4))
    rows = {"image": image[None], "is_first": np.array([True])}
    want, _ = own.act(params, key, own.initial_carry(1), rows, "eval")
    np.testing.assert_allclose(action, want[0], atol=1e-4)
    loaded.act({"image": image}, carry)


def test_a_dreamer_needs_more_than_the_model_of_a_planet(tmp_path, capsys):
    export(tmp_path / EXPORT, "planet", PlanetConfig(), SPECS, ACTIONS, {})
    with pytest.raises(UserError, match="holds a planet agent; load it with planet.load"):
        LoadedAgent(load_dreamer(), tmp_path)
    assert main("dreamer", load_dreamer, ["eval", "--logdir", str(tmp_path / EXPORT)]) == 2
    said = capsys.readouterr().err
    assert f"holds a planet agent; planet eval --logdir {tmp_path / EXPORT} reads it" in said


def test_what_is_adopted():
    values = dataclasses.asdict(CONFIG)
    assert set(adopt(values)) == {"task", "seed", "env", "world_model", "image_bits"}
