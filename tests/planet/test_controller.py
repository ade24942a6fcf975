"""From rows to actions with a model and a search that write down what they are given."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.errors import UserError
from planet.controller import Controller
from planet.model import Memory, PlannedModel
from planet.planner import Searcher
from planet.search import Plan
from planet.window import window
from tests.tiny import box, choice

ENVS = 3


def controller(memory, actions, start=lambda params, keys, memory: memory, noise=0.0, search=None):
    """Plans nothing: the action is zero, or the first choice, unless a search says another."""
    model = PlannedModel(None, None, memory, start, None, None)
    zero = jnp.eye(actions.size)[0] * (actions.parts[0].kind == "categorical")

    def find(params, key, start, belief, is_first):
        return Plan(jnp.broadcast_to(zero, (*is_first.shape, actions.size)), belief, None)

    return Controller(model, Searcher(lambda n: (), search or find), actions, noise)


NOTHING = Memory(lambda num_envs: (), lambda params, keys, memory, rows: ())


def rows(amount=ENVS, first=False, value=0.0):
    return {
        "x": np.full((amount, 1), value, np.float32),
        "reward": np.full(amount, value, np.float32),
        "is_first": np.broadcast_to(first, amount),
    }


@pytest.mark.parametrize("scale", [0.1, 0.3])
def test_noise_has_the_scale_that_is_set(scale):
    """Once: neither twice nor its square."""
    control = controller(NOTHING, box(1), noise=scale)
    args = {}, jax.random.key(0), control.initial_carry(20_000), rows(20_000)
    action, carry = control.act(*args, "train")
    assert action.std() == pytest.approx(scale, rel=0.02)
    np.testing.assert_array_equal(carry.action, action)
    np.testing.assert_array_equal(control.act(*args, "eval")[0], 0)
    control = controller(NOTHING, choice(4), noise=scale)
    args = *args[:2], control.initial_carry(20_000), args[3]
    others = 1 - control.act(*args, "train")[0][:, 0].mean()
    assert others == pytest.approx(0.75 * scale, rel=0.05)  # A random choice may be the old one.


def test_without_noise_both_modes_act_alike():
    """A controller that is told nothing adds none."""
    model = PlannedModel(None, None, NOTHING, lambda params, keys, memory: memory, None, None)
    find = lambda params, key, start, belief, first: Plan(jnp.full((ENVS, 1), 0.25), belief, None)  # noqa: E731
    control = Controller(model, Searcher(lambda n: (), find), box(1))
    for mode in ("train", "eval"):
        args = {}, jax.random.key(0), control.initial_carry(ENVS), rows()
        np.testing.assert_array_equal(control.act(*args, mode)[0], 0.25)


def test_there_are_two_modes():
    control = controller(NOTHING, box(1))
    with pytest.raises(UserError, match="mode cannot be 'test'; choose from: eval, train"):
        control.act({}, jax.random.key(0), control.initial_carry(ENVS), rows(), "test")


def test_the_window_holds_what_was_seen_and_done():
    """The newest rows with the actions that led to them; zero in the first row of an episode."""

    def search(params, key, start, belief, is_first):
        return Plan(0.5 + 0.1 * start.observation[:, -1, :1], belief, None)

    control = controller(window(3, 2, 2), box(1), search=search)
    carry, first = control.initial_carry(ENVS), np.array([False, True, False])
    assert carry.memory.is_first.all()
    for time in range(5):
        begins = first if time == 3 else time == 0
        now = rows(first=begins, value=float(time))
        _, carry = control.act({}, jax.random.key(time), carry, now, "train")
    seen = carry.memory
    np.testing.assert_array_equal(seen.observation, [[[2, 0], [3, 0], [4, 0]]] * ENVS)
    np.testing.assert_array_equal(seen.reward, [[2, 3, 4]] * ENVS)
    np.testing.assert_array_equal(seen.is_first, [[0, begin, 0] for begin in first])
    want = np.tile(np.float32([0.6, 0.7, 0.8]), (ENVS, 1))
    want[1, 1] = 0
    np.testing.assert_allclose(seen.action[..., 0], want)
    np.testing.assert_array_equal(seen.action[..., 1], 0)
    np.testing.assert_array_equal(seen.has_observation, [[True, False]] * ENVS)
    np.testing.assert_array_equal(seen.has_action, [[True, False]] * ENVS)


def test_no_two_draws_share_a_key(monkeypatch):
    """Of the model's memory, its start, the search and the noise."""
    used = []
    write = lambda key: used.append(tuple(np.asarray(jax.random.key_data(key)).ravel()))  # noqa: E731

    def remember(params, keys, memory, rows):
        write(keys[0])
        return memory

    def start(params, keys, memory):
        write(keys[1])
        return memory

    def search(params, key, start, belief, is_first):
        write(key)
        return Plan(jnp.zeros((ENVS, 1)), belief, None)

    def uniform_noise(key, shape):
        write(key)
        return jnp.full(shape, 0.5)

    monkeypatch.setattr("planet.controller.uniform_noise", uniform_noise)
    memory, key = Memory(lambda num_envs: (), remember, draws=2), jax.random.key(3)
    control = controller(memory, box(1), start, noise=0.3, search=search)
    control.act({}, key, control.initial_carry(ENVS), rows(), "train")
    write(key)
    assert len(set(used)) == len(used) == 5


def test_rows_of_other_environments_are_refused():
    control = controller(NOTHING, box(1))
    with pytest.raises(AssertionError):
        control.act({}, jax.random.key(0), control.initial_carry(2), rows(1), "eval")
