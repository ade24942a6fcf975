"""What a run warns of at its start: options that do not go with the platform."""

from __future__ import annotations

from typing import get_args

import pytest

from common.config import update
from common.nets.precision import Precision
from common.run import train as training
from dreamer.config import Config as DreamerConfig
from planet.config import Config as PlanetConfig
from tests import fake_agent


@pytest.mark.parametrize("config", [DreamerConfig(), PlanetConfig()])
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


def test_a_model_without_a_number_format_is_not_warned_of():
    options = {"world_model.precision": "bfloat16", "model": "tdm"}
    assert update(PlanetConfig(), options).remarks("cpu") == []


def test_remarks_are_warnings_at_the_start(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(fake_agent.Config, "remarks", lambda self, platform: [f"on a {platform}"])
    program = fake_agent.load_program()
    training.train(program, update(program.default_config, {"run.frames": 40}), tmp_path)
    assert capsys.readouterr().err.splitlines() == ["warning: on a cpu"]
