"""Encoders and decoders against DreamerV3's numbers: vectors, choices and images of all kinds."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.dynamics.rssm import RSSMConfig
from common.model.components import make_components
from common.model.config import WorldModelConfig
from common.model.losses import targets
from common.spaces import ActionPart, ActionSpec
from tests import golden_weights
from tests.golden_data import (
    FOLDER_V3,
    assert_exact,
    assert_gradients,
    assert_values,
    every_array,
    load,
)
from tests.golden_v3_weights import (
    coder_configs,
    flat_rows,
    images_first,
    observation_specs,
    renamed,
)

ARRAYS = load("encoder_decoder", FOLDER_V3)
CASES = sorted({name.split(".")[0] for name in ARRAYS})
ACTIONS = ActionSpec((ActionPart((), "categorical", 2),))


class Model:
    """Encoder and decoder of one case; both have the weights of the reference."""

    def __init__(self, g):
        self.g, self.rows = g, golden_weights.weights(g, "in.obs")
        self.specs = observation_specs(g["cfg.keys"], g["cfg.classes"], self.rows)
        encoder, decoder = coder_configs(g, "cfg.", "cfg.")
        stoch, deter = g["in.stoch"].shape[2:], g["in.deter"].shape[-1]
        self.deter, self.units = deter, encoder.units
        rssm = RSSMConfig(stoch=stoch[0], classes=stoch[1], deter=deter, hidden=1)
        self.config = WorldModelConfig(
            rssm=rssm, encoder=encoder, decoder=decoder, vector_transform="symlog"
        )
        self.parts = make_components(self.config, self.specs, ACTIONS)
        every = jax.eval_shape(self.parts.init, jax.random.key(0))
        like = {name: every[name] for name in ("encoder", "decoder")}
        golden = self.ours(golden_weights.weights(g, "w"))
        assert golden_weights.flatten(like).keys() == golden.keys()
        self.params = golden_weights.load(golden, like)
        self.batch = flat_rows(self.specs, self.rows)

    def ours(self, golden):
        """Weights or gradients under our names; images leave the decoder in sorted order."""
        ours = renamed(golden, self.deter)
        columns, offset = {}, 0
        for key in map(str, self.g["cfg.keys"]):
            if self.specs[key].kind == "image":
                channels = self.specs[key].shape[-1]
                columns[key] = list(range(offset, offset + channels))
                offset += channels
        order = sum((columns[key] for key in sorted(columns)), [])
        return {
            name: x[..., order] if name.startswith("decoder.image.") else x
            for name, x in ours.items()
        }

    def check_gradients(self, gradients, prefix):
        """Compares the gradients of the weights of one coder."""
        got = golden_weights.flatten(gradients)
        want = self.ours(golden_weights.weights(self.g, "grad"))
        names = [name for name in got if name.startswith(prefix)]
        assert {name for name in want if name.startswith(prefix)} == set(names)
        for name in names:
            assert_gradients(got[name], want[name], name)


@pytest.mark.parametrize("case", CASES)
def test_case(case):
    with every_array(ARRAYS.case(case)) as g:
        model = Model(g)
        _check_encoder(model)
        _check_decoder(model)


def _check_encoder(model):
    g, parts = model.g, model.parts

    def loss(params, cotangent):
        tokens = parts.encode(params, parts.vectors.forward({}, model.batch))
        return (tokens * cotangent).sum(), tokens

    vectors = any(spec.kind == "vector" for spec in model.specs.values())
    units = model.units if vectors else 0
    cotangent = images_first(g["in.cot.tokens"], units)
    gradients, tokens = jax.jit(jax.grad(loss, has_aux=True))(model.params, cotangent)
    assert_values(tokens, images_first(g["tokens"], units), "tokens")
    model.check_gradients(gradients, "encoder.")


def _check_decoder(model):
    g, parts = model.g, model.parts
    flags = np.zeros(g["in.deter"].shape[:2], np.float32)
    batch = parts.vectors.forward({}, model.batch) | {"reward": flags, "is_terminal": flags}
    wanted = targets(model.config, batch)

    def loss(params, deter, stoch):
        feature = jnp.concatenate([stoch.reshape(*stoch.shape[:2], -1), deter], -1)
        heads = parts.decode(params, feature)
        losses = {key: -head.log_prob(wanted[key]) for key, head in heads.items()}
        return sum(x.mean() for x in losses.values()), (losses, heads)

    inputs = model.params, g["in.deter"], g["in.stoch"]
    gradients, (losses, heads) = jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))(*inputs)
    for key, spec in model.specs.items():
        assert_values(losses[key], g[f"loss.{key}"], f"loss.{key}")
        _check_prediction(g, key, spec, heads[key])
    model.check_gradients(gradients[0], "decoder.")
    assert_gradients(gradients[1], g["grad_deter"], "deter")
    assert_gradients(gradients[2], g["grad_stoch"], "stoch")


def _check_prediction(g, key, spec, head):
    want = g[f"pred.{key}"]
    if spec.choices:
        logits = np.stack([part.logits for part in head.parts], -2).reshape(*want.shape, -1)
        assert_values(logits, g[f"logits.{key}"], key)
        assert_exact(logits.argmax(-1), want, key)
    else:
        offset = 0.5 if spec.kind == "image" else 0.0
        assert_values(np.asarray(head.mean() + offset).reshape(want.shape), want, key)
