"""Shapes, sizes, selection of keys and errors of the encoder and the decoder."""

from __future__ import annotations

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.errors import UserError
from common.nets import coders
from common.spaces import ObservationSpec

IMAGE = ObservationSpec((64, 64, 3), "image")
SMALL = {"depth": 2, "layers": 1, "units": 6}


def image(*shape: int) -> ObservationSpec:
    return ObservationSpec(shape, "image")


def vector(size: int) -> ObservationSpec:
    return ObservationSpec((size,), "vector")


def transform(function) -> hk.Transformed:
    net = hk.without_apply_rng(hk.transform(function))
    return hk.Transformed(jax.jit(net.init), jax.jit(net.apply))


def encoder(specs, **options):
    config = coders.EncoderConfig(**options)
    return transform(lambda x: coders.Encoder(specs, config)(x))


def decoder(specs, **options):
    config = coders.DecoderConfig(**options)
    return transform(lambda x: coders.Decoder(specs, config)(x))


def observe(specs, *leading: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        key: rng.integers(0, 256, (*leading, *spec.shape)).astype(spec.dtype)
        for key, spec in specs.items()
    }


def output_shape(net, inputs):
    """Shapes of the outputs, without computing anything."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(net.apply, jax.eval_shape(net.init, key, inputs), inputs)


def count(params) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("depth", "feature", "encoder_count", "decoder_count"),
    [(32, 230, 690_144, 3_795_555), (48, 1224, 1_551_312, 9_886_611)],
    ids=["dreamer_v1", "dreamer_v2"],
)
def test_parameter_counts(depth, feature, encoder_count, decoder_count):
    specs = {"image": IMAGE}
    observation = jax.eval_shape(lambda: {"image": jnp.zeros((1, 64, 64, 3), jnp.uint8)})
    key = jax.eval_shape(lambda: jax.random.key(0))
    shapes = jax.eval_shape(encoder(specs, depth=depth).init, key, observation)
    assert count(shapes) == encoder_count
    feature = jax.ShapeDtypeStruct((1, feature), jnp.float32)
    assert count(jax.eval_shape(decoder(specs, depth=depth).init, key, feature)) == decoder_count


def test_published_shapes_for_64_pixels():
    assert coders.encoder_channels(64, 64, 48) == [48, 96, 192, 384]
    assert coders.decoder_shape(64, 64, 48) == coders.DecoderShape(
        (1, 1, 1536), ((5, 5), (5, 5), (6, 6), (6, 6)), (192, 96, 48)
    )


@pytest.mark.parametrize(
    "size", [(32, 32), (33, 47), (37, 32), (64, 96), (84, 84), (96, 96), (210, 160), (32, 150)]
)
def test_images_of_any_size(size: tuple[int, int]):
    specs = {"camera": image(*size, 2)}
    observation = observe(specs, 1, 2)
    embed = output_shape(encoder(specs, **SMALL), observation)
    assert embed.shape[:2] == (1, 2) and embed.shape[2] > 0
    assert output_shape(decoder(specs, **SMALL), embed)["camera"].shape == (1, 2, *size, 2)
    shape = coders.decoder_shape(*size, 48)
    assert max(shape.start[:2]) * 2 ** (len(shape.kernels) + 1) >= max(size) // 2
    assert np.prod(shape.start) >= 32 * 48 / 2


def test_leading_axes_are_kept_and_agree():
    specs = {"image": image(32, 32, 3), "position": vector(4)}
    observation = observe(specs, 2, 3)
    net = encoder(specs, **SMALL)
    params = net.init(jax.random.key(0), observation)
    embed = net.apply(params, observation)
    single = net.apply(params, {key: x[1, 2] for key, x in observation.items()})
    assert single.shape == embed.shape[2:]
    np.testing.assert_allclose(embed[1, 2], single, rtol=1e-4, atol=1e-5)
    net = decoder(specs, **SMALL)
    params = net.init(jax.random.key(0), embed)
    means, single = net.apply(params, embed), net.apply(params, embed[1, 2])
    for key, spec in specs.items():
        assert means[key].shape == (2, 3, *spec.shape)
        np.testing.assert_allclose(means[key][1, 2], single[key], rtol=1e-4, atol=1e-5)


def test_images_of_one_size_share_a_stack_and_others_have_their_own():
    specs = {"b": image(32, 32, 1), "a": image(32, 32, 3), "wide": image(32, 40, 2)}
    observation = observe(specs, 1)
    net = encoder(specs, **SMALL)
    params = jax.eval_shape(net.init, jax.random.key(0), observation)
    assert params["encoder/conv0_32x32"]["kernel"].shape == (4, 4, 4, 2)
    assert params["encoder/conv0_32x40"]["kernel"].shape == (4, 4, 2, 2)
    means = output_shape(decoder(specs, **SMALL), jnp.ones((1, 5)))
    assert {key: mean.shape[1:] for key, mean in means.items()} == {
        key: spec.shape for key, spec in specs.items()
    }


def test_channels_follow_the_sorted_keys():
    specs = {"b": image(32, 32, 1), "a": image(32, 32, 3)}
    observation = observe(specs, 1)
    net = encoder(specs, **SMALL)
    params = net.init(jax.random.key(0), observation)
    both = np.concatenate([observation["a"], observation["b"]], -1)
    whole = encoder({"image": image(32, 32, 4)}, **SMALL)
    np.testing.assert_array_equal(
        net.apply(params, observation), whole.apply(params, {"image": both})
    )
    net, whole = decoder(specs, **SMALL), decoder({"image": image(32, 32, 4)}, **SMALL)
    feature = jnp.ones((1, 5))
    params = net.init(jax.random.key(0), feature)
    means, both = net.apply(params, feature), whole.apply(params, feature)["image"]
    np.testing.assert_array_equal(means["a"], both[..., :3])
    np.testing.assert_array_equal(means["b"], both[..., 3:])


def test_uint8_equals_normalized_float():
    specs = {"image": image(32, 32, 1)}
    observation = observe(specs, 2)
    net = encoder(specs, **SMALL)
    params = net.init(jax.random.key(0), observation)
    scaled = {"image": observation["image"].astype(np.float32) / 255 - 0.5}
    np.testing.assert_allclose(net.apply(params, observation), net.apply(params, scaled), atol=1e-5)


def test_expressions_select_keys():
    specs = {
        "front": image(32, 32, 3),
        "back": image(32, 32, 3),
        "arm": vector(3),
        "leg": vector(2),
    }
    config = coders.EncoderConfig(images="front", vectors="arm|leg")
    assert coders.selected_keys(specs, config) == (["front"], ["arm", "leg"])
    config = coders.DecoderConfig(images="", vectors="l.*")
    assert coders.selected_keys(specs, config) == ([], ["leg"])
    feature = jnp.ones((2, 3))
    net = decoder(specs, images="", vectors="l.*", **SMALL)
    assert list(net.apply(net.init(jax.random.key(0), feature), feature)) == ["leg"]
    net = encoder(specs, images="", **SMALL)
    observation = observe(specs, 2)
    assert net.apply(net.init(jax.random.key(0), observation), observation).shape == (2, 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"images": "", "vectors": ""},
            "select no observation; the keys are arm .vector., cam .im",
        ),
        ({"images": "front"}, "encoder.images='front' matches no image; the keys are arm"),
        ({"vectors": "("}, "encoder.vectors='.' is no regular expression"),
    ],
)
def test_mistakes_are_named(options: dict, message: str):
    specs = {"cam": image(32, 32, 3), "arm": vector(3)}
    net = encoder(specs, **options)
    with pytest.raises(UserError, match=message):
        net.init(jax.random.key(0), observe(specs, 1))


def test_bfloat16_parameters_give_bfloat16_outputs():
    specs = {"image": image(32, 32, 3), "arm": vector(3)}
    observation = observe(specs, 2)
    net = encoder(specs, norm="layer", **SMALL)
    params = net.init(jax.random.key(0), observation)
    want = net.apply(params, observation)
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    got = net.apply(half, observation)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(got.astype(jnp.float32), want, atol=0.15)
