"""Padded image coders: against slow sums, and with the sizes that they can and cannot take."""

from __future__ import annotations

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from common.errors import UserError
from common.nets import padded
from common.nets.coders import Decoder, DecoderConfig, Encoder, EncoderConfig
from common.spaces import ObservationSpec

STOCH, DETER = 6, 8


def _specs(**shapes):
    return {key: ObservationSpec(shape, "image") for key, shape in shapes.items()}


def _shapes(function, x):
    """Shapes of the outputs, without computing anything."""
    net = hk.without_apply_rng(hk.transform(function))
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(net.apply, jax.eval_shape(net.init, key, x), x)


@pytest.mark.parametrize(("kernel", "stride"), [(5, 1), (5, 2), (3, 1), (4, 2)])
def test_convolution(kernel, stride):
    """Against SciPy's correlation of the padded image, channel by channel."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 8, 6, 2)).astype(np.float32)
    weights = rng.normal(size=(kernel, kernel, 2, 3)).astype(np.float32)
    conv = hk.transform(lambda x: padded.PaddedConv(3, kernel, "glorot", "conv", stride)(x))
    params = {"conv": {"kernel": weights, "bias": np.arange(3.0, dtype=np.float32)}}
    got = hk.without_apply_rng(conv).apply(params, x)[0]
    before = (kernel - stride) // 2
    edge = before, kernel - stride - before
    wide = np.pad(x[0], (edge, edge, (0, 0)))
    for out in range(3):
        sums = sum(
            scipy.signal.correlate2d(wide[..., c], weights[:, :, c, out], "valid") for c in range(2)
        )
        np.testing.assert_allclose(got[..., out], sums[::stride, ::stride] + out, atol=1e-4)


def test_largest_of_four_and_its_first_gradient():
    x = np.random.default_rng(1).integers(0, 2, (2, 4, 6, 3)).astype(np.float32)  # Many ties.
    got, gradient = jax.value_and_grad(lambda x: padded.largest_of_four(x).sum())(x)
    want = np.zeros_like(x)
    for n, i, j, c in np.ndindex(2, 2, 3, 3):
        block = x[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c]
        first = np.unravel_index(block.argmax(), (2, 2))
        want[n, 2 * i + first[0], 2 * j + first[1], c] = 1
    assert got == (x * want).sum()
    np.testing.assert_array_equal(gradient, want)


@pytest.mark.parametrize("outer", [False, True])
@pytest.mark.parametrize(("down", "up"), [("pool", "nearest"), ("stride", "stride")])
def test_images_of_several_sizes(down, up, outer):
    specs = _specs(front=(32, 48, 3), back=(32, 48, 1), top=(16, 16, 3))
    sizes = {"depth": 2, "multipliers": (1, 2, 4), "units": 4, "outer": outer}
    images = {key: jnp.zeros((5, *spec.shape), jnp.uint8) for key, spec in specs.items()}
    encoder = EncoderConfig(convolutions=down, **sizes)
    embed = _shapes(lambda x: Encoder(specs, encoder)(x), images)
    times = 2 if outer else 3
    assert embed.shape == (5, 8 * ((32 >> times) * (48 >> times) + (16 >> times) ** 2))
    decoder = DecoderConfig(convolutions=up, blocks=4, **sizes)
    feature = jnp.zeros((5, 2, STOCH + DETER))
    means = _shapes(lambda x: Decoder(specs, decoder, DETER)(x), feature)
    assert {key: x.shape for key, x in means.items()} == {
        key: (5, 2, *spec.shape) for key, spec in specs.items()
    }


def test_a_block_fills_its_own_channels():
    """Of a map of 4 channels and 2 blocks, the second half of the state fills the last two."""
    config = DecoderConfig(
        convolutions="nearest", depth=4, multipliers=(1,), blocks=2, units=1, activation="relu"
    )
    net = hk.without_apply_rng(
        hk.transform(lambda z, h: padded._latent_map(z, h, (3, 2, 4), config, ""))
    )
    stoch, deter = jnp.zeros((1, STOCH)), jnp.ones((1, DETER))
    params = net.init(jax.random.key(0), stoch, deter)
    first = deter.at[:, : DETER // 2].set(-3.0)
    change = np.abs(net.apply(params, stoch, first) - net.apply(params, stoch, deter))
    assert change[..., :2].max() > 0.1 and change[..., 2:].max() == 0


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((84, 84, 3), {}, r"an image is 84x84, which encoder.convolutions=pool halves 4 times; "
         "expected multiples of 16, by env.image_size, or encoder"),
        ((48, 40, 3), {}, "an image is 48x40"),
    ],
)  # fmt: skip
def test_sizes_that_cannot_be_halved(shape, options, message):
    config = EncoderConfig(convolutions="pool", **options)
    with pytest.raises(UserError, match=message):
        _shapes(lambda x: Encoder(_specs(eye=shape), config)(x), {"eye": jnp.zeros((1, *shape))})


@pytest.mark.parametrize(
    ("options", "deter", "message"),
    [
        ({"blocks": 3}, 8, "decoder.blocks=3 does not divide the deterministic state, 8"),
        ({"blocks": 8, "depth": 3}, 8, "does not divide the last map's channels, 12"),
        ({"blocks": 4, "multipliers": (1,) * 7}, 8, "expected multiples of 128"),
    ],
)
def test_blocks_that_do_not_divide(options, deter, message):
    config = DecoderConfig(convolutions="nearest", **options)
    with pytest.raises(UserError, match=message):
        _shapes(lambda x: Decoder(_specs(eye=(64, 64, 3)), config, deter)(x), jnp.zeros((1, 9)))
