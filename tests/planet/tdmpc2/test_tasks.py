"""Several tasks learned by one TD-MPC2."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.errors import UserError
from common.replay.config import ReplayConfig
from common.spaces import ObservationSpec, TaskSpec
from planet.config import Config
from planet.tdmpc2 import agent
from planet.tdmpc2.config import TDMPC2Config
from planet.tdmpc2.learn import Learner
from planet.tdmpc2.losses import make_window
from planet.tdmpc2.model import make_model
from planet.tdmpc2.networks import make_networks
from planet.tdmpc2.policy import draw_action
from planet.tdmpc2.tasks import Tasks, limited, write_back
from tests.compiling import jitted
from tests.tiny import box, random_params

ACTIONS, BATCH = 3, 4
TASKS = Tasks("task", (1, 3))
DISCOUNTS = 0.9, 0.5
CONFIG = TDMPC2Config(
    encoder_units=16, units=16, latent=16, num_q=2, bins=11, task_size=5, horizon=2, dropout=0.0
)
SPECS = {"x": ObservationSpec((4,), "vector"), "task": ObservationSpec((2,), "vector")}
NETWORKS = jitted(make_networks(CONFIG, SPECS, box(ACTIONS), TASKS))
MODEL = jitted(make_model(NETWORKS, CONFIG, ACTIONS))
LEARNER = Learner(NETWORKS, CONFIG, DISCOUNTS, ACTIONS)
PARAMS = random_params(NETWORKS.init)
FIRST, SECOND = np.eye(2, dtype=np.float32)


def rows(task, *shape):
    x = np.random.default_rng(0).normal(size=(*shape, 4)).astype(np.float32)
    return {"x": x, "task": np.broadcast_to(task, (*shape, 2))}


def batch(task):
    shape = BATCH, CONFIG.horizon + 1
    action = np.tanh(np.random.default_rng(1).normal(size=(*shape, ACTIONS))).astype(np.float32)
    flags = dict.fromkeys(("is_first", "is_last", "is_terminal"), np.zeros(shape, bool))
    return rows(task, *shape) | flags | {"action": action, "reward": action.sum(-1)}


def test_states_carry_their_task():
    z = MODEL.encode(PARAMS, rows(SECOND, 3))
    assert z.shape == (3, CONFIG.latent + 2)
    after, reward, _ = MODEL.step(PARAMS, z, jnp.zeros((3, ACTIONS)))
    for state in (z, after):
        np.testing.assert_array_equal(state[:, CONFIG.latent :], rows(SECOND, 3)["task"])
    assert after.shape == z.shape and reward.shape == (3,)
    other = MODEL.encode(PARAMS, rows(FIRST, 3))
    assert not np.allclose(other[:, : CONFIG.latent], z[:, : CONFIG.latent], atol=1e-4)


def test_every_network_reads_the_embedding():
    """Of the state's own task alone, however long it is."""
    z, action = MODEL.encode(PARAMS, rows(SECOND, 3)), jnp.ones((3, ACTIONS)) / 2

    def outputs(table):
        params = PARAMS | {"task": {"task": {"embedding": table}}}
        reward, value = NETWORKS.reward(params, z, action), NETWORKS.q(params, z, action)
        after, mean = NETWORKS.dynamics(params, z, action), MODEL.best(params, z)
        return [reward.logits, value.logits, after, mean]

    table = jnp.asarray(PARAMS["task"]["task"]["embedding"])
    before, moved, same = (outputs(x) for x in (table, table.at[1].add(0.3), table.at[0].add(0.3)))
    for one, other, still in zip(before, moved, same, strict=True):
        assert not np.allclose(one, other, atol=1e-6)
        np.testing.assert_array_equal(one, still)
    long = table.at[1].multiply(100)
    short = table.at[1].set(long[1] / jnp.linalg.norm(long[1]))
    for one, other in zip(outputs(long), outputs(short), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_actions_that_a_task_lacks_are_zero():
    z = jnp.stack([MODEL.encode(PARAMS, rows(task, 1))[0] for task in (FIRST, SECOND)])
    np.testing.assert_array_equal(MODEL.mask(z), [[1, 0, 0], [1, 1, 1]])
    action = MODEL.policy(PARAMS, jax.random.key(0), z)
    np.testing.assert_array_equal(action != 0, MODEL.mask(z) > 0)
    raw, noise = np.random.default_rng(0).normal(size=(2, 2 * ACTIONS)), np.ones((2, ACTIONS))
    masked = draw_action(raw, noise, -2, 1, MODEL.mask(z))
    alone = draw_action(raw[:, [0, 3]], noise[:, :1], -2, 1)
    # Each unused entry is a standard normal at its mean.
    spare = 2 * np.log(2 * np.pi) / 2
    assert masked.log_prob[0] == pytest.approx(float(alone.log_prob[0]) - spare, rel=1e-5)
    assert masked.scaled_entropy[0] == pytest.approx(float(alone.scaled_entropy[0]) + spare, 1e-5)
    whole = draw_action(raw, noise, -2, 1)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x[1], y[1], rtol=1e-6), masked, whole)


