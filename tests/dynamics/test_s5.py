"""The S5 dynamics against a slow loop; resets, long memory, number formats, learning rates."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.dynamics import s5
from common.dynamics.s5 import S5Config
from common.errors import UserError
from common.learning.optimizers import scale_by_name
from common.model.world_model import world_model
from common.nets import precision, ssm
from tests.configs.reading import load
from tests.reference import ssm as reference
from tests.reference.attention import gelu, layer_norm
from tests.tiny import ACTIONS, TINY, VECTOR

CONFIG = S5Config(stoch=3, classes=4, layers=2, width=6, modes=4, blocks=2, units=5)
MODES = CONFIG.modes
BATCH, TIME, ACTION, EMBED = 2, 11, 2, 5
SMALL = dataclasses.replace(TINY, dynamics="s5", s5=CONFIG)


class Case:
    """Functions bound to random weights, a random sequence and a random start."""

    def __init__(self):
        functions = s5.functions(CONFIG, ACTION, EMBED)
        rng = np.random.default_rng(0)
        draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
        shapes = jax.eval_shape(functions.init, jax.random.key(0))
        self.params = jax.tree.map(lambda x: 0.6 * draw(*x.shape), shapes)
        (self.module,) = {path.rpartition("/ssm")[0] for path in shapes if path.endswith("/ssm")}
        self.observe = jax.jit(functools.partial(functions.observe, self.params))
        self.observe_step = jax.jit(functools.partial(functions.observe_step, self.params))
        self.imagine_step = jax.jit(functools.partial(functions.imagine_step, self.params))
        self.embed, self.action = draw(BATCH, TIME, EMBED), draw(BATCH, TIME, ACTION)
        self.noise = rng.uniform(0.01, 0.99, (BATCH, TIME, 3)).astype(np.float32)
        self.start = s5.S5State(
            draw(BATCH, 6), np.eye(4, dtype=np.float32)[rng.integers(0, 4, (BATCH, 3))],
            draw(BATCH, CONFIG.layers, 2, MODES),
        )  # fmt: skip

    def rows(self, is_first):
        """Arguments of ``observe`` after the start."""
        return self.embed, self.action, is_first, self.noise

    def slowly(self, observed, is_first, row):
        """Modes and outputs of one row by the reference, given the samples."""
        weights = lambda name: self.params[f"{self.module}/{name}"]  # noqa: E731
        dense = lambda name, x: x @ weights(name)["kernel"] + weights(name)["bias"]  # noqa: E731
        keep = ~is_first[row][:, None]
        before = np.concatenate([self.start.stoch[row][None], observed.states.stoch[row][:-1]])
        inputs = [before.reshape(TIME, -1) * keep, self.action[row] * keep]
        tokens, modes = dense("token_in", np.concatenate(inputs, -1)), []
        for layer in range(CONFIG.layers):
            start = self.start.modes[row, layer, 0] + 1j * self.start.modes[row, layer, 1]
            tokens, now = reference.layer(
                tokens, is_first[row], start, self.params, self.module, layer
            )
            modes.append(np.stack([now.real, now.imag], 1))
        deter = np.stack([layer_norm(x, **weights("norm")) for x in tokens])
        prior = dense("img_dist", gelu(dense("img_out", deter)))
        posterior = dense("obs_dist", gelu(dense("obs_out", self.embed[row])))
        return np.stack(modes, 1), deter, prior, posterior


@pytest.fixture(scope="module")
def case():
    return Case()


def _resets(*where):
    is_first = np.zeros((BATCH, TIME), bool)
    for row, step in where:
        is_first[row, step] = True
    return is_first


def _check_against_the_loops(case, is_first):
    observed = jax.tree.map(np.asarray, case.observe(case.start, *case.rows(is_first)))
    state = case.start
    for t in range(TIME):
        row = (x[:, t] for x in case.rows(is_first))
        state = case.observe_step(state, *row)
        for got, want in zip(state, observed.states, strict=True):
            np.testing.assert_allclose(got, want[:, t], atol=2e-5)
    for row in range(BATCH):
        modes, deter, prior, posterior = case.slowly(observed, is_first, row)
        np.testing.assert_allclose(observed.states.modes[row], modes, atol=2e-5)
        np.testing.assert_allclose(observed.states.deter[row], deter, atol=1e-4)
        np.testing.assert_allclose(observed.prior.logits[row].reshape(TIME, -1), prior, atol=1e-4)
        got = observed.posterior.logits[row].reshape(TIME, -1)
        np.testing.assert_allclose(got, posterior, atol=1e-4)


@pytest.mark.parametrize(
    "where",
    [
        pytest.param((), id="the start state counts"),
        pytest.param(((0, 3), (0, 7)), id="two resets in a segment"),
        pytest.param(((0, 0), (1, TIME - 1)), id="at the first and at the last step"),
        pytest.param(((1, 4), (1, 5)), id="one after the other"),
    ],
)
def test_parallel_is_sequential_is_a_slow_loop(where, case):
    _check_against_the_loops(case, _resets(*where))


@settings(max_examples=15, deadline=None)
@given(flags=st.lists(st.booleans(), min_size=BATCH * TIME, max_size=BATCH * TIME))
def test_resets_anywhere(flags, case):
    _check_against_the_loops(case, np.array(flags).reshape(BATCH, TIME))


def test_a_reset_takes_effect_at_its_own_step(case):
    """Not one step early, as where padding is put in before the last flag: rows before it stay."""
    plain = case.observe(case.start, *case.rows(_resets()))
    reset = case.observe(case.start, *case.rows(_resets((0, 6), (0, 8))))
    same = lambda x, y: np.isclose(x, y, atol=1e-6).all((1, 2, 3))  # noqa: E731
    found = same(np.asarray(plain.states.modes[0]), np.asarray(reset.states.modes[0]))
    np.testing.assert_array_equal(found, np.arange(TIME) < 6)


@pytest.mark.parametrize("step", [0, 5])
def test_nothing_passes_a_reset(step, case):
    """Neither modes nor the previous sample nor the previous action, in the parallel form too."""
    is_first = _resets((0, step), (1, step))
    embed, action, _, noise = case.rows(is_first)
    other = case.start._replace(stoch=np.roll(case.start.stoch, 1, -1), modes=case.start.modes + 3)
    embed, action = embed.copy(), action.copy()
    embed[:, :step] += 5
    action[:, : step + 1] -= 4
    before = case.observe(case.start, *case.rows(is_first))
    after = case.observe(other, embed, action, is_first, noise)
    if step:
        assert (np.asarray(before.states.stoch) != np.asarray(after.states.stoch))[:, :step].any()
    for x, y in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(x[:, step:], y[:, step:])


def _random_elements(rng, amount):
    kept = rng.normal(size=(amount, 3)) + 1j * rng.normal(size=(amount, 3))
    kept *= rng.random((amount, 1)) > 0.3  # Resets, two and more in a segment.
    return kept, rng.normal(size=(amount, 3)) + 1j * rng.normal(size=(amount, 3))


@pytest.mark.parametrize("seed", range(5))
def test_the_operator_is_associative_with_resets(seed):
    """In float64; one that carries a start other than zero in a flag is off by 0.5 here."""
    kept, driven = _random_elements(np.random.default_rng(seed), 3)
    one, two, three = zip(kept, driven, strict=True)
    left = ssm.compose(ssm.compose(one, two), three)
    right = ssm.compose(one, ssm.compose(two, three))
    for x, y in zip(left, right, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("time", [1, 2, 8, 13])
def test_the_scan_is_the_loop_in_float64(time):
    rng = np.random.default_rng(time)
    kept, driven = _random_elements(rng, time)
    start = rng.normal(size=3) + 1j * rng.normal(size=3)
    with jax.enable_x64(True):
        found = ssm.linear_scan(*(jnp.asarray(x)[None] for x in (kept, driven, start)))
        assert found.dtype == jnp.complex128
        found = np.asarray(found)[0]
    state = start
    for t in range(time):
        state = kept[t] * state + driven[t]
        np.testing.assert_allclose(found[t], state, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [2, 8, 64])
def test_eigenvalues_are_those_of_the_dense_matrix(size):
    dense = np.linalg.eigvals(reference.hippo_normal(size))
    dense = dense[dense.imag > 0]
    dense = dense[np.argsort(dense.imag)]
    np.testing.assert_allclose(ssm.hippo_eigenvalues(size), dense, rtol=1e-8)


@functools.cache
def _fresh(**options):
    """Functions and parameters as training begins with them, at ordinary sizes."""
    config = S5Config(**{"stoch": 4, "classes": 4, "width": 32, "units": 16, **options})
    functions = s5.functions(config, ACTION, EMBED)
    return config, functions, functions.init(jax.random.key(0))


def _driving(params):
    (found,) = (layer for path, layer in params.items() if path.endswith("/ssm"))
    return found


def test_modes_begin_as_the_paper_draws_them():
    config, _, params = _fresh(blocks=4)
    driving = _driving(params)
    for i in range(config.layers):
        eigenvalues = -np.exp(driving[f"log_decay{i}"]) + 1j * driving[f"frequency{i}"]
        want = np.tile(ssm.hippo_eigenvalues(2 * config.modes // 4), 4)
        np.testing.assert_allclose(eigenvalues, want, rtol=1e-5)
        steps = np.asarray(driving[f"log_step{i}"])
        assert steps.min() > np.log(1e-3) and steps.max() < np.log(1e-1)
        assert np.ptp(steps) > 4 and abs(steps.mean() - np.log(1e-2)) < 0.6
        size = config.modes
        drawn = driving[f"kernel{i}"][:, :size] + 1j * driving[f"kernel{i}"][:, size:]
        assert np.mean(np.abs(drawn) ** 2) == pytest.approx(1 / config.width, rel=0.1)
    assert not np.array_equal(driving["log_step0"], driving["log_step1"])


def test_a_cue_two_hundred_steps_ago_is_not_forgotten():
    config, functions, params = _fresh()
    time, rng = 201, np.random.default_rng(0)
    embed = rng.normal(size=(1, time, EMBED)).astype(np.float32)
    action = np.zeros((1, time, ACTION), np.float32)
    is_first = np.zeros((1, time), bool)
    changed = action.copy()
    changed[:, 0] = 1
    noise = np.full((1, time, config.stoch), 0.5, np.float32)
    observe = jax.jit(functools.partial(functions.observe, params, s5.initial(config, 1)))
    states = [observe(embed, x, is_first, noise).states for x in (action, changed)]
    features = [functions.feature(params, jax.tree.map(lambda x: x[0, -1], y)) for y in states]
    assert np.abs(features[0] - features[1]).max() > 1e-3
    output = np.abs(states[0].deter[0, -1] - states[1].deter[0, -1]).max()
    assert output > 1e-4


@pytest.mark.parametrize("exposed", [True, False])
def test_what_heads_see(exposed):
    config, functions, params = _fresh(exposed=exposed)
    state = jax.tree.map(lambda x: x + 1.0, s5.initial(config, 3))
    seen = 4 * 4 + exposed * 2 * config.layers * config.modes + config.width
    assert functions.feature(params, state).shape == (3, seen)
    moved = functions.feature(params, state._replace(modes=2 + state.modes))
    assert np.any(moved != functions.feature(params, state)) == exposed


def test_gradients_of_long_sequences_are_finite():
    config, functions, params = _fresh(layers=1, modes=8, width=8)
    time, rng = 1024, np.random.default_rng(0)
    embed = rng.normal(size=(1, time, EMBED)).astype(np.float32)
    action = rng.normal(size=(1, time, ACTION)).astype(np.float32)
    is_first = np.arange(time)[None] == 700
    noise = np.full((1, time, config.stoch), 0.5, np.float32)

    def loss(params, action):
        start = s5.initial(config, 1)
        observed = functions.observe(params, start, embed, action, is_first, noise)
        return jnp.square(observed.states.deter).mean() + observed.states.modes[:, -1].sum()

    gradients = jax.jit(jax.grad(loss, (0, 1)))(params, action)
    for x in jax.tree.leaves(gradients):
        assert np.isfinite(x).all()
    assert np.abs(_driving(gradients[0])["log_step0"]).min() > 0
    # The last step remembers what came after the reset, and nothing else.
    assert np.abs(gradients[1][0, 705]).max() > 0
    assert np.isfinite(gradients[1]).all()


def test_modes_keep_float32_where_all_else_is_bfloat16():
    """A step adds to a large mode what bfloat16 would lose; and its eigenvalues are not rounded."""
    config, functions, params = _fresh()
    rows = np.zeros((1, EMBED), np.float32), np.ones((1, ACTION), np.float32)
    state = s5.initial(config, 1)
    state = state._replace(modes=state.modes + 100.0)
    noise = np.full((1, config.stoch), 0.5, np.float32)

    def step(name, params):
        observe = precision.wrap(functions.observe_step, name)
        return jax.jit(lambda: observe(params, state, *rows, np.zeros(1, bool), noise=noise))()

    exact, narrow = step("float32", params), step("bfloat16", params)
    assert narrow.modes.dtype == jnp.float32
    # The first layer's input is rounded; what 100 becomes in a step is not.
    np.testing.assert_allclose(narrow.modes[:, 0], exact.modes[:, 0], rtol=0, atol=0.01)
    assert np.abs(exact.modes[:, 0] - 100).min() < 0.2
    ready = precision.ready(params, "bfloat16")
    assert {x.dtype for x in _driving(ready).values()} == {jnp.dtype("float32")}
    assert len({str(x.dtype) for x in jax.tree.leaves(ready)}) == 2
    ahead = step("bfloat16", ready)
    np.testing.assert_array_equal(ahead.modes, narrow.modes)


def test_modes_learn_at_a_rate_of_their_own():
    """By the option that names layers, as the preset sets it."""
    for agent in ("dmc_proprio", "dmc_vision_v3"):
        config = load(agent, "size_xs", "s5")
        assert config.world_model.dynamics == "s5" and config.model_opt.weight_decay == 0
        scale = scale_by_name(config.model_opt.rates)
        shapes = jax.eval_shape(world_model(SMALL, VECTOR, ACTIONS).init, jax.random.key(0))
        steps = jax.tree.map(lambda x: np.ones(x.shape, np.float32), shapes)
        for path, layer in scale.update(steps, scale.init(steps))[0]["s5"].items():
            for found in layer.values():
                np.testing.assert_array_equal(found, 0.25 if path.endswith("/ssm") else 1.0)


def test_imagination_goes_on_from_what_was_seen(case):
    """Along the observed latents it gives the observed modes."""
    states = case.observe(case.start, *case.rows(_resets((0, 1)))).states
    state = jax.tree.map(lambda x: x[:, 4], states)
    for t in range(5, TIME):
        state = case.imagine_step(state, case.action[:, t], case.noise[:, t])
        np.testing.assert_allclose(state.modes, states.modes[:, t], atol=2e-5)
        np.testing.assert_allclose(state.deter, states.deter[:, t], atol=1e-4)
        state = state._replace(stoch=states.stoch[:, t])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modes": 9, "blocks": 2}, "S5Config.modes is 9; expected a multiple of S5Config.blocks"),
        ({"modes": 2000}, "S5Config.modes is 2000; expected 1 to 1024"),
        ({"layers": 0}, "S5Config.layers is 0; expected at least 1"),
    ],
)
def test_impossible_sizes_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        S5Config(**options)
