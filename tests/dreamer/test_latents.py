"""Updates of windows that begin in a state that was kept, or that a burn-in inferred."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from common.agent import Agent
from common.errors import UserError
from common.planner import PlannerConfig
from common.replay import ReplayConfig
from dreamer.agent import make_agent
from planet.agent import make_agent as make_planet
from planet.config import Config as PlanetConfig
from tests.dreamer.test_agent import CONFIG, build, fresh_state
from tests.dreamer.test_joint import V3
from tests.tiny import ACTIONS, BATCH, TIME, TINY, VECTOR, random_batch

PLANET = PlanetConfig(
    world_model=TINY, planner=PlannerConfig(horizon=3, iterations=1, candidates=4, top=2)
)
LATENTS = ReplayConfig(latents=True)


def _with(config, replay):
    return dataclasses.replace(config, replay=replay)


@pytest.fixture(scope="module", params=[CONFIG, V3, PLANET])
def kept(request) -> Agent:
    make = make_planet if request.param is PLANET else make_agent
    return make(_with(request.param, LATENTS), VECTOR, ACTIONS)


def test_an_update_begins_where_the_row_before_ended(kept):
    """What comes back is kept for the next time, and depends on what was kept before."""
    state = jax.jit(kept.init)(jax.random.key(0))
    batch = random_batch(VECTOR, ACTIONS)
    batch["is_first"][0, 0] = False
    update = jax.jit(kept.latents.update)
    found = []
    for value in (0, 1):
        latents = {
            key: np.full((BATCH, *shape), value * 0x3F80 if "deter" in key else value, dtype)
            for key, (shape, dtype) in kept.latents.specs.items()
        }
        _, metrics, new = update(state, jax.random.key(1), batch | latents)
        assert all(np.isfinite(x) for x in metrics.values())
        for key, (shape, dtype) in kept.latents.specs.items():
            assert new[key].shape == (BATCH, TIME, *shape) and new[key].dtype == dtype
        found.append(new["latent_state/deter"])
    differ = (np.asarray(found[0]) != np.asarray(found[1])).any(-1)
    # The second sequence begins with a reset, and forgets what was before.
    assert differ[0, 0] and not differ[1, 0]


def test_what_acting_infers_is_kept(kept):
    state = jax.jit(kept.init)(jax.random.key(0))
    rows = {"x": np.ones((3, 5), np.float32), "is_first": np.ones(3, bool)}
    params, carry = kept.params(state), kept.initial_carry(3)
    empty = kept.latents.pack(carry)
    assert not any(np.asarray(x).any() for x in empty.values())
    _, carry = jax.jit(kept.act, static_argnames="mode")(
        params, jax.random.key(0), carry, rows, mode="train"
    )
    for key, (shape, dtype) in kept.latents.specs.items():
        packed = kept.latents.pack(carry)[key]
        assert packed.shape == (3, *shape) and packed.dtype == dtype
    # Of the first row every variable has a class; without biases the rest is still 0.
    assert np.asarray(kept.latents.pack(carry)["latent_state/stoch"]).all()


@pytest.mark.parametrize("config", [CONFIG, V3])
def test_the_update_is_that_of_the_given_state(config):
    """The same numbers as with the state handed over, rows and random numbers alike."""
    dreamer = build(_with(config, LATENTS), ACTIONS)
    state, batch = fresh_state(dreamer), random_batch(VECTOR, ACTIONS)
    batch["is_first"][:, 0] = False
    kept = {
        "latent_state/deter": np.full((BATCH, 8), 0x3F80, np.uint16),  # 1 in bfloat16.
        "latent_state/stoch": np.full((BATCH, 3), 2, np.uint8),
    }
    key = jax.random.key(3)
    after, metrics, _ = jax.jit(dreamer.update_latents)(state, key, batch | kept)
    noise = dreamer.draw_noise(key, (BATCH, TIME))
    start = dreamer.context.unpack(kept)
    assert start.deter.min() == start.deter.max() == 1
    np.testing.assert_array_equal(np.argmax(start.stoch, -1), 1)
    wanted, expected, _ = jax.jit(dreamer.update_with_noise)(state, noise, batch, start)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6),
        (after.params, metrics), (wanted.params, expected),
    )  # fmt: skip


@pytest.mark.parametrize("make, config", [(make_agent, CONFIG), (make_planet, PLANET)])
def test_a_burn_in_is_not_learned_from(make, config):
    """Rows of it shape where the window begins, and none of its rewards is predicted."""
    agent = make(_with(config, ReplayConfig(burn_in=2)), VECTOR, ACTIONS)
    assert agent.latents is None
    state = jax.jit(agent.init)(jax.random.key(0))
    batch, update = random_batch(VECTOR, ACTIONS, time=TIME + 2), jax.jit(agent.update)
    batch["is_first"][:, 1:] = False

    def loss(**changes):
        rows = {key: value.copy() for key, value in batch.items()}
        for key, value in changes.items():
            rows[key][:, :2] = value
        return float(update(state, jax.random.key(1), rows)[1]["world_model/loss"])

    assert loss(reward=100.0) == loss()
    assert loss(x=3.0) != loss()


def test_the_token_model_has_no_latent_state():
    for replay in (LATENTS, ReplayConfig(burn_in=2)):
        config = dataclasses.replace(PLANET, model="tdm", replay=replay)
        with pytest.raises(UserError, match="tdm has no latent state .* set replay.latents false"):
            make_planet(config, VECTOR, ACTIONS)
