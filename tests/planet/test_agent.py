"""PlaNet the agent: acting, learning and what it shows its model."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from common.errors import UserError
from common.model.world_model import world_model
from common.planner import PlannerConfig
from common.report.page import GROUPS
from common.spaces import ObservationSpec
from planet.agent import PlaNet, make_agent
from planet.config import Config
from tests.tiny import ACTIONS, TINY, VECTOR, choice, random_batch

PLANNER = PlannerConfig(horizon=3, iterations=2, candidates=20, top=4)
CONFIG = Config(world_model=TINY, planner=PLANNER)
SPECS = {"image": ObservationSpec((32, 32, 3), "image"), **VECTOR}


def planet(**options):
    config = dataclasses.replace(CONFIG, **options)
    return PlaNet(world_model(config.world_model, VECTOR, ACTIONS), config)


def rows(amount, is_first=False):
    x = np.random.default_rng(amount).normal(size=(amount, 5)).astype(np.float32)
    return {"x": x, "is_first": np.full(amount, is_first)}


def test_updates_learn_and_nothing_else_changes():
    agent = make_agent(CONFIG, SPECS, ACTIONS)
    state = jax.jit(agent.init)(jax.random.key(0))
    batch = random_batch(SPECS, ACTIONS)
    update = jax.jit(agent.update)
    losses = []
    for i in range(30):
        state, metrics = update(state, jax.random.key(i), batch)
        losses.append(float(metrics["world_model/loss"]))
    assert {name.partition("/")[0] for name in metrics} <= GROUPS.keys()
    assert np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 1
    assert set(agent.params(state)) == {"world_model", "normalisers"}


def test_noise_only_while_collecting():
    agent = planet()
    params = jax.jit(agent.init)(jax.random.key(0)).params
    act = jax.jit(agent.act, static_argnames="mode")
    quiet = jax.jit(planet(exploration_noise=0.0).act, static_argnames="mode")
    args = params, jax.random.key(1), agent.initial_carry(200), rows(200, True)
    planned, carry = act(*args, mode="eval")
    np.testing.assert_array_equal(planned, quiet(*args, mode="train")[0])
    noisy, carry = act(*args, mode="train")
    np.testing.assert_array_equal(carry.action, noisy)  # The model is told what was done.
    difference = np.asarray(noisy - planned)[np.abs(noisy) < 1]
    assert difference.std() == pytest.approx(0.3, rel=0.25)
    assert np.abs(noisy).max() <= 1


@pytest.mark.parametrize("warm_start", [False, True])
def test_a_reset_forgets_everything(warm_start):
    """State, action and belief: the first action of an episode is that of a fresh carry."""
    agent = planet(planner=dataclasses.replace(PLANNER, warm_start=warm_start))
    params = jax.jit(agent.init)(jax.random.key(0)).params
    act = jax.jit(agent.act, static_argnames="mode")
    fresh, used = agent.initial_carry(2), agent.initial_carry(2)
    for i in range(3):
        _, used = act(params, jax.random.key(i), used, rows(2, i == 0), mode="train")
    args = params, jax.random.key(9)
    want, _ = act(*args, fresh, rows(2, True), mode="eval")
    np.testing.assert_allclose(act(*args, used, rows(2, True), mode="eval")[0], want, atol=1e-6)
    assert (act(*args, used, rows(2, False), mode="eval")[0] != want).any()


def test_a_warm_start_uses_the_last_belief():
    """A single candidate, drawn with the same noise around another mean."""
    one = dataclasses.replace(PLANNER, method="shooting", candidates=1)
    cold, warm = (
        planet(planner=dataclasses.replace(one, warm_start=warm_start))
        for warm_start in (False, True)
    )
    params = jax.jit(cold.init)(jax.random.key(0)).params
    carry = cold.initial_carry(1)
    belief = carry.belief._replace(mean=carry.belief.mean.at[:, 1].set(0.125))
    args = params, jax.random.key(2), carry._replace(belief=belief), rows(1)
    action = {
        a: jax.jit(a.act, static_argnames="mode")(*args, mode="eval")[0] for a in (cold, warm)
    }
    assert np.abs(action[cold]).max() < 0.8
    np.testing.assert_allclose(action[warm] - action[cold], 0.125, atol=1e-5)


@pytest.mark.parametrize("method", ["cem", "mppi", "shooting"])
@pytest.mark.parametrize("latent", ["categorical", "gaussian"])
def test_any_planner_plans_in_any_model(method, latent):
    config = dataclasses.replace(
        CONFIG,
        planner=dataclasses.replace(PLANNER, method=method),
        world_model=dataclasses.replace(TINY, rssm=dataclasses.replace(TINY.rssm, latent=latent)),
    )
    agent = make_agent(config, VECTOR, choice(3))
    params = agent.params(jax.jit(agent.init)(jax.random.key(0)))
    act = jax.jit(agent.act, static_argnames="mode")
    action, _ = act(params, jax.random.key(0), agent.initial_carry(4), rows(4, True), mode="train")
    np.testing.assert_array_equal(np.sort(action, -1), [[0, 0, 1]] * 4)


@pytest.mark.parametrize(("bits", "same"), [(1, True), (8, False)])
def test_acting_and_learning_see_the_same_bits(bits, same):
    """Of the values 10 and 100 the first bit is the same, the others are not."""
    gaussian = dataclasses.replace(TINY, rssm=dataclasses.replace(TINY.rssm, latent="gaussian"))
    config = dataclasses.replace(CONFIG, image_bits=bits)
    agent = PlaNet(world_model(gaussian, SPECS, ACTIONS), config)
    state = jax.jit(agent.init)(jax.random.key(0))
    act, update = jax.jit(agent.act, static_argnames="mode"), jax.jit(agent.update)
    found = []
    for value in (10, 100):
        image = np.full((2, 32, 32, 3), value, np.uint8)
        args = state.params, jax.random.key(1), agent.initial_carry(2)
        _, carry = act(*args, {**rows(2, True), "image": image}, mode="eval")
        batch = random_batch(SPECS, ACTIONS)
        batch["image"] = np.full_like(batch["image"], value)
        _, metrics = update(state, jax.random.key(2), batch)
        found.append((carry.memory, metrics["world_model/image_loss"]))
    (state, loss), (other_state, other_loss) = found
    assert (loss == other_loss) == same
    assert np.array_equal(state.stoch, other_state.stoch) == same


def test_more_sequences_chosen_than_there_are():
    message = "top is 5; expected at most PlannerConfig.candidates, which is 4"
    with pytest.raises(UserError, match=f"PlannerConfig.{message}"):
        PlannerConfig(candidates=4, top=5)
    PlannerConfig(method="mppi", candidates=4, top=5)


@pytest.mark.parametrize("bits", [0, 9])
def test_an_image_has_one_to_eight_bits(bits):
    with pytest.raises(UserError, match=f"image_bits is {bits}; expected"):
        Config(image_bits=bits)
    Config(image_bits=1), Config(image_bits=8)
