"""The ensemble of Plan2Explore, against a slow loop, and what it finds new."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from common.model.imagine import Trajectory
from dreamer.exploration.config import EnsembleConfig
from dreamer.exploration.disagreement import disagreement, make_disagreement
from dreamer.exploration.intrinsic import Seen, Sizes
from tests.reference import exploration as reference

CONFIG = EnsembleConfig(members=3, layers=2, units=8)
SIZES = Sizes(feature=5, stoch=6, deter=3, embed=7, action=2)
BATCH, TIME = 2, 6


def make_seen(seed=0, batch=BATCH, time=TIME):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=(batch, time, *shape)).astype(np.float32)  # noqa: E731
    states = SimpleNamespace(stoch=draw(2, 3), deter=draw(3))
    losses = SimpleNamespace(observed=SimpleNamespace(states=states), embed=draw(7))
    is_first = np.zeros((batch, time), bool)
    is_first[:, 0] = is_first[-1, 3] = True
    return Seen({"action": draw(2), "is_first": is_first}, losses, draw(5))


def members_of(params):
    """The parameters of each member alone, as NumPy arrays."""
    of = lambda k: jax.tree.map(lambda x: np.asarray(x[k]), params)  # noqa: E731
    return [of(k) for k in range(CONFIG.members)]


@pytest.fixture(name="params", scope="module")
def _params():
    return make_disagreement(CONFIG, SIZES, "float32").init(jax.random.key(0))


def test_the_loss_is_that_of_the_slow_loop(params):
    seen = make_seen()
    value, metrics = make_disagreement(CONFIG, SIZES, "float32").loss(params, None, seen)

    def predict(feature, action):
        x = np.concatenate([feature, action])
        return [reference.mlp(one, x, CONFIG.layers) for one in members_of(params)]

    targets = seen.losses.observed.states.stoch.reshape(BATCH, TIME, -1)
    slow = reference.ensemble_loss(
        predict, seen.features, seen.batch["action"], targets, seen.batch["is_first"]
    )
    np.testing.assert_allclose(value, slow, rtol=1e-4)
    assert metrics["loss"] == value


def test_an_imagined_step_is_rewarded_where_it_arrives(params):
    """By the disagreement about the action that led there, at the state that it was taken in."""
    rng = np.random.default_rng(1)
    trajectory = Trajectory(rng.normal(size=(4, 3, 5)), rng.normal(size=(4, 3, 2)), None)
    found = make_disagreement(CONFIG, SIZES, "float32").reward(params, trajectory)
    assert found.shape == (4, 3) and not found[0].any()
    for t in range(1, 4):
        for n in range(3):
            x = np.concatenate([trajectory.features[t - 1, n], trajectory.actions[t, n]])
            members = [reference.mlp(one, x, CONFIG.layers) for one in members_of(params)]
            slow = reference.disagreement(members)
            np.testing.assert_allclose(found[t, n], slow, rtol=1e-4)


@pytest.mark.parametrize("target, size", [("stoch", 6), ("deter", 3), ("feature", 5), ("embed", 7)])
def test_members_predict_what_is_asked_for(target, size):
    config = EnsembleConfig(members=2, layers=0, target=target)
    intrinsic = make_disagreement(config, SIZES, "float32")
    params = jax.tree.map(jnp.zeros_like, intrinsic.init(jax.random.key(0)))
    assert params["out"]["bias"].shape == (2, size)
    seen = make_seen()
    found = {
        "stoch": seen.losses.observed.states.stoch.reshape(BATCH, TIME, -1),
        "deter": seen.losses.observed.states.deter,
        "feature": seen.features,
        "embed": seen.losses.embed,
    }[target]
    counts = ~seen.batch["is_first"][:, 1:]
    # Members that predict zero are wrong by what there is.
    slow = 2 * 0.5 * (found[:, 1:] ** 2).sum(-1)[counts].mean()
    np.testing.assert_allclose(intrinsic.loss(params, None, seen)[0], slow, rtol=1e-5)


def test_members_that_are_equal_agree_and_learn_no_infinite_gradient(params):
    same = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], x.shape), params)
    trajectory = Trajectory(jnp.ones((3, 2, 5)), jnp.ones((3, 2, 2)), None)
    intrinsic = make_disagreement(CONFIG, SIZES, "float32")

    def total(actions):
        return intrinsic.reward(same, trajectory._replace(actions=actions)).sum()

    value, gradient = jax.value_and_grad(total)(trajectory.actions)
    assert value == 0 and not gradient.any()
    assert disagreement(jnp.array([[[1.0, 2.0]], [[3.0, 2.0]]])).tolist() == [0.5]


def test_members_begin_apart(params):
    for leaf in jax.tree.leaves(params):
        assert leaf.ndim == 2 or (leaf[0] != leaf[1]).any()


def test_disagreement_falls_on_what_was_seen_on_noise_too_and_not_elsewhere(params):
    """Half of the target is noise: members agree about its mean, while they stay wrong about it."""
    intrinsic = make_disagreement(CONFIG, SIZES, "float32")
    opt = optax.adam(3e-3)
    seen = make_seen(batch=16)
    rng = np.random.default_rng(0)

    @jax.jit
    def step(params, state, noise):
        stoch = jnp.stack([seen.features[..., :3], noise], 2)
        states = SimpleNamespace(stoch=stoch, deter=seen.losses.observed.states.deter)
        losses = SimpleNamespace(observed=SimpleNamespace(states=states), embed=None)
        noisy = seen._replace(losses=losses)
        grads, metrics = jax.grad(intrinsic.loss, has_aux=True)(params, None, noisy)
        steps, state = opt.update(grads, state)
        return optax.apply_updates(params, steps), state, metrics

    state, history = opt.init(params), []
    for _ in range(600):
        noise = rng.normal(size=(16, TIME, 3)).astype(np.float32)
        params, state, metrics = step(params, state, noise)
        history.append((float(metrics["disagreement"]), float(metrics["loss"])))
    assert history[-1][0] < 0.5 * history[0][0]
    # Of noise, ½ of the variance of three entries stays, for each of three members.
    assert np.mean([loss for _, loss in history[-50:]]) > 3 * 1.5 * 0.9
    far = Trajectory(3 * jnp.asarray(rng.normal(size=(2, 50, 5))), jnp.zeros((2, 50, 2)), None)
    near = Trajectory(
        jnp.moveaxis(seen.features[:, :2], 0, 1), jnp.moveaxis(seen.batch["action"][:, :2], 0, 1),
        None,
    )  # fmt: skip
    assert intrinsic.reward(params, near)[1].mean() < 0.5 * intrinsic.reward(params, far)[1].mean()
