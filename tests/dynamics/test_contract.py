"""What every latent dynamics must do; a new one joins by an entry in VARIANTS."""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.dynamics import rssm, s5, transformer
from common.dynamics.base import DynamicsFunctions
from common.dynamics.rssm import RSSMConfig
from common.dynamics.s5 import S5Config
from common.dynamics.transformer import TransformerConfig
from common.model.components import DYNAMICS
from common.model.config import WorldModelConfig
from common.model.imagine import imagine
from common.nets import precision, scan

BATCH, TIME, ACTION, EMBED = 3, 5, 2, 6
TOLERANCE = {"rtol": 0, "atol": 1e-5}


class Variant(NamedTuple):
    """A dynamics with everything that a test needs to run it.

    ``unread`` names the entries of a state that no later step reads.
    """

    functions: DynamicsFunctions
    initial: Callable[[int], Any]
    draw_noise: Callable[..., jax.Array]
    unread: tuple[str, ...] = ()


def _variant(module, config, unread=()):
    return Variant(
        module.functions(config, ACTION, EMBED),
        functools.partial(module.initial, config),
        functools.partial(module.draw_noise, config),
        unread,
    )


def _rssm(latent, cell, norm, **options):
    config = RSSMConfig(
        latent=latent, stoch=3, classes=4, deter=8, hidden=7, cell=cell, norm=norm, **options
    )
    return _variant(rssm, config)


def _transformer(context, layers, kv_heads, unimix=0.0):
    config = TransformerConfig(
        stoch=3, classes=4, context=context, layers=layers,
        heads=2, kv_heads=kv_heads, width=8, units=7, unimix=unimix,
    )  # fmt: skip
    return _variant(transformer, config, unread=("deter",))


def _s5(layers, modes, blocks, unimix=0.0, exposed=True):
    config = S5Config(
        stoch=3, classes=4, layers=layers, width=8, modes=modes, blocks=blocks, units=7,
        unimix=unimix, exposed=exposed,
    )  # fmt: skip
    return _variant(s5, config, unread=("deter",))


VARIANTS = {
    "categorical, layer-norm GRU": _rssm("categorical", "layer_norm_gru", "none"),
    "gaussian, layer-norm GRU, norms": _rssm("gaussian", "layer_norm_gru", "layer"),
    "gaussian, GRU, root mean squares": _rssm("gaussian", "gru", "rms"),
    "categorical, GRU, norms": _rssm("categorical", "gru", "layer", unimix=0.1),
    "gaussian, original GRU": _rssm("gaussian", "original_gru", "none"),
    "categorical, block GRU, deep": _rssm(
        "categorical",
        "block_gru",
        "rms",
        blocks=4,
        cell_layers=2,
        prior_layers=2,
        posterior_layers=2,
        unimix=0.01,
        activation="silu",
    ),
    "gaussian, block GRU, posterior of the embedding alone": _rssm(
        "gaussian", "block_gru", "none", blocks=2, absolute=True, init="trunc_normal"
    ),
    "transformer": _transformer(context=3, layers=2, kv_heads=1),
    "transformer, long context": _transformer(context=9, layers=1, kv_heads=2, unimix=0.1),
    "s5": _s5(layers=2, modes=4, blocks=1),
    "s5, one layer, blocks, its output alone": _s5(1, 6, blocks=3, unimix=0.1, exposed=False),
}


def test_every_dynamics_of_the_world_model_is_held_to_the_contract():
    names = typing.get_args(typing.get_type_hints(WorldModelConfig)["dynamics"])
    modules = {variant.initial.func.__module__ for variant in VARIANTS.values()}
    assert {f"common.dynamics.{name}" for name in names} == modules
    assert set(DYNAMICS) == set(names)
    for name in names:
        assert DYNAMICS[name].__name__ == f"common.dynamics.{name}"
        options = type(getattr(WorldModelConfig(), name))
        assert getattr(DYNAMICS[name], options.__name__) is options


class Case:
    """A variant with weights, compiled functions, one random sequence and a random start."""

    def __init__(self, variant):
        keys = jax.random.split(jax.random.key(1), 6)
        self.variant = variant
        params = jax.jit(variant.functions.init)(keys[0])
        # Fresh biases are zero and would hide mistakes.
        leaves, tree = jax.tree.flatten(params)
        rng = np.random.default_rng(0)
        leaves = [x + 0.3 * rng.normal(size=x.shape).astype(np.float32) for x in leaves]
        self.params = jax.tree.unflatten(tree, leaves)
        self.observe = jax.jit(functools.partial(variant.functions.observe, self.params))
        self.observe_step = jax.jit(functools.partial(variant.functions.observe_step, self.params))
        self.imagine_step = jax.jit(functools.partial(variant.functions.imagine_step, self.params))
        self.embed = rng.normal(size=(BATCH, TIME, EMBED)).astype(np.float32)
        self.action = rng.normal(size=(BATCH, TIME, ACTION)).astype(np.float32)
        self.is_first = np.zeros((BATCH, TIME), bool)
        self.is_first[1, 2] = self.is_first[2, 0] = True
        self.noise = np.asarray(variant.draw_noise(keys[1], (BATCH, TIME)))
        noise = variant.draw_noise(keys[2], (BATCH,))
        self.start = self.imagine_step(variant.initial(BATCH), self.action[:, 0], noise)

    def row(self, t):
        """Arguments of ``observe_step`` after the state."""
        return self.embed[:, t], self.action[:, t], self.is_first[:, t], self.noise[:, t]

    def rows(self):
        """Arguments of ``observe`` after the start."""
        return self.embed, self.action, self.is_first, self.noise


