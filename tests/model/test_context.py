"""Where windows begin: what is kept of a latent state, and what a burn-in infers."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.dynamics.rssm import RSSMConfig, RSSMState
from common.dynamics.s5 import S5Config
from common.errors import UserError
from common.model.context import DETER, STOCH, Context
from common.model.world_model import world_model
from common.replay.memory import row_bytes
from common.rows import row_specs
from common.spaces import ObservationSpec
from tests.configs.reading import load
from tests.tiny import ACTIONS, TINY, VECTOR, box, random_batch, random_params

GAUSSIAN = dataclasses.replace(TINY, rssm=RSSMConfig(latent="gaussian", stoch=3, deter=8, hidden=8))


S5 = dataclasses.replace(
    TINY, dynamics="s5", s5=S5Config(stoch=3, classes=4, layers=2, width=8, modes=4, units=8)
)


def _context(config=TINY, latents=True, burn_in=0):
    model = world_model(config, VECTOR, ACTIONS)
    return model, Context(model, latents, burn_in)


@pytest.mark.parametrize("config", [TINY, GAUSSIAN])
def test_a_kept_state_comes_back_rounded_to_bfloat16(config):
    model, context = _context(config)
    batch, params = random_batch(VECTOR, ACTIONS), random_params(model.init)
    states = model.observe(params, jax.random.key(0), batch)
    kept = context.pack(states)
    for key, (shape, dtype) in context.specs.items():
        assert kept[key].shape == (2, 4, *shape) and kept[key].dtype == dtype
    again = context.unpack(kept)
    np.testing.assert_allclose(again.deter, states.deter, rtol=2**-8)
    exact = config is TINY
    np.testing.assert_allclose(again.stoch, states.stoch, rtol=0 if exact else 2**-8)
    assert jax.tree.map(lambda x: x.dtype, again) == jax.tree.map(lambda x: x.dtype, states)


def test_of_s5_the_modes_are_kept_and_the_output_is_not():
    """No later step reads it; a row has two bytes a mode and one a variable."""
    model, context = _context(S5)
    assert context.specs == {
        "latent_state/modes": ((2 * 8,), np.uint16), "latent_state/stoch": ((3,), np.uint8)
    }  # fmt: skip
    batch, params = random_batch(VECTOR, ACTIONS, time=5), random_params(model.init)
    batch["is_first"][:, 1] = False
    states = model.observe(params, jax.random.key(0), batch)
    kept = context.pack(states)
    again = context.unpack(kept)
    np.testing.assert_allclose(again.modes, states.modes, rtol=2**-8)
    np.testing.assert_array_equal(again.stoch, states.stoch)
    assert not np.any(again.deter) and again.deter.shape == states.deter.shape
    rows = {key: value[:, 1:] for key, value in batch.items()}
    kept = {key: value[:, 0] for key, value in kept.items()}
    rows, start = context.begin(params, {}, jax.random.key(1), rows | kept)
    found = model.observe(params, jax.random.key(0), rows, start)
    np.testing.assert_allclose(found.modes[:, 0], states.modes[:, 1], atol=1e-3)
    empty = model.observe(params, jax.random.key(0), rows)
    assert np.abs(empty.modes[:, 0] - states.modes[:, 1]).max() > 0.01


@pytest.mark.parametrize("config", [TINY, GAUSSIAN, S5])
def test_zeros_are_the_state_before_the_first_row(config):
    model, context = _context(config)
    kept = context.pack(model.initial(5))
    assert not any(np.asarray(value).any() for value in kept.values())
    jax.tree.map(np.testing.assert_array_equal, context.unpack(kept), model.initial(5))


@pytest.mark.parametrize("classes, dtype", [(255, np.uint8), (256, np.uint16), (300, np.uint16)])
def test_every_class_has_a_number(classes, dtype):
    config = dataclasses.replace(TINY, rssm=RSSMConfig(stoch=2, classes=classes, deter=8, hidden=8))
    _, context = _context(config)
    stoch = np.eye(classes, dtype=np.float32)[[[0, classes - 1]]]
    kept = context.pack(RSSMState(jnp.zeros((1, 8)), jnp.asarray(stoch)))
    assert context.specs[STOCH][1] == dtype and kept[STOCH].tolist() == [[1, classes]]
    np.testing.assert_array_equal(context.unpack(kept).stoch, stoch)


def test_a_row_of_size_12m_is_small():
    """64x64 pixels: 12,288 bytes; the reference keeps another 10,240 of latents."""
    config = load("dmc_vision_v3", "size_12m")
    specs = {"image": ObservationSpec((64, 64, 3), "image")}
    model = world_model(config.world_model, specs, box(6))
    rows = row_specs(specs, box(6)) | Context(model, True, 0).specs
    assert row_bytes(rows) == 12_288 + 2 * 2048 + 32 + 4 * 6 + 4 + 3 <= 16.1 * 1024


def test_a_window_begins_in_the_kept_state():
    model, context = _context()
    batch, params = random_batch(VECTOR, ACTIONS, time=5), random_params(model.init)
    batch["is_first"][:, 1] = False
    states = model.observe(params, jax.random.key(0), batch)
    kept = {key: value[:, 0] for key, value in context.pack(states).items()}
    later = {key: value[:, 1:] for key, value in batch.items()}
    rows, start = context.begin(params, {}, jax.random.key(1), later | kept)
    assert rows.keys() == batch.keys()
    found = model.observe(params, jax.random.key(0), rows, start)
    empty = model.observe(params, jax.random.key(0), rows)
    wanted = states.deter[:, 1]
    # The first step has the rounding of bfloat16 alone: its deter comes before its own draw.
    np.testing.assert_allclose(found.deter[:, 0], wanted, atol=3e-3)
    assert np.abs(empty.deter[:, 0] - wanted).max() > 0.01


def test_a_burn_in_infers_the_state_without_gradients():
    model, context = _context(latents=False, burn_in=2)
    batch, params = random_batch(VECTOR, ACTIONS, time=5), random_params(model.init)
    rows, start = context.begin(params, {}, jax.random.key(1), batch)
    for key, value in batch.items():
        np.testing.assert_array_equal(rows[key], value[:, 2:])
    before = {key: value[:, :2] for key, value in batch.items()}
    states = model.observe(params, jax.random.key(1), before)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y[:, -1], rtol=1e-5), start, states)

    def total(params):
        start = context.begin(params, {}, jax.random.key(1), batch)[1]
        return start.deter.sum() + start.stoch.sum()

    assert not any(np.asarray(x).any() for x in jax.tree.leaves(jax.grad(total)(params)))


def test_without_either_a_window_begins_in_nothing():
    _, context = _context(latents=False)
    batch = random_batch(VECTOR, ACTIONS)
    rows, start = context.begin({}, {}, jax.random.key(0), batch)
    assert rows is batch and start is None and not context.specs


def test_states_with_windows_cannot_be_kept():
    config = dataclasses.replace(TINY, dynamics="transformer")
    with pytest.raises(UserError, match="the dynamics are transformer; set replay.latents false"):
        _context(config)


def test_the_names_are_those_of_latents():
    assert {DETER, STOCH} == {"latent_state/deter", "latent_state/stoch"}
