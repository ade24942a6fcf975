"""The world model as a whole: sizes, losses, flags, kinds of observations, precision."""

from __future__ import annotations

import dataclasses
import math

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.command.presets import load_presets
from common.config import update
from common.errors import UserError
from common.learning.optimizers import OptimizerConfig, make_optimizer
from common.model.losses import total_loss
from common.model.world_model import world_model
from common.spaces import ObservationSpec
from dreamer.agent import make_agent
from dreamer.config import Config
from planet.config import PLANET_MODEL
from tests.tiny import (
    ACTIONS,
    BATCH,
    TIME,
    TINY,
    VECTOR,
    box,
    choice,
    random_batch,
    random_params,
)

RGB = {"image": ObservationSpec((64, 64, 3), "image")}
GRAY = {"image": ObservationSpec((64, 64, 1), "image")}


def count(params):
    """Number of parameters."""
    return sum(math.prod(x.shape) for x in jax.tree.leaves(params))


def initial_params(presets, specs, actions):
    """Shapes of an agent's parameters under presets; nothing is computed."""
    config = update(Config(), load_presets(presets, "dreamer"))
    agent = make_agent(config, specs, actions)
    return jax.eval_shape(agent.init, jax.random.key(0)).params


@pytest.mark.parametrize(
    ("presets", "specs", "actions", "want"),
    [
        (["dreamer_v1"], RGB, box(6), (5_296_820, 578_412, 413_601)),
        (["dmc_vision"], RGB, box(6), (13_656_772, 976_012, 971_601)),
        (["atari"], GRAY, choice(18), (19_975_379, 1_138_418, 1_131_601)),
        (["atari_paper"], GRAY, choice(18), (19_975_379, 1_138_418, 1_131_601)),
    ],
)
def test_parameter_counts_of_the_published_agents(presets, specs, actions, want):
    params = initial_params(presets, specs, actions)
    assert tuple(count(params[name]) for name in ("world_model", "actor", "critic")) == want


def test_parameter_count_of_planet():
    model = world_model(PLANET_MODEL, RGB, box(6))
    assert count(jax.eval_shape(model.init, jax.random.key(0))) == 5_293_220


def test_parameter_counts_of_the_parts_of_v1():
    model = initial_params(["dreamer_v1"], RGB, box(6))["world_model"]
    want = {"encoder": 690_144, "rssm": 557_920, "decoder": 3_795_555, "reward": 253_201}
    assert {name: count(part) for name, part in model.items()} == want


def test_parameter_count_of_the_large_model():
    params = initial_params(["crafter"], RGB, choice(6))
    norms = sum(
        count(layer) for part in params["world_model"].values() for path, layer in part.items()
        if "norm" in path and not path.endswith("gru_norm")
    )  # fmt: skip
    # The published count is of the same model without norms.
    assert count(params["world_model"]) - norms == 28_433_669


@pytest.fixture(scope="module")
def model():
    return world_model(TINY, VECTOR, ACTIONS)


@pytest.fixture(scope="module")
def params(model):
    return random_params(model.init)


def test_loss_is_the_weighted_sum_of_its_terms(model, params):
    batch = random_batch(VECTOR, ACTIONS)
    key = jax.random.key(3)
    total, metrics = jax.jit(model.loss)(params, key, batch)
    scales = {"x": 1, "reward": 2, "discount": 5, "kl": 1}
    want = sum(scale * metrics[f"{name}_loss"] for name, scale in scales.items())
    np.testing.assert_allclose(total, want, rtol=1e-6)
    noise = model.draw_noise(key, (BATCH, TIME))
    losses = jax.jit(model.losses)(params, noise, batch)
    np.testing.assert_allclose(losses.total, total, rtol=1e-6)
    states = jax.jit(model.observe)(params, key, batch)
    jax.tree.map(np.testing.assert_array_equal, states, losses.observed.states)
    assert {name: term.shape for name, term in losses.terms.items()} == dict.fromkeys(
        scales, (BATCH, TIME)
    )
    for name in ("x", "reward", "discount"):
        np.testing.assert_array_equal(losses.terms[name], -losses.log_probs[name])


