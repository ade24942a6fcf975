"""TD-MPC2's networks: how they are drawn, what they read, shifts of images and members asked."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.errors import UserError
from common.spaces import ObservationSpec
from planet.tdmpc2.config import TDMPC2Config
from planet.tdmpc2.networks import draw_pair, make_networks, shift_images
from tests.tiny import box, random_params

CONFIG = TDMPC2Config(
    encoder_units=24, units=32, latent=16, simnorm=4, num_q=4, bins=7, terminations=True,
    dropout=0.25, channels=2,
)  # fmt: skip
VECTORS = {"b": ObservationSpec((2,), "vector"), "a": ObservationSpec((3,), "vector")}
IMAGE = {"image": ObservationSpec((64, 64, 3), "image")}
ACTIONS = 2
NETWORKS = make_networks(CONFIG, VECTORS, box(ACTIONS))
PARAMS = random_params(NETWORKS.init)


def rows(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return {key: rng.normal(size=(*shape, *spec.shape)) for key, spec in VECTORS.items()}


def inputs(*shape, seed=0):
    rng = np.random.default_rng(seed)
    normal = lambda size: jnp.asarray(rng.normal(size=(*shape, size)), jnp.float32)  # noqa: E731
    return normal(CONFIG.latent), normal(ACTIONS)


def test_weights_are_drawn_as_the_public_code_draws_them():
    params = jax.jit(NETWORKS.init)(jax.random.key(0))
    for component, modules in params.items():
        for path, layer in modules.items():
            if "norm" in path:
                assert (layer["scale"] == 1).all() and (layer["offset"] == 0).all()
                continue
            assert not layer["bias"].any()
            zero = component in ("reward", "q") and path.endswith("dense2")
            expected = 0 if zero else pytest.approx(0.02, rel=0.3)
            assert layer["kernel"].std() == expected, (component, path)
    z, action = inputs(5)
    assert np.abs(NETWORKS.reward(params, z, action).mean()).max() < 1e-6
    assert np.abs(NETWORKS.q(params, z, action).mean()).max() < 1e-6
    first = params["q"]["q/dense0"]["kernel"]
    assert len({float(x.sum()) for x in first}) == CONFIG.num_q


def test_convolutions_are_drawn_as_pytorch_draws_them():
    config = TDMPC2Config(latent=32 * 16, units=8, num_q=2)
    networks = make_networks(config, IMAGE, box(ACTIONS))
    params = jax.jit(networks.init)(jax.random.key(0))["encoder"]
    fans = {"conv0": 3 * 49, "conv1": 32 * 25, "conv2": 32 * 9, "conv3": 32 * 9}
    for name, fan in fans.items():
        for x in params[f"encoder/{name}"].values():
            assert np.abs(x).max() == pytest.approx(fan**-0.5, rel=0.15)
            assert np.abs(x).max() <= fan**-0.5


def test_vectors_are_read_in_the_order_of_their_names():
    given = rows(3)
    joined = {"x": np.concatenate([given["a"], given["b"]], -1)}
    alone = make_networks(CONFIG, {"x": ObservationSpec((5,), "vector")}, box(ACTIONS))
    other = given | {"c": np.ones((3, 1))}
    expected = alone.encode(PARAMS, joined)
    np.testing.assert_array_equal(NETWORKS.encode(PARAMS, other), expected)
    assert NETWORKS.draw_shift(jax.random.key(0), (3,)) is None


def test_leading_axes_are_free():
    z, action = inputs(2, 3)
    flat = [x.reshape(6, -1) for x in (z, action)]
    keep = np.random.default_rng(0).random((CONFIG.num_q, 2, 3, CONFIG.units)) < 0.5
    pairs = [
        (NETWORKS.dynamics(PARAMS, z, action), NETWORKS.dynamics(PARAMS, *flat)),
        (NETWORKS.reward(PARAMS, z, action).logits, NETWORKS.reward(PARAMS, *flat).logits),
        (NETWORKS.termination(PARAMS, z), NETWORKS.termination(PARAMS, flat[0])),
        (NETWORKS.policy(PARAMS, z, action).action, NETWORKS.policy(PARAMS, *flat).action),
        (
            NETWORKS.q(PARAMS, z, action, keep).logits.swapaxes(0, -1),
            NETWORKS.q(PARAMS, *flat, keep.reshape(4, 6, -1)).logits.swapaxes(0, -1),
        ),
    ]
    for got, expected in pairs:
        np.testing.assert_allclose(got.reshape(expected.shape), expected, atol=1e-5)


def test_latent_entries_are_probabilities_in_groups():
    z = NETWORKS.encode(PARAMS, rows(2, 3))
    for state in (z, NETWORKS.dynamics(PARAMS, z, inputs(2, 3)[1])):
        groups = state.reshape(2, 3, -1, CONFIG.simnorm)
        np.testing.assert_allclose(groups.sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize("dropped", [False, True])
def test_two_members_answer_as_among_all(dropped):
    z, action = inputs(5)
    keep = jax.random.bernoulli(jax.random.key(1), 0.5, (CONFIG.num_q, 5, CONFIG.units))
    every = NETWORKS.q(PARAMS, z, action, keep if dropped else None).mean()
    pair = jnp.array([3, 1])
    two = NETWORKS.q_two(PARAMS, z, action, pair, keep[pair] if dropped else None)
    np.testing.assert_allclose(two, every[pair], rtol=1e-5, atol=1e-5)
    other = NETWORKS.q(PARAMS, z, action, None if dropped else keep).mean()
    assert not np.allclose(two, other[pair], atol=1e-4)


def test_dropout_makes_up_for_the_units_that_it_takes():
    """Seen where a norm's epsilon counts: kernels are small."""
    tiny = jax.tree.map(lambda x: x, PARAMS)
    tiny["q"]["q/dense0"] = jax.tree.map(lambda x: 1e-3 * x, tiny["q"]["q/dense0"])
    z, action = inputs(5)
    all_kept = jnp.ones((CONFIG.num_q, 5, CONFIG.units), bool)
    dropped = NETWORKS.q(tiny, z, action, all_kept).logits
    larger = jax.tree.map(lambda x: x / (1 - CONFIG.dropout), tiny["q"]["q/dense0"])
    tiny["q"]["q/dense0"] = larger
    np.testing.assert_allclose(dropped, NETWORKS.q(tiny, z, action).logits, rtol=1e-4)