@pytest.fixture(scope="module", params=list(VARIANTS))
def case(request):
    return Case(VARIANTS[request.param])


def _assert_close(got, want, **tolerance):
    tolerance = tolerance or TOLERANCE
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), got, want)


def _at(tree, t):
    return jax.tree.map(lambda x: x[:, t], tree)


def test_observe_is_the_fold_of_observe_step(case):
    observed = case.observe(case.start, *case.rows())
    state = case.start
    for t in range(TIME):
        state = case.observe_step(state, *case.row(t))
        _assert_close(_at(observed.states, t), state)


def test_reset_is_a_fresh_start(case):
    embed, action, _, noise = case.row(0)
    reset = case.observe_step(case.start, embed, action, np.ones(BATCH, bool), noise)
    initial = case.variant.initial(BATCH)
    fresh = case.observe_step(initial, embed, 0 * action, np.zeros(BATCH, bool), noise)
    _assert_close(reset, fresh, rtol=0, atol=0)


def test_rows_of_a_batch_are_independent(case):
    before = case.observe(case.start, *case.rows())
    start, rows = jax.tree.map(np.array, (case.start, case.rows()))
    for x in jax.tree.leaves((start, rows)):
        x[0] = ~x[0] if x.dtype == bool else 0.5 * x[0] + 0.1
    after = case.observe(start, *rows)
    others = lambda tree: jax.tree.map(lambda x: x[1:], tree)  # noqa: E731
    _assert_close(others(after), others(before), rtol=0, atol=1e-6)
    assert not np.allclose(jax.tree.leaves(after)[0][0], jax.tree.leaves(before)[0][0])


def test_prior_sees_the_past_alone(case):
    moment = 2
    embed = case.embed.copy()
    embed[:, moment] += 1
    before = case.observe(case.start, *case.rows())
    after = case.observe(case.start, embed, *case.rows()[1:])
    for t in range(moment + 1):
        _assert_close(_at(after.prior, t), _at(before.prior, t), rtol=0, atol=0)
    for t in range(moment):
        _assert_close(_at(after.states, t), _at(before.states, t), rtol=0, atol=0)
    for changed in (_at(after.posterior, moment), _at(before.posterior, moment)), (
        _at(after.prior, moment + 1), _at(before.prior, moment + 1),
    ):  # fmt: skip
        assert not np.allclose(*(jax.tree.leaves(x)[0] for x in changed))


def test_imagine_step_samples_the_prior(case):
    noise = case.noise[:, 0]
    state = case.imagine_step(case.start, case.action[:, 1], noise)
    prior = case.variant.functions.prior(case.params, state)
    _assert_close(state.stoch, prior.sample(noise))
    mode = case.variant.functions.imagine_step(case.params, case.start, case.action[:, 1], None)
    _assert_close(mode.stoch, case.variant.functions.prior(case.params, mode).mode())


def test_imagination_and_observation_share_the_prior(case):
    observed = case.observe(case.start, *case.rows())
    state = case.imagine_step(case.start, case.action[:, 0], case.noise[:, 0])
    imagined = case.variant.functions.prior(case.params, state)
    going_on = ~case.is_first[:, 0]
    pick = lambda tree: jax.tree.map(lambda x: x[going_on], tree)  # noqa: E731
    _assert_close(pick(_at(observed.prior, 0)), pick(imagined))


def test_compiled_equals_eager(case):
    functions = case.variant.functions
    got = functions.observe_step(case.params, case.start, *case.row(1))
    _assert_close(got, case.observe_step(case.start, *case.row(1)))
    arguments = case.start, case.action[:, 1], case.noise[:, 1]
    _assert_close(functions.imagine_step(case.params, *arguments), case.imagine_step(*arguments))


def test_every_weight_and_input_gets_a_gradient(case):
    rng = np.random.default_rng(3)

    def loss(params, start, embed, action, random):
        rows = embed, action, np.zeros_like(case.is_first), case.noise
        observed = case.variant.functions.observe(params, start, *rows)
        outputs = jax.tree.leaves((observed.states, observed.prior))
        return sum((x * y).sum() for x, y in zip(outputs, random, strict=True))

    observed = case.observe(case.start, *case.rows())
    shapes = jax.tree.leaves((observed.states, observed.prior))
    random = [rng.normal(size=x.shape).astype(np.float32) for x in shapes]
    gradient = jax.jit(jax.grad(loss, (0, 1, 2, 3)))
    params, start, *inputs = gradient(case.params, case.start, case.embed, case.action, random)
    for name in case.variant.unread:
        assert not np.any(getattr(start, name))
        start = start._replace(**{name: None})
    for path, x in jax.tree_util.tree_leaves_with_path((params, start, inputs)):
        assert np.isfinite(x).all() and np.abs(x).max() > 1e-6, path