def test_targets_have_the_discount_of_their_task():
    state = LEARNER.init(jax.random.key(0))._replace(params=PARAMS, target_q=PARAMS["q"])
    noise = LEARNER.draw_noise(jax.random.key(1), (BATCH, CONFIG.horizon + 1))
    update = jax.jit(LEARNER.update_with_noise)
    for task, discount in zip((FIRST, SECOND), DISCOUNTS, strict=True):
        rows = batch(task)
        _, _, found = update(state, noise, rows)
        action = NETWORKS.policy(PARAMS, found.next_z, noise.target).action
        value = NETWORKS.q(PARAMS, found.next_z, action).mean().min(0)
        expected = rows["reward"].T[1:] + discount * value
        np.testing.assert_allclose(found.target, expected, rtol=1e-4, atol=1e-5)


def test_what_was_done_in_entries_that_a_task_lacks_is_not_learned_from():
    noise = LEARNER.draw_noise(jax.random.key(1), (BATCH, CONFIG.horizon + 1))
    losses = LEARNER.losses

    def terms(task, moved):
        rows = batch(task)
        rows["action"][..., moved] = 0.5
        window = make_window(rows, CONFIG.horizon)
        next_z = NETWORKS.encode(PARAMS, {key: x[1:] for key, x in window.observation.items()})
        zeros = jnp.zeros(window.reward.shape)
        return losses.model(PARAMS, window, next_z, zeros, noise)[1].terms.values()

    for one, other in zip(terms(FIRST, 1), terms(FIRST, 2), strict=True):
        assert float(one) == float(other)
    assert all(float(x) != float(y) for x, y in zip(terms(FIRST, 0), terms(FIRST, 1), strict=True))
    assert all(
        float(x) != float(y) for x, y in zip(terms(SECOND, 1), terms(SECOND, 2), strict=True)
    )


def test_the_policy_leaves_a_gradient_for_the_next_update():
    frozen = dataclasses.replace(CONFIG, policy_opt=dataclasses.replace(CONFIG.policy_opt, lr=0.0))
    learner = Learner(NETWORKS, frozen, DISCOUNTS, ACTIONS)
    state = learner.init(jax.random.key(0))._replace(params=PARAMS)
    assert not any(x.any() for x in jax.tree.leaves(state.carried))
    update = jax.jit(learner.update)
    after, _ = update(state, jax.random.key(1), batch(FIRST))
    left = after.carried["task"]["task"]["embedding"]
    assert left[0].any() and not left[1].any()
    cleared = after._replace(carried=jax.tree.map(jnp.zeros_like, after.carried))
    results = [update(x, jax.random.key(2), batch(SECOND))[0].params for x in (after, cleared)]
    with_it, without = (x["task"]["task"]["embedding"] for x in results)
    assert not np.allclose(with_it[0], without[0], atol=1e-7)


