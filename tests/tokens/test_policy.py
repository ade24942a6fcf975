"""The policy over tokens: alignment, causality, bodies, acting, cloning."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.errors import UserError
from common.tokens import policy as token_policy
from common.tokens.config import TDMConfig
from common.tokens.steps import Steps
from common.tokens.transformer import branch
from tests.tiny import random_params
from tests.tokens.test_tdm import ACTION, BATCH, CONFIGS, OBSERVATION, SMALL, TIME, random_steps

SIZES = OBSERVATION, ACTION


class Case:
    """Functions bound to random weights."""

    def __init__(self, config):
        self.config = config
        functions = token_policy.functions(config, *SIZES)
        self.params = jax.tree.map(lambda x: 5 * x, random_params(functions.init))
        bind = lambda function: functools.partial(jax.jit(function), self.params)  # noqa: E731
        self.predict, self.start = bind(functions.predict), bind(functions.start)
        static = functools.partial(jax.jit, static_argnames="greedy")
        self.act = functools.partial(static(functions.act), self.params)
        self.choose = functools.partial(static(functions.choose), self.params)
        self.loss = jax.jit(functions.loss)
        self.gradient = jax.jit(jax.grad(lambda params, steps: functions.loss(params, steps)[0]))


@pytest.fixture(scope="module")
def case():
    return Case(SMALL)


@pytest.fixture(scope="module", params=CONFIGS)
def either(request, case):
    """The small model, and one of other bins, another embedding and another order."""
    return case if CONFIGS[request.param] is SMALL else Case(CONFIGS[request.param])


def center(tokens, bins):
    return (2 * np.asarray(tokens) + 1) / bins - 1


def append(steps, action, observation=0.0, reward=0.0):
    """Steps with one more row, to which an action ``[N, A]`` led."""
    more = Steps(
        jnp.broadcast_to(observation, (*action.shape[:1], OBSERVATION))[:, None],
        action[:, None],
        jnp.broadcast_to(reward, action.shape[:1])[:, None],
        jnp.zeros((action.shape[0], 1), bool),
        *steps[4:],
    )
    joined = (jnp.concatenate(pair, 1) for pair in zip(steps[:4], more[:4], strict=True))
    return Steps(*joined, *steps[4:])


def changed(steps, row, **entries):
    """Steps where one number of a row is another: observation=2 names the entry."""
    for name, entry in entries.items():
        x = np.array(getattr(steps, name))
        x[:, row, entry] = -0.9 * x[:, row, entry] + 0.05
        steps = steps._replace(**{name: x})
    return steps


def same(before, after):
    """Which logits ``[T - 1, A]`` are bit for bit the same in all rows of the batch."""
    return (np.asarray(before) == np.asarray(after)).all((0, 3))


def test_loss_equals_a_slow_loop(either):
    """action[t] is predicted from rows before t; first rows and absent entries do not count."""
    steps = random_steps()._replace(has_action=np.array([[1, 1], [1, 0], [1, 1]], bool))
    log_probs = np.asarray(jax.nn.log_softmax(either.predict(steps)))
    bins, losses, errors = either.config.bins, [], []
    for row in range(BATCH):
        for step in range(1, TIME):
            for entry in range(ACTION):
                if steps.is_first[row, step] or not steps.has_action[row, entry]:
                    continue
                action = steps.action[row, step, entry]
                token = min(int((action + 1) / 2 * bins), bins - 1)
                losses.append(-log_probs[row, step - 1, entry, token])
                best = log_probs[row, step - 1, entry].argmax()
                errors.append(abs(center(best, bins) - action))
    loss, metrics = either.loss(either.params, steps)
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], loss)
    np.testing.assert_allclose(metrics["action_error"], np.mean(errors), rtol=1e-5)
    alone = random_steps(time=1)
    assert either.predict(alone).shape == (BATCH, 0, ACTION, bins)
    assert either.loss(either.params, alone)[0] == 0


def test_nothing_earlier_depends_on_anything_later(either):
    """And everything within reach matters: the row, its reward, earlier entries of an action."""
    steps = random_steps(resets=())
    before = either.predict(steps)
    for entry in range(OBSERVATION):
        after = same(before, either.predict(changed(steps, 4, observation=entry)))
        # Prediction t is of the action that led to row t + 1, chosen on seeing row t.
        assert after[:4].all() and not after[4:].any()
    after = same(before, either.predict(steps._replace(reward=steps.reward + np.eye(TIME)[4])))
    assert after[:4].all() and not after[4:].any()
    for entry in range(ACTION):
        after = same(before, either.predict(changed(steps, 4, action=entry)))
        assert after[:3].all() and not after[4:].any()
        np.testing.assert_array_equal(after[3], np.arange(ACTION) <= entry)


def test_window_limits_how_far_a_step_reaches():
    case = Case(dataclasses.replace(SMALL, layers=1))
    steps = random_steps(resets=())
    after = same(case.predict(steps), case.predict(changed(steps, 1, observation=0)))
    # Row 1 is in the windows of blocks 1, 2 and 3.
    np.testing.assert_array_equal(after[:, 0], [True, False, False, False, True, True])


def test_episodes_see_themselves_only(case):
    steps = random_steps(resets=((0, 3), (2, 2)))
    before = case.predict(steps)
    after = case.predict(changed(steps, 1, observation=0))
    same = (np.asarray(before) == np.asarray(after)).all((2, 3))
    np.testing.assert_array_equal(same[0], [True, False, False, True, True, True])
    np.testing.assert_array_equal(same[2], [True, False, True, True, True, True])
    cut = Steps(*(x[:1, 3:] for x in steps[:4]), *(x[:1] for x in steps[4:]))
    np.testing.assert_allclose(before[:1, 3:], case.predict(cut), atol=2e-5)
    whole, alone = (case.act(jax.random.key(0), x, greedy=True) for x in (steps, cut))
    np.testing.assert_allclose(whole[:1], alone)


def test_rows_of_a_batch_do_not_see_each_other(case):
    steps, other = random_steps(), random_steps(seed=5)
    mixed = Steps(*(np.concatenate([x[:2], y[2:]]) for x, y in zip(steps, other, strict=True)))
    for run in (case.predict, lambda x: case.start(x).last):
        before, after = (np.asarray(run(x)).reshape(BATCH, -1) for x in (steps, mixed))
        np.testing.assert_array_equal((before == after).all(1), [True, True, False])


@pytest.mark.parametrize("past", [1, 5])
def test_greedy_acts_are_the_likeliest_bins_of_the_parallel_pass(case, past):
    steps = random_steps(time=past)
    action = case.act(jax.random.key(0), steps, greedy=True)
    best = case.predict(append(steps, action))[:, -1].argmax(-1)
    np.testing.assert_allclose(action, center(best, case.config.bins), atol=1e-6)


def test_acts_are_drawn_as_often_as_the_parallel_pass_says(case):
    steps, many, bins = random_steps(time=3), 1500, case.config.bins
    futures = branch(case.start(steps), many, 1)
    actions = np.asarray(case.choose(jax.random.key(0), futures, greedy=False))
    tokens = np.round((actions + 1) / 2 * bins - 0.5).astype(int)
    np.testing.assert_allclose(center(tokens, bins), actions, atol=1e-6)
    repeated = jax.tree.map(lambda x: jnp.repeat(jnp.asarray(x), 2, 0), steps)
    # The second entry given each of the two likeliest first ones.
    first = [np.bincount(row, minlength=bins).argsort()[-2:] for row in tokens[..., 0]]
    given = np.zeros((2 * BATCH, ACTION), np.float32)
    given[:, 0] = center(np.concatenate(first), bins)
    logits = case.predict(append(repeated, jnp.array(given)))[:, -1]
    probs = np.asarray(jax.nn.softmax(logits)).reshape(BATCH, 2, ACTION, bins)
    for row in range(BATCH):
        shares = np.bincount(tokens[row, :, 0], minlength=bins) / many
        np.testing.assert_allclose(shares, probs[row, 0, 0], atol=0.05)
        for i, token in enumerate(first[row]):
            second = tokens[row, tokens[row, :, 0] == token, 1]
            shares = np.bincount(second, minlength=bins) / len(second)
            np.testing.assert_allclose(shares, probs[row, i, 1], atol=2.5 / len(second) ** 0.5)
    alone = case.act(jax.random.key(0), steps, greedy=False)
    assert (case.act(jax.random.key(1), steps, greedy=False) != alone).any()


def test_bodies_of_different_sizes_share_a_policy(case):
    """What fills the entries that a body lacks changes nothing, and comes out as zero."""
    steps = random_steps(resets=())._replace(
        has_observation=np.array([[True, True, False]] * BATCH),
        has_action=np.array([[True, False]] * BATCH),
    )
    filled = steps._replace(observation=steps.observation.copy(), action=steps.action.copy())
    filled.observation[..., 2], filled.action[..., 1] = 1.5, -0.9
    want, got = case.predict(steps), case.predict(filled)
    np.testing.assert_array_equal(want[:, :, 0], got[:, :, 0])
    assert case.loss(case.params, steps)[0] == case.loss(case.params, filled)[0]
    one, two = (case.act(jax.random.key(0), x, greedy=False) for x in (steps, filled))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one[:, 1], 0)
    assert one[:, 0].all()
    # Beside a larger body in the same batch nothing changes either.
    both = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), steps, random_steps())
    np.testing.assert_allclose(case.predict(both)[:BATCH, :, 0], want[:, :, 0], atol=1e-5)


def test_every_weight_learns(either):
    for x in jax.tree.leaves(either.gradient(either.params, random_steps())):
        assert np.isfinite(x).all() and np.any(x)


def test_ranges_must_fit():
    with pytest.raises(UserError, match="tdm.low has 2 entries; expected 1, or 4"):
        config = TDMConfig(tokeniser="uniform", low=(0.0,) * 2, high=(1.0,) * 2)
        token_policy.functions(config, *SIZES)
