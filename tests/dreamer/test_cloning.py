"""Imitating logged actions: the loss, what it teaches, and what else an update then learns."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from common.checks import OptionError
from common.config import update
from common.model.world_model import world_model
from common.run.config import RunConfig
from dreamer.behavior import Behavior
from dreamer.losses import cloning_loss
from dreamer.networks import make_networks
from tests.dreamer.test_agent import CONFIG, V1, build, fresh_state
from tests.dreamer.test_joint import V3
from tests.dreamer.updates import check_update, close, moved
from tests.reference import dreamer as reference
from tests.tiny import BATCH, MIXED, TIME, VECTOR, box, random_batch

ACTORS = {"v1": (V1, box(2)), "v2": (CONFIG, MIXED), "v3": (V3, MIXED)}


def cloning(config):
    """The same agent, which imitates."""
    behavior = dataclasses.replace(config.behavior, method="cloning")
    return dataclasses.replace(config, behavior=behavior, run=RunConfig(data="logs"))


def test_a_penalty_of_what_is_imagined_is_refused_where_nothing_is():
    imitates = cloning(CONFIG)
    with pytest.raises(OptionError, match="cloning imagines none; leave one of them out"):
        update(imitates, {"behavior.penalty": 1.0})


@pytest.mark.parametrize("name", ACTORS)
def test_the_loss_is_that_of_the_slow_loop(name):
    config, actions = ACTORS[name]
    networks = make_networks(config.actor, config.critic, actions)
    feature = np.random.default_rng(1).normal(size=(BATCH, TIME, 6)).astype(np.float32)
    params = networks.init(jax.random.key(0), feature[0])["actor"]
    policy, rows = networks.policy(params, feature), random_batch(VECTOR, actions)
    rows["action"][0, 1, :2] = 1, -1.000001  # At a bound, and beyond one by rounding.

    def log_prob(b, t, action):
        here = jax.tree.map(lambda x: x[b, t], policy)
        return float(here.log_prob(np.clip(action, -1, 1)))

    slow = reference.cloning_loss(log_prob, rows["action"], rows["is_first"])
    found = cloning_loss(policy, rows["action"], rows["is_first"])
    np.testing.assert_allclose(found, slow, rtol=1e-5)
    # What led to a row of a reset, and to the first row of a window, counts for nothing.
    other = rows["action"].copy()
    other[rows["is_first"]] = 0.5
    assert rows["is_first"][-1, -1] and cloning_loss(policy, other, rows["is_first"]) == found


def test_a_batch_of_resets_teaches_nothing():
    networks = make_networks(CONFIG.actor, CONFIG.critic, MIXED)
    feature = jnp.ones((1, 3, 4))
    params = networks.init(jax.random.key(0), feature)["actor"]
    loss = lambda x: cloning_loss(  # noqa: E731
        networks.policy(x, feature), jnp.zeros((1, 3, MIXED.size)), jnp.ones((1, 3), bool)
    )
    value, grads = jax.value_and_grad(loss)(params)
    assert value == 0 and not any(np.any(x) for x in jax.tree.leaves(grads))


@pytest.mark.parametrize("name", ACTORS)
def test_a_deterministic_policy_is_recovered(name):
    """One whose actions follow two features, and whose choice is the largest of three."""
    config, actions = ACTORS[name]
    networks = make_networks(config.actor, config.critic, actions)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(64, 8, 5)).astype(np.float32)
    logged = np.zeros((64, 8, actions.size), np.float32)
    logged[:, 1:, :2] = np.tanh(0.8 * features[:, :-1, :2])
    if actions.size > 2:
        logged[:, 1:, 2:] = np.eye(3)[features[:, :-1, :3].argmax(-1)]
    is_first = np.arange(8)[None] == np.zeros((64, 1))
    model = world_model(config.world_model, VECTOR, actions)
    behavior = Behavior(model, networks, cloning(config).behavior)
    clone = behavior.clone(features, {"action": logged, "is_first": is_first})
    params = networks.init(jax.random.key(0), features[0])["actor"]
    optimizer = optax.adam(0.02)

    def step(now, _):
        params, state = now
        changes, state = optimizer.update(jax.grad(clone)(params), state)
        return (optax.apply_updates(params, changes), state), None

    (params, _), _ = jax.jit(lambda x: jax.lax.scan(step, x, length=400))(
        (params, optimizer.init(params))
    )
    mode = np.asarray(networks.policy(params, features[:, :-1]).mode())
    assert np.abs(mode[..., :2] - logged[:, 1:, :2]).mean() < 0.06
    if actions.size > 2:
        right = mode[..., 2:].argmax(-1) == logged[:, 1:, 2:].argmax(-1)
        assert right.mean() > 0.97


@pytest.fixture(scope="module")
def steps():
    """One update of every actor: the parts, the states before and after, metrics."""
    made = {}

    def step(name, imitates=True):
        if (name, imitates) not in made:
            config, actions = ACTORS[name]
            dreamer = build(cloning(config) if imitates else config, actions)
            state, batch = fresh_state(dreamer), random_batch(VECTOR, actions)
            noise = dreamer.draw_noise(jax.random.key(1), (BATCH, TIME))
            update = jax.jit(dreamer.update_with_noise)
            made[name, imitates] = dreamer, state, batch, *update(state, noise, batch)
        return made[name, imitates]

    return step


@pytest.mark.parametrize("name", ["v2", "v3", pytest.param("v1", marks=pytest.mark.slow)])
def test_an_update_imitates_and_learns_everything_else(name, steps):
    dreamer, state, batch, after, metrics, (losses, imagined) = steps(name)
    check_update(state, after, metrics)
    # A joint update sees all of its losses with the old weights.
    world = (state if dreamer.optimizers.keys() == {"joint"} else after).params["world_model"]
    seen = dreamer.model.feature(world, losses.observed.states)
    policy = dreamer.networks.policy(state.params["actor"], seen)
    close(metrics["actor/loss"], cloning_loss(policy, batch["action"], batch["is_first"]))
    for part in ("world_model", "actor", "critic"):
        assert np.mean(moved(state.params[part], after.params[part])) > 0.9, part
    assert np.isfinite(imagined.target).all()


@pytest.mark.parametrize("name", ["v2", "v3"])
def test_model_and_critic_learn_as_ever(name, steps):
    """The critic what the actor is worth, which has not changed yet in these first updates."""
    _, _, _, after, metrics, _ = steps(name)
    _, _, _, plain, expected, _ = steps(name, imitates=False)
    for part in ("world_model", "critic", "slow_critic"):
        jax.tree.map(close, after.params[part], plain.params[part])
    close(metrics["critic/loss"], expected["critic/loss"])
    assert any(moved(after.params["actor"], plain.params["actor"]))


def test_it_is_refused_without_logs():
    with pytest.raises(OptionError) as caught:
        dataclasses.replace(cloning(CONFIG), run=RunConfig())
    assert "behavior.method cloning imitates logged actions; set" in str(caught.value)
