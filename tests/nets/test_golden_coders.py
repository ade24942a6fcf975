"""The encoder and the decoder against golden values and gradients."""

from __future__ import annotations

import haiku as hk
import jax
import numpy as np
import pytest

from common.nets import coders, conv, layers
from common.spaces import ObservationSpec
from tests import golden_data, golden_weights

CASES = [case for case in golden_data.first_parts("encoder_decoder") if case != "cfg"]
NOT_OBSERVED = ("in.cot_embed", "in.feat", "in.image_preprocessed")


class Nets:
    """Encoder and decoder of one case, with the golden weights."""

    def __init__(self, config: golden_data.Arrays, arrays: golden_data.Arrays):
        names = [name for name in arrays if name.startswith("in.") and name not in NOT_OBSERVED]
        self.observation = {name[len("in.") :]: arrays[name] for name in names}
        self.targets = {
            key: coders.normalize_image(x) if x.dtype == np.uint8 else x
            for key, x in self.observation.items()
        }
        specs = {
            key: ObservationSpec(x.shape[2:], "image" if x.dtype == np.uint8 else "vector")
            for key, x in self.observation.items()
        }
        units = [int(size) for size in config["cfg.mlp_layers"]]
        assert len(set(units)) == 1
        norm = "layer" if any("norm0" in name for name in arrays) else "none"
        options = {"layers": len(units), "units": units[0], "norm": norm}
        encoder = coders.EncoderConfig(depth=int(config["cfg.encoder_depth"]), **options)
        decoder = coders.DecoderConfig(depth=int(config["cfg.decoder_depth"]), **options)
        self.encode = hk.without_apply_rng(
            hk.transform(lambda x: coders.Encoder(specs, encoder)(x))
        )
        self.decode = hk.without_apply_rng(
            hk.transform(lambda x: coders.Decoder(specs, decoder)(x))
        )
        key = jax.eval_shape(lambda: jax.random.key(0))
        self.order = golden_weights.vector_order(arrays)
        like = {
            "encoder": jax.eval_shape(self.encode.init, key, self.observation),
            "decoder": jax.eval_shape(self.decode.init, key, arrays["in.feat"]),
        }
        self.params = golden_weights.load(golden_weights.weights(arrays, "w"), like, self.order)

    def loss(self, params, feature, cotangent):
        """The README's ``grad_loss``: a linear function of the embedding, and the likelihood."""
        embed = self.encode.apply(params["encoder"], self.observation)
        means = self.decode.apply(params["decoder"], feature)
        log_probs = {}
        for key, mean in means.items():
            terms = -0.5 * (self.targets[key] - mean) ** 2 - 0.5 * np.log(2 * np.pi)
            log_probs[key] = terms.reshape(*mean.shape[:2], -1).sum(-1)
        likelihood = sum(x.mean() for x in log_probs.values())
        return (cotangent * embed).sum() - likelihood, (embed, means, log_probs)


@pytest.mark.parametrize("implementation", ["library", "matmul"])
@pytest.mark.parametrize("case", CASES)
def test_coders_match(case: str, implementation: str):
    config = golden_data.load("encoder_decoder")
    with (
        conv.use_implementation(implementation),
        golden_data.every_array(config.case(case)) as arrays,
    ):
        nets = Nets(config, arrays)
        gradient = jax.jit(jax.value_and_grad(nets.loss, (0, 1), has_aux=True))
        (value, (embed, means, log_probs)), (d_params, d_feature) = gradient(
            nets.params, arrays["in.feat"], arrays["in.cot_embed"]
        )
        golden_data.assert_values(value, arrays["grad_loss"], "grad_loss")
        golden_data.assert_values(embed, arrays["out.embed"], "embed")
        for key, mean in means.items():
            golden_data.assert_values(mean, arrays[f"out.decoder_mean_{key}"], key)
            golden_data.assert_values(log_probs[key], arrays[f"out.log_prob_{key}"], key)
        golden_data.assert_gradients(d_feature, arrays["grad.feat"], "feat")
        got = golden_weights.dump(d_params, nets.order)
        want = golden_weights.weights(arrays, "grad.w")
        assert got.keys() == want.keys()
        for name in want:
            golden_data.assert_gradients(got[name], want[name], name)
        check_layers(nets, arrays)
        if "in.image_preprocessed" in arrays:
            some = arrays["in.image_preprocessed"]
            batch, time = some.shape[:2]  # A set may hold fewer than there are observations.
            golden_data.assert_values(nets.targets["image"][:batch, :time], some, "image")


def check_layers(nets: Nets, arrays: golden_data.Arrays):
    """Compares ``mid.*``, the outputs of single layers for the first image."""

    @jax.jit
    def layer_outputs(params, feature):
        outputs: dict[str, jax.Array] = {}

        def record(call, args, kwargs, context):
            out = call(*args, **kwargs)
            outputs[context.module.module_name.replace("/", "_")] = out
            return out

        with hk.intercept_methods(record):
            nets.encode.apply(params["encoder"], nets.observation)
            nets.decode.apply(params["decoder"], feature)
        del outputs["decoder"]
        return outputs

    wanted = golden_weights.weights(arrays, "mid")
    outputs = layer_outputs(nets.params, arrays["in.feat"]) if wanted else {}
    for name, want in wanted.items():
        got = outputs.get(name.replace("_conv", "_convnorm"), outputs[name])
        if name != "decoder_convin":
            got = layers.elu(got)
        got = got.reshape(-1, *want.shape)[0]
        golden_data.assert_values(got, want, name)