def test_bfloat16_keeps_float32_outside(case):
    embed, action, is_first, noise = case.rows()
    observe = precision.wrap(case.variant.functions.observe, "bfloat16")

    def loss(params):
        observed = observe(params, case.start, embed, action, is_first, noise=noise)
        return sum(x.mean() for x in jax.tree.leaves(observed)), observed

    (_, got), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(case.params)
    want = case.observe(case.start, *case.rows())
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert x.dtype == jnp.float32 and x.shape == y.shape and np.isfinite(x).all()
    _assert_close(_at(got.prior, 0), _at(want.prior, 0), rtol=0.05, atol=0.05)
    for x in jax.tree.leaves(gradient):
        assert x.dtype == jnp.float32 and np.isfinite(x).all()


def test_rounded_products_give_the_same_gradient_within_a_hundredth(case):
    """Of classes by their modes: a rounded probability may draw another one."""
    embed, action, is_first, noise = case.rows()
    if case.start.stoch.ndim == 3:
        noise = None

    def gradient(name):
        observe = precision.wrap(case.variant.functions.observe, name)

        def loss(params, embed):
            observed = observe(params, case.start, embed, action, is_first, noise=noise)
            return sum(jnp.square(x).mean() for x in jax.tree.leaves(observed))

        return jax.tree.leaves(jax.jit(jax.grad(loss, (0, 1)))(case.params, embed))

    exact, rounded = gradient("float32"), gradient("bfloat16_products")
    norm = lambda leaves: np.sqrt(sum(np.square(x).sum() for x in leaves))  # noqa: E731
    apart = norm([x - y for x, y in zip(exact, rounded, strict=True)]) / norm(exact)
    assert 1e-5 < apart < 0.01
    assert {x.dtype for x in rounded} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    "name",
    [
        "categorical, GRU, norms",
        "transformer, long context",
        "s5, one layer, blocks, its output alone",
    ],
)
def test_no_class_is_impossible_where_a_uniform_share_is_mixed_in(name):
    """Weights a thousand times as large are sure of everything but for that share."""
    case = Case(VARIANTS[name])
    sure = jax.tree.map(lambda x: 1000 * x, case.params)
    observed = jax.jit(case.variant.functions.observe)(sure, case.start, *case.rows())
    for distribution in (observed.prior, observed.posterior):
        assert distribution.probs.min() == pytest.approx(0.1 / 4, rel=1e-4)
        assert distribution.probs.max() == pytest.approx(1 - 0.1 * 3 / 4, rel=1e-4)


@pytest.mark.parametrize(
    "case",
    ["categorical, layer-norm GRU", "categorical, block GRU, deep", "transformer"],
    indirect=True,
)
def test_gradients_do_not_depend_on_the_form_of_the_loop(case, monkeypatch):
    """Those of a GPU's loop, over observations and through imagination, are a CPU's."""
    functions, rng = case.variant.functions, np.random.default_rng(5)
    first = functions.feature(case.params, case.start)
    policy = rng.normal(size=(first.shape[-1], ACTION)).astype(np.float32) / 3
    random = rng.normal(size=(TIME, BATCH, ACTION)).astype(np.float32)
    model = SimpleNamespace(
        config=WorldModelConfig(),
        feature=lambda params, state: functions.feature(params["rssm"], state),
        imagine_step=lambda params, noise, state, action: functions.imagine_step(
            params["rssm"], state, action, noise=noise
        ),
    )

    def loss(params, policy, start):
        act = lambda feature, noise: (jnp.tanh(feature @ policy + noise), feature)  # noqa: E731
        observed = functions.observe(params, start, *case.rows())
        noise = np.swapaxes(case.noise, 0, 1)
        imagined = imagine(model, {"rssm": params}, act, start, noise, random)
        weights = np.random.default_rng(6)
        leaves = jax.tree.leaves((observed, imagined))
        return sum((x * weights.normal(size=x.shape).astype(np.float32)).mean() for x in leaves)

    def gradients():
        return jax.tree.leaves(
            jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(case.params, policy, case.start)
        )

    want, loops, original = gradients(), [], scan.scan_apart
    monkeypatch.setattr(scan, "scan_apart", lambda *args: loops.append(args) or original(*args))
    elsewhere = lambda *args, cpu, default: default(*args)  # noqa: E731
    monkeypatch.setattr(jax.lax, "platform_dependent", elsewhere)
    for x, y in zip(gradients(), want, strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=2e-6 * max(1, np.abs(y).max()))
    assert len(loops) == 1 + (case.variant.initial.func is rssm.initial)