def test_symlog_is_what_the_model_sees_and_predicts(model, params):
    """The same as a model without it on vectors transformed beforehand."""
    squashed = world_model(dataclasses.replace(TINY, vector_transform="symlog"), VECTOR, ACTIONS)
    batch = random_batch(VECTOR, ACTIONS)
    batch["x"] *= 100
    logs = batch | {"x": np.sign(batch["x"]) * np.log(1 + np.abs(batch["x"]))}
    noise = np.random.default_rng(1).uniform(0.1, 0.9, (BATCH, TIME, TINY.rssm.stoch))
    got, want = (
        jax.jit(net.losses)(params, noise, rows) for net, rows in ((squashed, batch), (model, logs))
    )
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), got, want)
    states = want.observed.states
    decoded = model.decode(params, states)["x"]
    natural = np.sign(decoded) * (np.exp(np.abs(decoded)) - 1)
    np.testing.assert_allclose(squashed.decode(params, states)["x"], natural, rtol=1e-4)
    now = {"x": batch["x"][:, 0], "action": batch["action"][:, 0], "is_first": np.ones(2, bool)}
    states = [
        jax.jit(net.observe_step)(params, noise[:, 0], net.initial(2), now | {"x": rows["x"][:, 0]})
        for net, rows in ((squashed, batch), (model, logs))
    ]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), *states)


def test_without_a_discount_head_states_go_on():
    config = dataclasses.replace(TINY, predict_discount=False, discount_factor=0.9)
    model = world_model(config, VECTOR, ACTIONS)
    params = random_params(model.init)
    assert "discount" not in params
    got = model.discount(params, jnp.zeros((3, 2, 7))).mean()
    np.testing.assert_allclose(got, np.full((3, 2), 0.9), rtol=1e-6)


@pytest.fixture(scope="module")
def term_gradients(params):
    """A function from a model to the gradients of each of its loss terms."""
    batch = random_batch(VECTOR, ACTIONS)
    noise = np.random.default_rng(1).uniform(0.1, 0.9, (BATCH, TIME, TINY.rssm.stoch))

    def gradients(model):
        def means(params):
            return {k: x.mean() for k, x in model.losses(params, noise, batch).terms.items()}

        return jax.jit(jax.jacrev(means))(params)

    return gradients


@pytest.fixture(scope="module")
def all_gradients(model, term_gradients):
    return term_gradients(model)


@pytest.mark.parametrize("head", ["decoder", "reward", "discount"])
def test_gradient_flags_cut_one_head_from_the_states(head, all_gradients, term_gradients):
    config = dataclasses.replace(TINY, **{f"{head}_gradients": False})
    got = term_gradients(world_model(config, VECTOR, ACTIONS))
    cut = "x" if head == "decoder" else head
    for term, components in all_gradients.items():
        for component, want in components.items():
            if term == cut and component in ("encoder", "rssm"):
                assert any(np.abs(x).max() > 0 for x in jax.tree.leaves(want))
                want = jax.tree.map(np.zeros_like, want)
            close = lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6)  # noqa: E731
            jax.tree.map(close, got[term][component], want)


def test_encoder_and_decoder_may_see_different_keys():
    specs = {"a": ObservationSpec((2,), "vector"), "b": ObservationSpec((3,), "vector")}
    config = dataclasses.replace(
        TINY,
        encoder=dataclasses.replace(TINY.encoder, vectors="a"),
        decoder=dataclasses.replace(TINY.decoder, vectors="b"),
    )
    model = world_model(config, specs, ACTIONS)
    params = random_params(model.init)
    batch = random_batch(specs, ACTIONS)
    losses = jax.jit(model.losses)
    noise = model.draw_noise(jax.random.key(1), (BATCH, TIME))
    before = losses(params, noise, batch)
    assert set(before.terms) == {"b", "reward", "discount", "kl"}
    after = losses(params, noise, batch | {"b": batch["b"] + 1})
    np.testing.assert_array_equal(before.embed, after.embed)
    assert (before.terms["b"] != after.terms["b"]).all()


