"""What a run warns of at its start: options that do not go with the platform."""

from __future__ import annotations

from typing import get_args

import pytest

from common.command.presets import resolve
from common.config import update
from common.nets.precision import Precision
from common.run import online
from common.run import train as training
from dreamer.config import Config as DreamerConfig
from dreamer.program import load_program as load_dreamer
from planet.config import Config as PlanetConfig
from planet.program import load_program
from tests import fake_agent


@pytest.mark.parametrize("config", [DreamerConfig(), PlanetConfig(), PlanetConfig(model="tdmpc2")])
def test_a_number_format_that_is_slower_here_is_warned_of(config):
    asked = {
        (platform, precision): update(config, {"world_model.precision": precision}).remarks(
            platform
        )
        for platform in ("cpu", "gpu")
        for precision in get_args(Precision)
    }
    (line,) = asked.pop(("cpu", "bfloat16"))
    assert "--precision bfloat16_products" in line and not any(asked.values())


UNUSED = [
    (PlanetConfig, {"model": "tdm"}, []),
    (PlanetConfig, {"model": "tdm", "world_model.precision": "bfloat16"}, ["not of model tdm"]),
    (PlanetConfig, {"model": "tdmpc2", "model_opt.lr": 1.0}, ["has tdmpc2.model_opt"]),
    (PlanetConfig, {"planner.method": "mppi", "planner.temperature": 3.0}, []),
    (PlanetConfig, {"planner.elites": 3}, ["planner.method cem has no elites: nothing"]),
    (PlanetConfig, {"planner.method": "shooting", "planner.draw": True}, ["shooting has no draw"]),
    (PlanetConfig, {"planner.caution": 1.0}, ["planner.caution is of planner.value"]),
    (DreamerConfig, {"planner.method": "cem"}, []),
    (DreamerConfig, {"world_model.kl.dyn_scale": 1.0}, []),
    (
        DreamerConfig,
        {"world_model.kl.dyn_scale": 1.0, "world_model.kl.balance": 0.5},
        ["world_model.kl.balance is without"],
    ),
    (
        DreamerConfig,
        {"world_model.kl.balance": 0.5, "world_model.kl.scale": 0.1, "actor_opt.lr": 1.0},
        [],
    ),
    (DreamerConfig, {"joint": True}, []),
    (DreamerConfig, {"joint": True, "actor_opt.lr": 1.0}, ["actor_opt is without effect"]),
    (DreamerConfig, {"behavior.critic_scale": 0.5}, ["behavior.critic_scale is without effect"]),
    (DreamerConfig, {"joint": True, "behavior.critic_scale": 0.5}, []),
    (DreamerConfig, {"planner.acts": True}, []),
    (DreamerConfig, {"planner.acts": True, "planner.momentum": 0.1}, ["mppi has no momentum"]),
    (DreamerConfig, {"planner.acts": True, "behavior.reward_norm.momentum": 0.9}, ["reward_norm"]),
]


@pytest.mark.parametrize(("config", "options", "words"), UNUSED)
def test_options_without_effect_are_warned_of(config, options, words):
    found = update(config(), options).remarks("cpu")
    assert len(found) == len(words)
    assert all(word in line for word, line in zip(words, found, strict=True))


@pytest.mark.parametrize(
    "preset", ["dmc_vision", "atari", "dmc_proprio_v3", "atari_v3", "dreamer_v1"]
)
def test_presets_set_nothing_without_effect(preset):
    assert not resolve(load_dreamer(), [preset]).remarks("gpu")


def test_first_episodes_that_may_take_the_whole_run_are_warned_of(capsys):
    """Only warned of: episodes may end before they are as long as they can be."""
    config = resolve(load_program(), ["tdmpc2"])
    for frames, warned in ((4000, True), (5000, True), (5002, False)):
        online.check_length(update(config, {"run.frames": frames}), 2, 1, 500)
        said = capsys.readouterr().err
        assert ("learning starts after episodes that take up to 5,000 frames" in said) == warned
    online.check_length(update(config, {"run.frames": 4000}), 2, 1)
    assert not capsys.readouterr().err


def test_a_preset_without_options_for_an_agent_is_warned_of(capsys):
    resolve(load_program(), ["tdmpc2", "tdmpc2_1m"])
    assert not capsys.readouterr().err
    resolve(load_program(), ["tdmpc2", "size_1m"])
    assert capsys.readouterr().err == "warning: the preset size_1m has nothing for planet\n"


def test_remarks_are_warnings_at_the_start(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(fake_agent.Config, "remarks", lambda self, platform: [f"on a {platform}"])
    program = fake_agent.load_program()
    training.train(program, update(program.default_config, {"run.frames": 40}), tmp_path)
    assert capsys.readouterr().err.splitlines() == ["warning: on a cpu"]
