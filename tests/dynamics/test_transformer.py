"""The transformer dynamics against a slow loop without a cache; reach, memory, learning."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.dynamics import transformer
from common.dynamics.transformer import TransformerConfig
from common.errors import UserError
from common.model.config import WorldModelConfig
from tests.reference import attention
from tests.tiny import TINY, random_params

CONFIG = TransformerConfig(
    stoch=3, classes=4, context=4, layers=2, heads=4, kv_heads=2, width=12, units=10
)
REACH = CONFIG.layers * (CONFIG.context - 1)
BATCH, TIME, ACTION, EMBED = 2, 12, 2, 5
SMALL = dataclasses.replace(TINY, dynamics="transformer", transformer=CONFIG)


class Case:
    """Functions bound to random weights, and a sequence with resets."""

    def __init__(self, config):
        functions = transformer.functions(config, ACTION, EMBED)
        self.params = jax.tree.map(lambda x: 5 * x, random_params(functions.init))
        self.observe = jax.jit(functools.partial(functions.observe, self.params))
        self.imagine = functools.partial(functions.imagine_step, self.params)
        self.imagine_step = jax.jit(self.imagine)
        rng = np.random.default_rng(0)
        self.embed = rng.normal(size=(BATCH, TIME, EMBED)).astype(np.float32)
        self.action = rng.normal(size=(BATCH, TIME, ACTION)).astype(np.float32)
        self.is_first = np.zeros((BATCH, TIME), bool)
        self.is_first[:, 0] = self.is_first[1, 3] = self.is_first[1, 7] = True
        self.noise = rng.uniform(0.01, 0.99, (BATCH, TIME, config.stoch)).astype(np.float32)
        self.start = transformer.initial(config, BATCH)

    def rows(self, begin=0, end=TIME):
        """Arguments of ``observe`` after the start."""
        whole = self.embed, self.action, self.is_first, self.noise
        return tuple(x[:, begin:end] for x in whole)


@pytest.fixture(scope="module")
def case():
    return Case(CONFIG)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_equals_a_slow_loop(kv_heads):
    config = dataclasses.replace(CONFIG, kv_heads=kv_heads)
    case = Case(config)
    observed = case.observe(case.start, *case.rows())
    weights = {path.split("/")[-1]: layer for path, layer in case.params.items()}
    dense = lambda name, x: x @ weights[name]["kernel"] + weights[name]["bias"]  # noqa: E731
    for row in range(BATCH):
        now, before = case.is_first[row], np.asarray(observed.states.stoch[row])
        stoch = np.concatenate([np.zeros((1, 3, 4)), before[:-1]]) * ~now[:, None, None]
        inputs = np.concatenate([stoch.reshape(TIME, -1), case.action[row] * ~now[:, None]], -1)
        first = np.maximum.accumulate(np.where(now, np.arange(TIME), 0))
        tokens = dense("token_in", inputs)
        for layer in range(config.layers):
            tokens = attention.block(
                tokens, first, weights, f"block{layer}", config.heads, kv_heads, config.context
            )
        deter = np.stack([attention.layer_norm(x, **weights["norm"]) for x in tokens])
        np.testing.assert_allclose(observed.states.deter[row], deter, atol=1e-5)
        prior = dense("img_dist", attention.gelu(dense("img_out", deter)))
        posterior = dense("obs_dist", attention.gelu(dense("obs_out", case.embed[row])))
        np.testing.assert_allclose(observed.prior.logits[row].reshape(TIME, -1), prior, atol=1e-5)
        got = observed.posterior.logits[row].reshape(TIME, -1)
        np.testing.assert_allclose(got, posterior, atol=1e-5)


@pytest.mark.parametrize("cuts", [(1,), (5,), (2, 3, 9), range(1, TIME)])
def test_pieces_equal_the_whole(cuts, case):
    whole = case.observe(case.start, *case.rows())
    state, pieces = case.start, []
    for begin, end in zip([0, *cuts], [*cuts, TIME], strict=True):
        pieces.append(case.observe(state, *case.rows(begin, end)))
        state = jax.tree.map(lambda x: x[:, -1], pieces[-1].states)
    joined = jax.tree.map(lambda *parts: jnp.concatenate(parts, 1), *pieces)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), joined, whole)


def test_context_limits_how_far_a_step_reaches(case):
    """Each layer sees context - 1 tokens back, so that layers add up; then it is over."""
    embed, action, _, noise = case.rows()
    is_first = np.zeros_like(case.is_first)
    changed = action.copy()
    changed[:, 2] += 3
    before, after = (case.observe(case.start, embed, x, is_first, noise) for x in (action, changed))
    same = (np.asarray(before.states.deter) == np.asarray(after.states.deter)).all((0, 2))
    np.testing.assert_array_equal(same, [not 2 <= t <= 2 + REACH for t in range(TIME)])


def test_later_actions_change_nothing_earlier_and_episodes_see_themselves_only(case):
    embed, action, is_first, noise = case.rows()
    changed = action.copy()
    changed[:, 5] -= 2
    before, after = (case.observe(case.start, embed, x, is_first, noise) for x in (action, changed))
    same = (np.asarray(before.prior.logits) == np.asarray(after.prior.logits)).all((2, 3))
    # The second row's episode ends before step 7.
    np.testing.assert_array_equal(same[0], [t not in range(5, 6 + REACH) for t in range(TIME)])
    np.testing.assert_array_equal(same[1], [t not in (5, 6) for t in range(TIME)])


def test_windows_may_start_anywhere(case):
    """What came before the newest reset is forgotten, windows of old keys included."""
    whole = case.observe(case.start, *case.rows())
    row = tuple(x[1:, 7:] for x in case.rows())
    fresh = case.observe(transformer.initial(CONFIG, 1), *row)
    tail = jax.tree.map(lambda x: x[1:, 7:], whole)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), fresh, tail)


def test_imagination_from_any_state_remembers_what_came_before(case):
    """Imagining along the observed latents gives the observed deterministic states."""
    states = case.observe(case.start, *case.rows()).states
    for begin in (0, 4, 9):
        state = jax.tree.map(lambda x, at=begin: x[:1, at], states)
        for t in range(begin + 1, TIME):
            state = case.imagine_step(state, case.action[:1, t], case.noise[:1, t])
            np.testing.assert_allclose(state.deter, states.deter[:1, t], atol=1e-5)
            state = state._replace(stoch=states.stoch[:1, t])


def test_gradient_of_imagination_reaches_actions_through_the_window(case):
    start = jax.tree.map(lambda x: x[:, -1], case.observe(case.start, *case.rows()).states)
    steps = REACH + 2

    def last(actions):
        # Modes have no gradient: all that is known of earlier actions is in the window.
        step = lambda state, action: (case.imagine(state, action, None), None)  # noqa: E731
        return jax.lax.scan(step, start, actions)[0].deter.sum()

    actions = case.action[:, :steps].swapaxes(0, 1)
    reached = np.abs(jax.jit(jax.grad(last))(actions)).max((1, 2)) > 0
    np.testing.assert_array_equal(reached, np.arange(steps) > 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3, "width": 16}, "TransformerConfig.width is 16; expected a multiple of"),
        ({"heads": 4, "kv_heads": 3}, "TransformerConfig.heads is 4; expected a multiple of"),
        ({"context": 1}, "TransformerConfig.context is 1; expected at least 2"),
        ({"layers": 0}, "TransformerConfig.layers is 0; expected at least 1"),
    ],
)
def test_impossible_sizes_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        TransformerConfig(**options)


def test_unknown_dynamics_are_refused():
    with pytest.raises(UserError, match="did you mean 'transformer'"):
        WorldModelConfig(dynamics="transfomer")