def test_one_task_has_nothing_of_all_this():
    alone = make_networks(CONFIG, {"x": SPECS["x"]}, box(ACTIONS))
    assert alone.task is None and alone.mask is None
    state = Learner(alone, CONFIG, 0.9, ACTIONS).init(jax.random.key(0))
    assert state.carried == {} and "task" not in state.params


def test_long_embeddings_are_shortened_where_they_are_used():
    table = jnp.array([[3.0, 4.0], [0.3, 0.4], [6.0, 8.0]])
    np.testing.assert_allclose(limited(table), [[0.6, 0.8], [0.3, 0.4], [0.6, 0.8]], rtol=1e-6)
    gradient = jax.grad(lambda x: (limited(x) * jnp.arange(6.0).reshape(3, 2)).sum())(table)
    np.testing.assert_array_equal(gradient, np.arange(6.0).reshape(3, 2))
    zeros = jax.grad(lambda x: limited(x).sum())(jnp.zeros((1, 2)))
    np.testing.assert_array_equal(zeros, jnp.ones((1, 2)))
    used = jnp.array([[[1.0, 0, 0]], [[0, 1, 0]]])
    expected = [[0.6, 0.8], [0.3, 0.4], [6.0, 8.0]]
    np.testing.assert_allclose(write_back(table, used), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "steps, given, want",
    [((500, 100), 0.0, (0.99, 0.95)), ((500, 1000), 0.7, (0.7, 0.7)), ((0, 0), 0.7, (0.7, 0.7))],
)
def test_an_agent_is_told_its_tasks_by_their_observation(steps, given, want, monkeypatch):
    """Their discounts, where no other is given, follow the length of their episodes."""
    discounts = []
    for name in ("Learner", "planned_model"):
        real = getattr(agent, name)
        spy = lambda *args, real=real: (discounts.append(args[2]), real(*args))[1]  # noqa: E731
        monkeypatch.setattr(agent, name, spy)
    config = Config(
        model="tdmpc2", tdmpc2=dataclasses.replace(CONFIG, discount=given, horizon=3),
        replay=ReplayConfig(length=4),
    )  # fmt: skip
    tasks = tuple(TaskSpec(*task) for task in zip("ab", TASKS.actions, steps, strict=True))
    told = ObservationSpec((2,), "vector", (2,), (0,), tasks)
    made = agent.make_tdmpc2(config, SPECS | {"task": told}, box(ACTIONS))
    assert discounts == [pytest.approx(want)] * 2
    carry = made.initial_carry(3)
    assert carry.memory.shape == (3, CONFIG.latent + 2)
    assert "task" in jax.eval_shape(made.init, jax.random.key(0)).params


def test_a_task_of_unknown_length_needs_a_discount():
    told = ObservationSpec((2,), "vector", (2,), (0,), (TaskSpec("a", 1, 9), TaskSpec("b", 1, 0)))
    config = Config(model="tdmpc2", tdmpc2=CONFIG)
    with pytest.raises(UserError, match="tdmpc2.discount is 0"):
        agent.make_tdmpc2(config, SPECS | {"task": told}, box(ACTIONS))


@pytest.mark.parametrize(
    ("specs", "words"),
    [
        ({"x": ObservationSpec((64, 64, 3), "image"), "task": SPECS["task"]}, "these have images"),
        ({"x": SPECS["x"]}, "the observation 'task', which is not there"),
        ({"x": SPECS["x"], "task": ObservationSpec((3,), "vector")}, "'task' names 3 tasks; .* 2"),
    ],
)
def test_tasks_that_do_not_fit_are_named(specs, words):
    with pytest.raises(UserError, match=words):
        make_networks(CONFIG, specs, box(ACTIONS), TASKS)