def _run_images(shapes):
    specs = {key: ObservationSpec(shape, "image") for key, shape in shapes.items()} | VECTOR
    model = world_model(TINY, specs, ACTIONS)
    batch = random_batch(specs, ACTIONS, batch=1, time=2)

    def run(params):
        noise = jnp.full((1, 2, TINY.rssm.stoch), 0.5)
        losses = model.losses(params, noise, batch)
        return losses.terms, model.decode(params, losses.observed.states)

    return model, run


@pytest.mark.parametrize("shape", [(32, 32, 3), (65, 65, 1), (96, 96, 1), (40, 64, 3), (91, 33, 2)])
def test_images_of_many_sizes(shape):
    model, run = _run_images({"image": shape})
    terms, means = jax.eval_shape(run, jax.eval_shape(model.init, jax.random.key(0)))
    assert set(terms) == {"image", "x", "reward", "discount", "kl"}
    assert means["image"].shape == (1, 2, *shape)


def test_several_images():
    shapes = {"left": (48, 48, 3), "right": (48, 48, 1), "top": (33, 57, 3)}
    model, run = _run_images(shapes)
    terms, means = jax.jit(run)(random_params(model.init))
    assert set(terms) == {*shapes, "x", "reward", "discount", "kl"}
    for key, shape in shapes.items():
        assert means[key].shape == (1, 2, *shape)
        # Untrained, a decoder paints gray on the scale from 0 to 1.
        np.testing.assert_allclose(means[key], 0.5, atol=0.4)
        assert (terms[key] > 0.5 * math.log(2 * math.pi) * math.prod(shape)).all()


def test_spaces_are_understood():
    observation = gymnasium.spaces.Dict(
        image=gymnasium.spaces.Box(0, 255, (32, 32, 3), np.uint8),
        speed=gymnasium.spaces.Box(-1, 1, (2,)),
        gear=gymnasium.spaces.Discrete(4),
    )
    model = world_model(TINY, observation, gymnasium.spaces.Discrete(3))
    assert model.actions.size == 3
    kinds = {key: (spec.kind, spec.shape) for key, spec in model.observations.items()}
    vectors = {"speed": ("vector", (2,)), "gear": ("vector", (4,))}
    assert kinds == {"image": ("image", (32, 32, 3)), **vectors}


@pytest.mark.parametrize("key", ["größe", "速度", "a b", "1st", "x/y", "x_y", "-"])
def test_observations_may_have_names_of_any_kind(key):
    specs = {"x_y": ObservationSpec((2,), "vector"), key: ObservationSpec((3,), "vector")}
    model = world_model(TINY, specs, choice(2))
    params = jax.eval_shape(model.init, jax.random.key(0))
    biases = [x.shape for x in jax.tree.leaves(params["decoder"]) if x.shape in ((2,), (3,))]
    assert len(biases) == len(specs)


def test_bfloat16():
    specs = {"image": ObservationSpec((32, 32, 1), "image"), **VECTOR}
    batch = random_batch(specs, ACTIONS)
    noise = np.random.default_rng(1).uniform(0.1, 0.9, (BATCH, TIME, TINY.rssm.stoch))
    low, full = (
        world_model(dataclasses.replace(TINY, precision=precision), specs, ACTIONS)
        for precision in ("bfloat16", "float32")
    )
    params = random_params(full.init)
    loss = lambda p: low.losses(p, noise, batch).total  # noqa: E731
    got, gradients = jax.jit(jax.value_and_grad(loss))(params)
    for x in jax.tree.leaves((got, gradients)):
        assert x.dtype == jnp.float32 and np.isfinite(x).all()
    want = jax.jit(full.losses)(params, noise, batch).total
    np.testing.assert_allclose(got, want, rtol=0.01)
    for x in jax.tree.leaves(jax.eval_shape(low.init, jax.random.key(0))):
        assert x.dtype == jnp.float32