def test_pairs_are_two_different_members_each_as_often():
    draw = jax.vmap(lambda key: draw_pair(key, 5))
    pairs = np.asarray(draw(jax.random.split(jax.random.key(0), 2000)))
    assert (pairs[:, 0] != pairs[:, 1]).all()
    np.testing.assert_allclose(np.bincount(pairs.ravel()) / 4000, 0.2, atol=0.03)


def test_a_shift_crops_the_padded_image():
    images = np.random.default_rng(0).integers(0, 256, (3, 9, 8, 2), np.uint8)
    shift = np.array([[2, 2], [0, 4], [3, 1]])
    got = shift_images(jnp.asarray(images), jnp.asarray(shift), 2)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), "edge")
    for place, (column, row) in enumerate(shift):
        expected = padded[place, row : row + 9, column : column + 8]
        np.testing.assert_array_equal(got[place], expected)
    np.testing.assert_array_equal(got[0], images[0])


def test_images_are_shifted_one_by_one_or_stay_in_place():
    specs = {"z": IMAGE["image"], "a": ObservationSpec((64, 64, 1), "image")}
    config = TDMPC2Config(latent=32, channels=2, units=8, num_q=2)
    networks = make_networks(config, specs, box(ACTIONS))
    params = random_params(networks.init)
    rng = np.random.default_rng(0)
    images = {key: rng.integers(0, 256, (2, 3, *x.shape), np.uint8) for key, x in specs.items()}
    shift = networks.draw_shift(jax.random.key(0), (2, 3))
    assert shift.shape == (2, 3, 2) and shift.min() >= 0 and shift.max() <= 6
    many = networks.draw_shift(jax.random.key(1), (500,))
    assert set(np.unique(many)) == set(range(7))
    encode = jax.jit(networks.encode)
    still = encode(params, images, jnp.full((2, 3, 2), config.shift))
    np.testing.assert_array_equal(encode(params, images), still)
    moved = encode(params, images, shift)
    assert moved.shape == (2, 3, 32) and not np.allclose(moved, still, atol=1e-3)


@pytest.mark.parametrize(
    ("specs", "actions", "options", "words"),
    [
        (VECTORS | IMAGE, box(1), {}, "images or vectors, not both; this task has image and a, b"),
        (IMAGE, box(1), {"latent": 64}, "latent is 64; images of 64x64 give 512, 16 times chann"),
        (
            {"image": ObservationSpec((32, 64, 3), "image")}, box(1), {},
            "images of 32x64 are too small",
        ),
        (
            IMAGE | {"wide": ObservationSpec((64, 96, 3), "image")}, box(1), {},
            "images of one size, not of",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_from_is_named(specs, actions, options, words):
    with pytest.raises(UserError, match=words):
        make_networks(TDMPC2Config(**options), specs, actions)
