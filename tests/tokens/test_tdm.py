"""The token-level transformer dynamics: cache, causality, resets, bodies, loss, options."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.errors import UserError
from common.tokens import tdm
from common.tokens.config import TDMConfig
from common.tokens.steps import Steps, pad
from common.tokens.tdm import branch
from tests.tiny import random_params

SMALL = TDMConfig(
    bins=16, limit=4.0, context=3, layers=2, heads=4, kv_heads=2, width=16, units=12, decode="mean"
)
CONFIGS = {
    "autoregressive": SMALL,
    "parallel": dataclasses.replace(
        SMALL,
        order="parallel",
        embedding="bins",
        tokeniser="uniform",
        low=(-2.0, -3.0, -2.5, -4.0),
        high=(2.0, 3.0, 3.5, 4.0),
    ),
}
BATCH, TIME, OBSERVATION, ACTION = 3, 7, 3, 2


class Case:
    """Functions bound to random weights."""

    def __init__(self, config):
        self.config = config
        functions = tdm.functions(config, OBSERVATION, ACTION)
        self.params = jax.tree.map(lambda x: 5 * x, random_params(functions.init))
        bind = lambda function: functools.partial(jax.jit(function), self.params)  # noqa: E731
        self.predict, self.start = bind(functions.predict), bind(functions.start)
        self.imagine_step = bind(functions.imagine_step)
        self.loss = jax.jit(functions.loss)
        self.gradient = jax.jit(jax.grad(lambda params, steps: functions.loss(params, steps)[0]))

    def imagine(self, context, actions, key=0):
        """Observations ``[N, J, H, D]`` and rewards of actions ``[N, J, H, A]``."""
        futures = branch(context, actions.shape[1], actions.shape[2])
        observations, rewards = [], []
        for step in range(actions.shape[2]):
            now = jax.random.fold_in(jax.random.key(key), step)
            observation, reward, futures = self.imagine_step(now, futures, actions[:, :, step])
            observations.append(observation)
            rewards.append(reward)
        return jnp.stack(observations, 2), jnp.stack(rewards, 2)

    def mean(self, logits):
        tokens = self.config.tokens()
        return tokens.from_unit(tokens.mean(jax.nn.softmax(logits)))


@pytest.fixture(scope="module", params=CONFIGS)
def case(request):
    return Case(CONFIGS[request.param])


def random_steps(seed=0, time=TIME, resets=((1, 3), (2, 2), (2, 5))):
    """Three rows of one body, two of them with resets."""
    rng = np.random.default_rng(seed)
    is_first = np.zeros((BATCH, time), bool)
    is_first[:, 0] = True
    for row, step in resets:
        if step < time:
            is_first[row, step] = True
    return Steps(
        rng.normal(size=(BATCH, time, OBSERVATION)).astype(np.float32),
        rng.uniform(-1, 1, (BATCH, time, ACTION)).astype(np.float32),
        rng.normal(size=(BATCH, time)).astype(np.float32),
        is_first,
        np.ones((BATCH, OBSERVATION), bool),
        np.ones((BATCH, ACTION), bool),
    )


def random_actions(candidates, horizon, seed=1):
    shape = BATCH, candidates, horizon, ACTION
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def lengthen(steps, observation, action, reward):
    """Rows with one future of each behind them."""
    later = np.zeros(reward.shape, bool)
    return steps._replace(
        observation=np.concatenate([steps.observation, observation], 1),
        action=np.concatenate([steps.action, action], 1),
        reward=np.concatenate([steps.reward, reward], 1),
        is_first=np.concatenate([steps.is_first, later], 1),
    )


def same_rows(before, after):
    """Which predictions ``[B, T, D + 1]`` are bit for bit the same."""
    return (np.asarray(before) == np.asarray(after)).all(-1)


@pytest.mark.parametrize("past", [1, 2, 5])
def test_cached_imagination_equals_the_parallel_pass(case, past):
    """Also past the window, and behind resets: each step is predicted as in one pass."""
    steps, actions = random_steps(time=past), random_actions(2, 4)
    observation, reward = case.imagine(case.start(steps), actions)
    for candidate in range(2):
        future = (x[:, candidate] for x in (observation, actions, reward))
        want = case.mean(case.predict(lengthen(steps, *future)))[:, past - 1 :]
        np.testing.assert_allclose(observation[:, candidate], want[..., :-1], atol=2e-5)
        np.testing.assert_allclose(reward[:, candidate], want[..., -1], atol=2e-5)


@pytest.mark.parametrize("order", CONFIGS)
def test_decoding_by_argmax_and_by_samples(order):
    """The likeliest bins given the likeliest before them; samples as often as they should be."""
    config = dataclasses.replace(CONFIGS[order], decode="argmax")
    steps, greedy, many = random_steps(time=2), Case(config), 1500
    actions = random_actions(1, 2)
    observation, reward = greedy.imagine(greedy.start(steps), actions)
    whole = lengthen(steps, observation[:, 0], actions[:, 0], reward[:, 0])
    rows = np.concatenate([whole.observation, whole.reward[..., None]], -1)[:, 2:]
    best = greedy.predict(whole).argmax(-1)[:, 1:]
    np.testing.assert_array_equal(config.tokens().encode(rows), best)

    drawing = Case(dataclasses.replace(config, decode="sample"))
    actions = np.repeat(actions[:, :, :1], many, 1)
    observation, _ = drawing.imagine(drawing.start(steps), actions)
    probs = jax.nn.softmax(drawing.predict(whole)[:, 1, 0])
    tokens = config.tokens().encode(
        np.concatenate([observation[:, :, 0], np.zeros((BATCH, many, 1))], -1)
    )
    shares = jax.nn.one_hot(tokens[..., 0], config.bins).mean(1)
    np.testing.assert_allclose(shares, probs, atol=0.05)
    again, _ = drawing.imagine(drawing.start(steps), actions)
    other, _ = drawing.imagine(drawing.start(steps), actions, key=1)
    np.testing.assert_array_equal(again, observation)
    assert (other != observation).any()


def test_shared_context_equals_separate_contexts(case):
    steps, actions = random_steps(), random_actions(3, 3)
    shared = case.imagine(case.start(steps), actions)
    for candidate in range(3):
        alone = case.imagine(case.start(steps), actions[:, candidate : candidate + 1])
        for got, want in zip(shared, alone, strict=True):
            np.testing.assert_allclose(got[:, candidate], want[:, 0], atol=1e-5)


def test_candidates_do_not_see_each_other(case):
    context, actions = case.start(random_steps()), random_actions(3, 3)
    before, _ = case.imagine(context, actions)
    actions[:, 1] *= -1
    after, _ = case.imagine(context, actions)
    same = (np.asarray(before) == np.asarray(after)).all((0, 2, 3))
    np.testing.assert_array_equal(same, [True, False, True])


def test_nothing_earlier_depends_on_anything_later(case):
    """Within a row the autoregressive order holds from entry to entry."""
    steps = random_steps(resets=())
    before = np.asarray(case.predict(steps))
    ordered = case.config.order == "autoregressive"
    for entry in range(OBSERVATION + 1):
        rows = np.concatenate([steps.observation, steps.reward[..., None]], -1)
        rows[:, 4, entry] += 1
        changed = steps._replace(observation=rows[..., :-1], reward=rows[..., -1])
        same = same_rows(before, case.predict(changed)).all(0)
        # Prediction t is of row t + 1; the reward is the last entry.
        assert same[:3].all()
        np.testing.assert_array_equal(same[3], [not (ordered and i > entry) for i in range(4)])
        assert not same[4].any()
    changed = steps.action.copy()
    changed[:, 4] *= -1
    same = same_rows(before, case.predict(steps._replace(action=changed))).all((0, 2))
    assert same[:3].all() and not same[3:5].any()


def test_episodes_see_themselves_only(case):
    """Behind a reset predictions are those of a fresh sequence, whatever came before."""
    steps = random_steps()
    whole = case.predict(steps)
    cut = Steps(*(x[1:2, 3:] for x in steps[:4]), *(x[1:2] for x in steps[4:]))
    np.testing.assert_allclose(whole[1:2, 3:], case.predict(cut), atol=2e-5)
    other = random_steps(seed=9)
    mixed = [
        np.concatenate([x[:, :3], y[:, 3:]], 1) for x, y in zip(other, steps[:4], strict=False)
    ]
    mixed[3] = steps.is_first
    same = same_rows(whole, case.predict(Steps(*mixed, *steps[4:]))).all(2)
    np.testing.assert_array_equal(same[1], [False, False, False, True, True, True])
    # The context that planning starts from is the newest episode alone.
    want, _ = case.imagine(case.start(cut), random_actions(1, 2)[1:2])
    got, _ = case.imagine(case.start(steps), random_actions(1, 2))
    np.testing.assert_allclose(got[1:2], want, atol=2e-5)


def test_rows_of_a_batch_do_not_see_each_other(case):
    steps, other = random_steps(), random_steps(seed=5)
    mixed = Steps(*(np.concatenate([x[:2], y[2:]]) for x, y in zip(steps, other, strict=True)))
    same = same_rows(case.predict(steps), case.predict(mixed)).all((1, 2))
    np.testing.assert_array_equal(same, [True, True, False])
    actions = random_actions(2, 2)
    before, after = (case.imagine(case.start(x), actions)[0] for x in (steps, mixed))
    same = (np.asarray(before) == np.asarray(after)).all((1, 2, 3))
    np.testing.assert_array_equal(same, [True, True, False])


def test_window_limits_how_far_a_step_reaches():
    case = Case(dataclasses.replace(SMALL, layers=1))
    steps = random_steps(resets=())
    rows = steps.observation.copy()
    rows[:, 1] += 1
    before, after = (case.predict(steps._replace(observation=x)) for x in (steps.observation, rows))
    # Row 1 is in the windows of blocks 1, 2 and 3, which predict rows 1 to 4 between them.
    first = same_rows(before, after)[:, :, 0].all(0)
    np.testing.assert_array_equal(first, [True, False, False, False, True, True])


def test_bodies_of_different_sizes_share_a_model(case):
    """What fills the entries that a body lacks changes nothing, and is imagined as zero."""
    rng = np.random.default_rng(3)
    rows = {
        "b": rng.normal(size=(BATCH, TIME, 1)).astype(np.float32),
        "a": rng.normal(size=(BATCH, TIME, 1, 1)).astype(np.float32),
        "action": rng.uniform(-1, 1, (BATCH, TIME, 1)).astype(np.float32),
        "reward": rng.normal(size=(BATCH, TIME)).astype(np.float32),
        "is_first": random_steps().is_first,
        "is_last": np.zeros((BATCH, TIME), bool),
        "is_terminal": np.zeros((BATCH, TIME), bool),
    }
    steps = pad(rows, OBSERVATION, ACTION)
    np.testing.assert_array_equal(steps.observation[..., 0], rows["a"][..., 0, 0])
    np.testing.assert_array_equal(steps.observation[..., 1], rows["b"][..., 0])
    np.testing.assert_array_equal(steps.has_observation, [[True, True, False]] * BATCH)
    np.testing.assert_array_equal(steps.has_action, [[True, False]] * BATCH)
    filled = steps._replace(
        observation=steps.observation.at[..., 2].set(1.5), action=steps.action.at[..., 1].set(-1)
    )
    kept = np.array([True, True, False, True])
    want, got = case.predict(steps), case.predict(filled)
    np.testing.assert_array_equal(want[:, :, kept], got[:, :, kept])
    assert case.loss(case.params, steps)[0] == case.loss(case.params, filled)[0]

    actions = random_actions(2, 3)
    observation, reward = case.imagine(case.start(steps), actions)
    np.testing.assert_array_equal(observation[..., 2], 0)
    actions[..., 1] = 0.7
    again = case.imagine(case.start(filled), actions)
    np.testing.assert_array_equal(observation, again[0])
    np.testing.assert_array_equal(reward, again[1])
    future = (x[:, 0] for x in (observation, actions, reward))
    predicted = case.mean(case.predict(lengthen(steps, *future)))[:, TIME - 1 :]
    np.testing.assert_allclose(observation[:, 0, :, :2], predicted[..., :2], atol=2e-5)
    np.testing.assert_allclose(reward[:, 0], predicted[..., -1], atol=2e-5)

    # Beside a larger body in the same batch nothing changes either.
    both = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), steps, random_steps())
    beside = case.predict(both)[:BATCH]
    np.testing.assert_allclose(beside[:, :, kept], want[:, :, kept], atol=1e-5)


def test_loss_equals_a_slow_loop(case):
    steps = random_steps()
    steps = steps._replace(has_observation=np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0]], bool))
    log_probs = np.asarray(jax.nn.log_softmax(case.predict(steps)))
    rows = np.concatenate([steps.observation, steps.reward[..., None]], -1)
    tokens = np.asarray(case.config.tokens().encode(rows))
    observed, rewarded = [], []
    for row in range(BATCH):
        for step in range(1, TIME):
            if steps.is_first[row, step]:
                continue
            for entry in range(OBSERVATION + 1):
                value = -log_probs[row, step - 1, entry, tokens[row, step, entry]]
                if entry == OBSERVATION:
                    rewarded.append(value)
                elif steps.has_observation[row, entry]:
                    observed.append(value)
    loss, metrics = case.loss(case.params, steps)
    np.testing.assert_allclose(loss, np.mean(observed + rewarded), rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], loss)
    np.testing.assert_allclose(metrics["observation_loss"], np.mean(observed), rtol=1e-5)
    np.testing.assert_allclose(metrics["reward_loss"], np.mean(rewarded), rtol=1e-5)


def test_every_weight_learns(case):
    for x in jax.tree.leaves(case.gradient(case.params, random_steps())):
        assert np.isfinite(x).all() and np.any(x)


def test_a_sequence_without_predictions_has_no_loss(case):
    loss, _ = case.loss(case.params, random_steps(time=1))
    assert loss == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "paralel"}, "TDMConfig.order cannot be 'paralel'; did you mean 'parallel'"),
        ({"tokeniser": "mulaw"}, "did you mean 'mu_law'"),
        ({"embedding": "bin"}, "did you mean 'bins'"),
        ({"decode": "mode"}, "TDMConfig.decode cannot be 'mode'"),
        ({"width": 18}, "TDMConfig.width is 18; expected a multiple of TDMConfig.heads"),
        ({"kv_heads": 3}, "TDMConfig.heads is 4; expected a multiple of TDMConfig.kv_heads"),
        ({"context": 0}, "TDMConfig.context is 0; expected at least 1"),
        ({"bins": 1}, "TDMConfig.bins is 1; expected at least 2"),
        ({"limit": 0.0}, "TDMConfig.limit is 0.0"),
        ({"tokeniser": "uniform", "low": (2.0,)}, "TDMConfig.low is 2.0 and TDMConfig.high 1.0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(SMALL, **options)


def test_ranges_and_bodies_must_fit():
    uniform = dataclasses.replace(SMALL, tokeniser="uniform", low=(0.0,) * 3, high=(1.0,) * 3)
    with pytest.raises(UserError, match="tdm.low has 3 entries; expected 1, or 4"):
        tdm.functions(uniform, OBSERVATION, ACTION)
    rows = {"x": np.zeros((1, 2, 4)), "action": np.zeros((1, 2, 1))}
    rows |= {"reward": np.zeros((1, 2)), "is_first": np.zeros((1, 2), bool)}
    with pytest.raises(UserError, match="the observation has 4 entries; the model takes 3"):
        pad(rows, OBSERVATION, ACTION)
