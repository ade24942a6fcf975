"""A world model of one's own: saved, loaded, pickled and copied."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import gymnasium
import jax
import numpy as np
import pytest

import common
import dreamer
import planet
from common.errors import UserError
from tests.tiny import ACTIONS, MIXED, TINY, VECTOR, random_batch, random_params

STANDARD = dataclasses.replace(TINY, vector_transform="standard")
KEY = jax.random.key(3)


def learned(config=TINY, actions=ACTIONS):
    """A model, random parameters, a batch, and the statistics of it."""
    model = common.world_model(config, VECTOR, actions)
    batch = random_batch(VECTOR, actions)
    batch["x"] = 30 * batch["x"] + 5
    return model, random_params(model.init), batch, model.track(model.statistics, batch)


def assert_same(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.parametrize("config", [TINY, STANDARD], ids=["plain", "standard"])
@pytest.mark.parametrize("actions", [ACTIONS, MIXED], ids=["box", "mixed"])
def test_what_is_saved_is_loaded(config, actions, tmp_path):
    model, params, batch, statistics = learned(config, actions)
    path = tmp_path / "new" / "model.npz"
    common.save_world_model(path, model, params, statistics)
    assert [p.name for p in path.parent.iterdir()] == ["model.npz"]
    loaded, read = common.load_world_model(path)
    assert_same(read, params)
    assert loaded.config == config and loaded.actions == actions
    assert loaded.observations == model.observations
    assert_same(dict(loaded.statistics), dict(statistics))
    loss = jax.jit(model.loss)(params, KEY, batch, statistics=statistics)
    assert_same(jax.jit(loaded.loss)(read, KEY, batch), loss)
    again = tmp_path / "again.npz"  # Its statistics are its own.
    common.save_world_model(str(again), loaded, read)
    assert_same(dict(common.load_world_model(again)[0].statistics), dict(statistics))


def test_what_cannot_be_saved(tmp_path):
    model, params, _, statistics = learned(STANDARD)
    path = tmp_path / "model.npz"

    def refused(params=params, statistics=statistics, path=path, model=model):
        with pytest.raises(UserError) as caught:
            common.save_world_model(path, model, params, statistics)
        assert not (tmp_path / "model.npz").exists()
        return str(caught.value)

    assert "those of no batch: call model.track" in refused(statistics=None)
    without = {name: part for name, part in params.items() if name != "reward"}
    assert "params.reward.reward/dense0.bias is missing" in refused(without)
    assert "params.more is none of this model's" in refused({**params, "more": np.zeros(3)})
    wider = jax.tree.map(lambda x: np.concatenate([x, x], -1), params)
    assert "; expected (" in refused(wider) and "has shape (" in refused(wider)
    broken = jax.tree.map(lambda x: np.full_like(x, np.nan), params)
    assert "holds a NaN or an infinity" in refused(broken)
    wrong = jax.tree.map(lambda x: np.zeros((*x.shape, 2)) + 1, statistics)
    assert "statistics.x.batches has shape (2,); expected ()" in refused(statistics=wrong)
    assert "is a folder; name a file in it, such as" in refused(path=tmp_path)
    (tmp_path / "file").write_text("")
    assert "cannot write" in refused(path=tmp_path / "file" / "model.npz")
    plain = learned()[0]
    assert "statistics.x.batches is none of this model's" in refused(model=plain)


def test_a_file_without_an_agent(tmp_path):
    model, params, *_ = learned()
    path = tmp_path / "model.npz"
    common.save_world_model(path, model, params)
    with pytest.raises(UserError, match=r"holds a world model and no agent; .*load_world_model"):
        dreamer.load(path)


def test_a_planner_acts_in_a_model_of_ones_own(tmp_path):
    spaces = gymnasium.spaces
    model = common.world_model(TINY, spaces.Box(-1, 1, (5,)), spaces.Box(-2, 2, (1,), np.float64))
    params = random_params(model.init)
    common.save_world_model(tmp_path / "model.npz", model, params)
    agent = planet.load(tmp_path / "model.npz")
    assert agent.config.world_model == TINY and agent.config.image_bits == 8


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("duplicate", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy])
def test_a_model_is_pickled_as_what_it_was_built_from(duplicate, counted):
    model, params, batch, statistics = learned(STANDARD)
    if counted:
        model = common.world_model(model.config, model.observations, model.actions, statistics)
    other = duplicate(model)
    assert (other.config, other.observations, other.actions) == model[:3]
    assert_same(dict(other.statistics), dict(model.statistics))
    if counted:
        want = jax.eval_shape(model.loss, params, KEY, batch)
        assert jax.eval_shape(other.loss, params, KEY, batch) == want
        losses = [jax.jit(m.loss)(params, KEY, batch)[0] for m in (model, other)]
        assert losses[0] == losses[1]
    else:
        with pytest.raises(UserError, match="begin with model.statistics"):
            other.loss(params, KEY, batch)
