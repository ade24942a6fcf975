"""A constraint in a Dreamer: what is earned, what learns, what is kept for acting and planning."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.agent import NORMALISERS
from common.checks import OptionError
from common.errors import UserError
from common.learning.constraint import MULTIPLIER, ConstraintConfig
from common.report.page import GROUPS
from dreamer.config import ActingPlannerConfig
from tests.dreamer.test_agent import CONFIG, V1, build, fresh_state
from tests.dreamer.test_joint import V3
from tests.dreamer.updates import check_update, close
from tests.tiny import BATCH, TIME, VECTOR, box, choice, random_batch

WEIGHT = 0.7
CASES = {"v1": (V1, box(2)), "v2": (CONFIG, choice(3)), "v3": (V3, choice(3))}


def constrained(config, method="lagrangian", **options):
    """A configuration in which costs count."""
    return dataclasses.replace(
        config,
        world_model=dataclasses.replace(config.world_model, predict_cost=True),
        env=dataclasses.replace(config.env, cost=True),
        constraint=ConstraintConfig(method, **{"weight": WEIGHT, "lr": 0.5, **options}),
    )


def make_batch(actions):
    """Rows with a cost."""
    cost = np.random.default_rng(3).random((BATCH, TIME)).astype(np.float32)
    return random_batch(VECTOR, actions) | {"cost": cost}


def start(config, actions):
    """A Dreamer with random weights, and its state."""
    dreamer = build(config, actions)
    state = fresh_state(dreamer)
    counted = dreamer.behavior.initial_normalisers()
    return dreamer, state._replace(normalisers=state.normalisers | counted)


def imagine(dreamer, state, actions):
    """The actor's loss from a batch's states, and what was imagined."""
    batch = make_batch(actions)
    noise = dreamer.draw_noise(jax.random.key(0), (BATCH, TIME))
    losses = dreamer.model.losses(state.params["world_model"], noise.posterior, batch)
    states, terminal = dreamer._starts(losses, batch)
    return jax.jit(dreamer.behavior.actor_loss)(
        state.params["actor"], state.params, state.normalisers, state.updates, noise.imagination,
        states, terminal,
    )[1]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_imagined_earns_the_reward_less_the_weighted_cost(case):
    config, actions = CASES[case]
    dreamer, state = start(constrained(config), actions)
    found = imagine(dreamer, state, actions)
    features, world = found.trajectory.features, state.params["world_model"]
    reward = dreamer.model.reward(world, features).mean()
    cost = dreamer.model.cost(world, features).mean()
    close(found.reward, reward - WEIGHT * cost)
    assert np.abs(cost).max() > 1e-3
    # The weight goes on with what was imagined after the start.
    close(found.normalisers[MULTIPLIER], max(0, WEIGHT + 0.5 * np.asarray(cost)[1:].mean()))
    close(found.metrics["constraint/cost"], np.asarray(cost)[1:].mean())


@pytest.mark.parametrize("case", CASES)
def test_a_weight_of_nothing_changes_nothing(case):
    config, actions = CASES[case]
    dreamer, state = start(constrained(config, "fixed", weight=0.0), actions)
    plain = build(config, actions)
    world = {key: x for key, x in state.params["world_model"].items() if key != "cost"}
    found = imagine(dreamer, state, actions)
    expected = imagine(plain, state._replace(params=state.params | {"world_model": world}), actions)
    jax.tree.map(close, found.target, expected.target)
    jax.tree.map(close, found.trajectory, expected.trajectory)


@pytest.mark.parametrize("case", ["v2", "v3"])
def test_an_update_moves_the_weight_and_teaches_the_head(case):
    config, actions = CASES[case]
    dreamer, state = start(constrained(config, limit=0.1), actions)
    after, metrics = jax.jit(dreamer.update)(state, jax.random.key(1), make_batch(actions))
    check_update(state, after, metrics)
    assert {name for name in metrics if name.startswith("constraint/")} == {
        "constraint/cost", "constraint/weight",
    }  # fmt: skip
    assert after.normalisers[MULTIPLIER] == metrics["constraint/weight"] != WEIGHT
    assert "world_model/cost_loss" in metrics and "constraint" in GROUPS
    before, now = (one.params["world_model"]["cost"] for one in (state, after))
    assert all((x != y).any() for x, y in zip(*map(jax.tree.leaves, (before, now)), strict=True))
    counted = dreamer.acting_params(after)[NORMALISERS]
    assert counted[MULTIPLIER] == after.normalisers[MULTIPLIER]


def test_a_model_without_the_head_is_one_line():
    config = dataclasses.replace(constrained(CONFIG), world_model=CONFIG.world_model)
    with pytest.raises(UserError, match="set world_model.predict_cost true"):
        build(config, choice(3))


def test_a_planner_that_acts_would_not_mind_costs():
    with pytest.raises(OptionError, match="planner.acts plans for rewards .*lagrangian minds"):
        dataclasses.replace(constrained(CONFIG), planner=ActingPlannerConfig(acts=True))


def test_replayed_rows_earn_what_imagined_ones_do():
    """V3's critic learns from replayed rewards too: the same weighted cost is taken off."""
    config, actions = CASES["v3"]
    dreamer, state = start(constrained(config), actions)
    batch, seen = make_batch(actions), {}
    original = dreamer.behavior.replay_loss

    def spy(critic, slow, features, rows, *rest):
        seen["reward"] = rows["reward"]
        return original(critic, slow, features, rows, *rest)

    dreamer.behavior.replay_loss = spy
    noise = dreamer.draw_noise(jax.random.key(0), (BATCH, TIME))
    dreamer.joint_loss(
        {name: state.params[name] for name in ("world_model", "actor", "critic")}, state.params,
        state.normalisers, state.updates, (noise.posterior, noise.overshooting),
        noise.imagination, jax.tree.map(jnp.asarray, batch), None,
    )  # fmt: skip
    expected = (batch["reward"] - WEIGHT * batch["cost"])[:, -config.behavior.starts :]
    close(seen["reward"], expected.T)
