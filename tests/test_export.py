"""Exports: a trained model in one file."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import common
from common.errors import UserError
from common.export import EXPORT, export, read_export
from common.model.load import load_world_model
from common.model.world_model import world_model
from common.spaces import ActionPart, ActionSpec, ObservationSpec
from dreamer.config import Config
from tests.compiling import compiled
from tests.tiny import TINY, random_batch, random_params

SPECS = {
    "image": ObservationSpec((32, 32, 1), "image"),
    "nested/speed": ObservationSpec((2,), "vector"),
}
ACTIONS = ActionSpec(
    (
        ActionPart(("arm",), "continuous", 2, (-1, -2), (1, 2), (2,)),
        ActionPart(("gear",), "categorical", 3, start=1),
    )
)


@pytest.fixture(scope="module")
def model():
    return world_model(TINY, SPECS, ACTIONS)


@pytest.fixture(scope="module")
def params(model):
    return random_params(model.init)


@pytest.fixture
def folder(tmp_path, params):
    config = Config(world_model=TINY)
    arguments = config, SPECS, ACTIONS, {"world_model": params, "actor": {"a": {"b": np.ones(3)}}}
    export(tmp_path / EXPORT, "dreamer", *arguments)
    return tmp_path


def test_round_trip(folder, model, params):
    loaded, got = common.load_world_model(folder)
    jax.tree.map(np.testing.assert_array_equal, got, params)
    assert jax.tree.structure(got) == jax.tree.structure(params)
    assert (loaded.config, loaded.observations, loaded.actions) == (TINY, SPECS, ACTIONS)
    noise = model.draw_noise(jax.random.key(1), (2, 3))
    batch = random_batch(SPECS, ACTIONS, time=3)
    want = compiled(model.losses)(params, noise, batch).total
    assert compiled(loaded.losses)(got, noise, batch).total == want


def test_reads_the_file_or_its_folder(folder):
    for path in (folder, folder / EXPORT, str(folder)):
        exported = read_export(path)
        assert exported.agent == "dreamer"
        assert exported.config["world_model"]["rssm"]["stoch"] == TINY.rssm.stoch
        np.testing.assert_array_equal(exported.params["actor"]["a"]["b"], np.ones(3))
    assert [path.name for path in folder.iterdir()] == [EXPORT]


def test_a_missing_export(tmp_path):
    with pytest.raises(UserError, match="no trained agent"):
        load_world_model(tmp_path)
    with pytest.raises(UserError, match="no trained agent"):
        load_world_model(tmp_path / "other.npz")


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "other"])
def test_a_damaged_export(folder, damage):
    path = folder / EXPORT
    content = path.read_bytes()
    if damage == "other":
        np.savez(path, a=np.ones(3))
    else:
        path.write_bytes({"cut": content[:-100], "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(UserError, match="damaged"):
        load_world_model(folder)


def test_an_export_of_another_version(folder, monkeypatch):
    exported = read_export(folder)
    exported.config["world_model"]["novelty"] = 1
    monkeypatch.setattr("common.model.load.read_export", lambda path: exported)
    with pytest.raises(UserError, match="novelty"):
        load_world_model(folder)
