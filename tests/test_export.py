"""Exports: a trained model in one file."""

from __future__ import annotations

import json

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
    want = jax.jit(model.losses)(params, noise, batch).total
    assert jax.jit(loaded.losses)(got, noise, batch).total == want


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


def rewrite(path, change):
    """Changes the arrays of an export, among them its meta as JSON."""
    with np.load(path) as file:
        arrays = dict(file)
    meta = json.loads(arrays.pop("meta").tobytes())
    change(meta, arrays)
    arrays.setdefault("meta", np.frombuffer(json.dumps(meta).encode(), np.uint8))
    np.savez(path, **arrays)


def put(*keys, value):
    """A change of the meta at a path."""

    def change(meta, arrays):
        for key in keys[:-1]:
            meta = meta[key]
        meta[keys[-1]] = value

    return change


def told(*tasks):
    """An observation that is one of a single choice, and those tasks."""
    value = {"shape": [1], "kind": "vector", "choices": [1], "starts": [0], "tasks": list(tasks)}
    return put("observations", "task", value=value)


def drop(key):
    return lambda meta, arrays: meta.pop(key)


def with_arrays(**more):
    return lambda meta, arrays: arrays.update(more)


CRAFTED = {
    "no agent": drop("agent"),
    "no configuration": drop("config"),
    "no actions": drop("actions"),
    "configuration is a list": put("config", value=[1]),
    "observations are a list": put("observations", value=[1]),
    "an observation is a number": put("observations", "image", value=3),
    "no observations": put("observations", value={}),
    "an unknown kind": put("observations", "image", "kind", value="sound"),
    "a negative shape": put("observations", "image", "shape", value=[-32, 32, 1]),
    "a shape of words": put("observations", "image", "shape", value=["a", 32, 1]),
    "a rank": put("observations", "image", "shape", value=[32]),
    "more choices than numbers": put("observations", "nested/speed", "choices", value=[7]),
    "tasks without choices": put("observations", "nested/speed", "tasks", value=[["a", 1, 1]]),
    "tasks of words": put("observations", "nested/speed", "tasks", value=["abc"]),
    "a task without a size": put("observations", "nested/speed", "tasks", value=[["a"]]),
    "a task of no size": told(["a", 0, 1]),
    "a task of a large size": told(["a", 99, 1]),
    "a task of a negative length": told(["a", 1, -1]),
    "a task of a broken length": told(["a", 1, 1.5]),
    "more tasks than choices": told(["a", 1, 1], ["b", 1, 1]),
    "an unknown part": put("actions", 0, "kind", value="sound"),
    "a part of no size": put("actions", 1, "size", value=0),
    "an infinite bound": put("actions", 0, "low", value=[-1, float("-inf")]),
    "too few bounds": put("actions", 0, "high", value=[1]),
    "another shape of an action": put("actions", 0, "shape", value=[3]),
    "a start of words": put("actions", 1, "start", value="a"),
    "a parameter that holds others": with_arrays(**{"actor|a": np.ones(2)}),
    "meta is text": with_arrays(meta=np.frombuffer(b"hello", np.uint8)),
    "meta is a list": with_arrays(meta=np.frombuffer(b"[1]", np.uint8)),
    "meta is deep": with_arrays(meta=np.frombuffer(b"[" * 100_000, np.uint8)),
    "objects": with_arrays(x=np.array([{}], object)),
    "text": with_arrays(x=np.array(["a"])),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_export_is_one_line_with_its_file(name, folder):
    rewrite(folder / EXPORT, CRAFTED[name])
    with pytest.raises(
        UserError, match=r"export\.npz is damaged or no export \(.*\); export"
    ) as error:
        read_export(folder)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_parameters_are_finite(value, folder):
    rewrite(folder / EXPORT, with_arrays(**{"actor|a|b": np.array([1.0, value, 2.0])}))
    with pytest.raises(UserError, match=r"export\.npz holds numbers in 'actor\|a\|b' that are not"):
        read_export(folder)


def first_parameter(arrays):
    return next(key for key in arrays if key.startswith("world_model|") and arrays[key].ndim == 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:1], r"holds 'world_model\|.*' as float \(1, .*, its configuration asks for"),
        (lambda x: x[0], "as float .*, its configuration asks for float"),
        (lambda x: x.astype(np.int32), "as integer .*, its configuration asks for float"),
        (None, "lacks the parameter 'world_model"),
    ],
)
def test_parameters_that_would_broadcast_are_refused(change, message, folder):
    def edit(meta, arrays):
        name = first_parameter(arrays)
        found = arrays.pop(name)
        if change is not None:
            arrays[name] = change(found)

    rewrite(folder / EXPORT, edit)
    with pytest.raises(UserError, match=message) as error:
        load_world_model(folder)
    assert str(error.value).startswith(str(folder)) and "export it again" in str(error.value)


@pytest.mark.parametrize("value", [None, 3, {"rssm": {"deter": 10**9}}, {"rssm": {"deter": "x"}}])
def test_a_model_of_another_size_takes_no_memory(value, folder):
    rewrite(folder / EXPORT, put("config", "world_model", value=value))
    with pytest.raises(UserError):
        load_world_model(folder)


def test_an_export_of_another_version(folder, monkeypatch):
    exported = read_export(folder)
    exported.config["world_model"]["novelty"] = 1
    monkeypatch.setattr("common.model.load.read_export", lambda path: exported)
    with pytest.raises(UserError, match="novelty"):
        load_world_model(folder)
