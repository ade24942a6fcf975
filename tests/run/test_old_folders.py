"""Run folders that version 0.1 wrote: their exports load, and their runs go on."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

import common
import dreamer
import planet
from common.errors import UserError
from common.run import checkpoint, folder
from common.run.train import train
from dreamer.program import load_program as dreamer_program
from planet.program import load_program as planet_program

RECORDED = pathlib.Path(__file__).resolve().parents[1] / "recorded" / "0.1"
EXPECTED = json.loads((RECORDED / "expected.json").read_text())
LOAD = {"dreamer": dreamer.load, "planet": planet.load, "tdm": planet.load}
PROGRAMS = {"dreamer": dreamer_program, "planet": planet_program, "tdm": planet_program}
SIZES = {"dreamer": 4, "planet": 3, "tdm": 3}


@pytest.mark.parametrize("name", EXPECTED)
def test_agents_load_and_act_as_they_did(name):
    agent = LOAD[name](RECORDED / name, seed=3)
    rng, carry = np.random.default_rng(0), None
    for want in EXPECTED[name]["actions"]:
        observation = rng.normal(size=SIZES[name]).astype(np.float32)
        action, carry = agent.act(observation, carry, mode="train")
        np.testing.assert_allclose(action, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["dreamer", "planet"])
def test_world_models_load_and_lose_what_they_did(name):
    model, params = common.load_world_model(RECORDED / name / "export.npz")
    shape = 2, 5
    arrays = {"vector": (*shape, SIZES[name]), "action": (*shape, model.actions.size)}
    batch = {
        key: np.linspace(-1, 1, int(np.prod(size))).reshape(size).astype(np.float32)
        for key, size in (arrays | {"reward": shape}).items()
    }
    batch |= {key: np.zeros(shape, bool) for key in ("is_first", "is_last", "is_terminal")}
    batch["is_first"][:, 0] = True
    loss, _ = model.loss(params, jax.random.key(1), batch)
    assert float(loss) == pytest.approx(EXPECTED[name]["loss"], rel=1e-4)
    assert model.statistics["vector"]["batches"] > 0


def test_an_export_without_a_critic_says_so():
    with pytest.raises(UserError, match="has no critic, because version 0.1 wrote it"):
        dreamer.load(RECORDED / "dreamer").value(np.zeros(4, np.float32))


@pytest.mark.parametrize("name", EXPECTED)
def test_runs_go_on(name, tmp_path):
    logdir = tmp_path / "run"
    shutil.copytree(RECORDED / name, logdir)
    program = PROGRAMS[name]()
    config = folder.read(logdir, program.name, program.default_config)
    assert config.run.frames == 200
    before = checkpoint.metadata(logdir / "checkpoints")
    run = dataclasses.replace(config.run, frames=240)
    train(program, dataclasses.replace(config, run=run), logdir)
    after = checkpoint.metadata(logdir / "checkpoints")
    assert (before["frames"], after["frames"]) == (200, 240)
    assert after["updates"] > before["updates"]
    if name != "tdm":
        model, _ = common.load_world_model(logdir)
        seen = model.statistics["vector"]["batches"]
        assert seen == after["updates"]
    if name == "dreamer":
        assert np.isfinite(dreamer.load(logdir).value(np.zeros(4, np.float32)))