def test_terms_and_weights_must_have_the_same_names():
    term = {"kl": jnp.ones((2, 3)), "x": jnp.ones((2, 3))}
    np.testing.assert_allclose(total_loss(term, {"kl": 2.0, "x": 3.0}), 5)
    for scales in ({"kl": 1.0}, {"kl": 1.0, "x": 1.0, "more": 1.0}):
        with pytest.raises(KeyError, match="weights of"):
            total_loss(term, scales)
    with pytest.raises(AssertionError):
        total_loss({"kl": jnp.ones((2, 3)), "x": jnp.ones(())}, {"kl": 1.0, "x": 1.0})


def test_no_observation_has_the_name_of_a_term():
    with pytest.raises(UserError, match="cannot be named 'kl'"):
        world_model(TINY, {"kl": ObservationSpec((2,), "vector")}, ACTIONS)


@pytest.mark.parametrize(
    ("likelihood", "mean", "log_prob"),
    [
        ("unit_normal", lambda m: m, lambda m, x: -0.5 * (x - m) ** 2 - 0.5 * np.log(2 * np.pi)),
        (
            "symlog",
            lambda m: np.sign(m) * (np.exp(np.abs(m)) - 1),
            lambda m, x: -0.5 * (np.log(1 + x) - m) ** 2 - 0.5 * np.log(2 * np.pi),
        ),
        (
            "bernoulli",
            lambda m: 1 / (1 + np.exp(-m)),
            lambda m, x: x * m - np.log(1 + np.exp(m)),
        ),
    ],
)
def test_likelihoods_of_one_output(likelihood, mean, log_prob, params):
    reward = dataclasses.replace(TINY.reward, likelihood=likelihood)
    plain = dataclasses.replace(TINY.reward, likelihood="unit_normal")
    model, normal = (
        world_model(dataclasses.replace(TINY, reward=x), VECTOR, ACTIONS) for x in (reward, plain)
    )
    feature = np.random.default_rng(0).normal(size=(2, 3, 20)).astype(np.float32)
    output = np.asarray(normal.reward(params, feature).loc)
    target = np.random.default_rng(1).uniform(size=(2, 3)).astype(np.float32)
    got = model.reward(params, feature)
    np.testing.assert_allclose(got.mean(), mean(output), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got.log_prob(target), log_prob(output, target), rtol=1e-4)


def test_a_two_hot_reward_is_zero_before_it_is_learned_and_then_its_target_is_likely():
    reward = dataclasses.replace(TINY.reward, likelihood="two_hot", bins=41)
    model = world_model(dataclasses.replace(TINY, reward=reward), VECTOR, ACTIONS)
    params = jax.jit(model.init)(jax.random.key(0))
    feature = np.random.default_rng(0).normal(size=(6, 20)).astype(np.float32)
    target = np.float32([-100, -1, 0, 0.5, 3, 1e4])
    before = model.reward(params, feature)
    assert before.logits.shape == (6, 41) and (before.mean() == 0).all()
    loss = lambda params: -model.reward(params, feature).log_prob(target).mean()  # noqa: E731
    optimizer = make_optimizer(OptimizerConfig(lr=3e-2, weight_decay=0, adam="standard"))

    def step(_, carry):
        return optimizer.update(jax.grad(loss)(carry[0]), carry[1], carry[0])[:2]

    learn = jax.jit(
        lambda params: jax.lax.fori_loop(0, 3000, step, (params, optimizer.init(params)))
    )
    after = model.reward(learn(params)[0], feature)
    # The mean can't be asked for: 1e-8 of probability left in an outermost bin counts for 5 of it.
    weights = after.weights(target)
    best = np.where(weights > 0, weights * np.log(np.maximum(weights, 1e-30)), 0).sum(-1)
    np.testing.assert_allclose(after.log_prob(target), best, atol=0.02)
