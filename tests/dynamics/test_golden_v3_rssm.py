"""The recurrent state-space model against DreamerV3's numbers: core, roll-outs, KL, gradients."""

from __future__ import annotations

import dataclasses
import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.distributions import mix_uniform
from common.dynamics import rssm
from common.dynamics.cores import make_core
from common.dynamics.kl import KLConfig, kl_terms
from common.dynamics.rssm import RSSM, RSSMState
from common.nets import layers
from tests import golden_weights
from tests.golden_data import (
    FOLDER_V3,
    assert_exact,
    assert_gradients,
    assert_values,
    every_array,
    load,
    uniforms_for,
)
from tests.golden_v3_weights import renamed, rssm_config

ARRAYS = load("rssm", FOLDER_V3)
CASES = sorted({name.split(".")[0] for name in ARRAYS})


class Model:
    """One case with its weights; raw logits, before the uniform share, come from ``raw``."""

    def __init__(self, g):
        self.g, self.config = g, rssm_config(g, "cfg.")
        self.action = self.actions("in.action")
        self.sizes = self.action.shape[-1], g["in.tokens"].shape[-1]
        self.functions = rssm.functions(self.config, *self.sizes)
        self.raw = rssm.functions(dataclasses.replace(self.config, unimix=0.0), *self.sizes)
        names = golden_weights.weights(g, "w")
        like = {"rssm": jax.eval_shape(self.functions.init, jax.random.key(0))}
        golden = renamed(names, self.config.deter)
        assert golden_weights.flatten(like).keys() == golden.keys()
        self.params = golden_weights.load(golden, like)["rssm"]

    def actions(self, prefix):
        """All actions side by side, in the order of their names, integers one-hot."""
        given = sorted(golden_weights.weights(self.g, prefix).items())
        one_hot = np.eye(self.choices(given), dtype=np.float32)
        return np.concatenate([x if x.dtype.kind == "f" else one_hot[x] for _, x in given], -1)

    def choices(self, given):
        """Choices of the one action that is a number of a choice."""
        floats = sum(x.shape[-1] for _, x in given if x.dtype.kind == "f")
        return len(self.g["w.dyn.dynin2.kernel"]) - floats

    def noise(self, logits, gumbel, sample):
        """Uniforms that draw a recorded sample, of which the recorded noise is checked."""
        mixed = np.asarray(mix_uniform(logits, self.config.unimix))
        assert_exact((mixed + gumbel).argmax(-1), sample.argmax(-1))
        return uniforms_for(sample, mixed)

    def posterior_logits(self, params, deter, embed):
        """Raw logits of the posterior of some states."""

        def function(deter, embed):
            module = RSSM(dataclasses.replace(self.config, unimix=0.0), *self.sizes)
            return module._posterior(deter, module._from_embed(embed)).logits

        return hk.without_apply_rng(hk.transform(function)).apply(params, deter, embed)

    def check_gradients(self, by_weight, prefix):
        """Compares the gradients of all weights; those that are not recorded are zero."""
        got = golden_weights.flatten({"rssm": by_weight})
        want = renamed(golden_weights.weights(self.g, f"{prefix}.grad"), self.config.deter)
        assert want.keys() <= got.keys()
        for name, gradient in got.items():
            golden = want.get(name, np.zeros_like(gradient))
            assert_gradients(gradient, golden, f"{prefix}.{name}")

    def check_input_gradients(self, by_start, by_action, actions, prefix):
        """Compares the gradients of the first state, and of actions that are no choices."""
        for key, gradient in by_start._asdict().items():
            assert_gradients(gradient, self.g[f"{prefix}.grad_start.{key}"], f"{prefix}.{key}")
        offset = 0
        given = sorted(golden_weights.weights(self.g, actions).items())
        for key, x in given:
            size = x.shape[-1] if x.dtype.kind == "f" else self.choices(given)
            if f"{prefix}.grad_action.{key}" in self.g:
                gradient = by_action[..., offset : offset + size]
                assert_gradients(gradient, self.g[f"{prefix}.grad_action.{key}"], key)
            offset += size


@pytest.fixture(autouse=True)
def epsilon(monkeypatch):
    """The reference's layer norm has the epsilon of its root mean squares."""
    same = functools.partial(layers.layer_norm, epsilon=layers.RMS_NORM_EPSILON)
    monkeypatch.setitem(layers.NORMS, "layer", (layers.LayerNorm, same))


@pytest.mark.parametrize("case", CASES)
def test_case(case):
    with every_array(ARRAYS.case(case)) as g:
        model = Model(g)
        start = RSSMState(g["in.start.deter"], g["in.start.stoch"])
        _check_core(model, start)
        _check_observe(model, start)
        _check_imagine(model)


def differentiate(outputs):
    """Compiles ``(cotangents, *inputs) -> outputs, gradients`` of sums of outputs by name."""

    def loss(cotangents, *inputs):
        got = outputs(*inputs)
        return sum((got[key] * x).sum() for key, x in cotangents.items()), got

    def both(cotangents, *inputs):
        places = tuple(range(1, 1 + len(inputs)))
        gradients, got = jax.grad(loss, places, has_aux=True)(cotangents, *inputs)
        return got, gradients

    return jax.jit(both)


def _check_core(model, start):
    g, config = model.g, model.config

    def core(deter, stoch, action):
        both = make_core(config, config.stoch * config.classes, model.sizes[0])
        return {"out": both.step(stoch.reshape(len(stoch), -1), deter, both.prepare(action))}

    # Outside of the module the weights lack the path to it.
    params = {path.split("/")[-1]: leaves for path, leaves in model.params.items()}
    function = differentiate(hk.without_apply_rng(hk.transform(core)).apply)
    inputs = params, start.deter, start.stoch, g["core.in.action"]
    got, gradients = function({"out": g["core.in.cotangent"]}, *inputs)
    assert_values(got["out"], g["core.out"], "core.out")
    model.check_gradients(gradients[0], "core")
    for name, gradient in zip(("deter", "stoch", "action"), gradients[1:], strict=True):
        assert_gradients(gradient, g[f"core.grad_{name}"], f"core.grad_{name}")


def _outputs(model, params, start, tokens, action, noise):
    """States, raw logits of posterior and prior, and both KL terms."""
    g = model.g
    states, posterior, prior = model.functions.observe(
        params, start, tokens, action, g["in.reset"], noise
    )
    kl = KLConfig(dyn_scale=1.0, rep_scale=1.0, free=float(g["cfg.free_nats"]))
    terms, value = kl_terms(posterior, prior, kl)
    return {
        "deter": states.deter,
        "stoch": states.stoch,
        "logit": model.posterior_logits(params, states.deter, tokens),
        "prior_logit": model.raw.prior(params, states).logits,
        "post_probs": jax.nn.softmax(posterior.logits),
        "prior_probs": jax.nn.softmax(prior.logits),
        "metrics.dyn_ent": prior.entropy().mean(),
        "metrics.rep_ent": posterior.entropy().mean(),
        "loss.dyn": terms["dyn"],
        "loss.rep": terms["rep"],
        "kl": value,
    }


def _check_observe(model, start):
    g = model.g
    function = differentiate(functools.partial(_outputs, model))
    cotangents = {key: g[f"bptt.in.cot.{key}"] for key in ("deter", "stoch", "logit")}
    cotangents["prior_logit"] = g["bptt.in.cot.prior_logit"]
    shape = g["in.reset"].shape
    cotangents |= dict.fromkeys(("loss.dyn", "loss.rep"), np.full(shape, 1 / np.prod(shape)))
    zeros = {key: np.zeros_like(x) for key, x in cotangents.items()}
    names = {"grad_dyn": ["loss.dyn"], "grad_rep": ["loss.rep"]}
    names["bptt"] = [key for key in cotangents if not key.startswith("loss")]
    starts = {"observe": start, "noinit": rssm.initial(model.config, len(start.deter))}
    gumbels = {"observe": g["in.gumbel"], "noinit": g["noinit.in.gumbel"]}
    for name, first in starts.items():
        noise = model.noise(g[f"{name}.logit"], gumbels[name], g[f"{name}.stoch"])
        inputs = model.params, first, g["in.tokens"], model.action, noise
        got, _ = function(zeros, *inputs)
        for key, value in got.items():
            check = assert_exact if key == "stoch" else assert_values
            check(value, g[f"{name}.{key}"], f"{name}.{key}")
        for key in ("deter", "stoch"):
            assert_values(got[key][:, -1], g[f"{name}.carry.{key}"], f"{name}.carry.{key}")
        for loss, keys in names.items() if name == "observe" else ():
            _, gradients = function(zeros | {key: cotangents[key] for key in keys}, *inputs)
            model.check_gradients(gradients[0], loss)
            model.check_input_gradients(gradients[1], gradients[3], "in.action", loss)
            assert_gradients(gradients[2], g[f"{loss}.grad_tokens"], f"{loss}.grad_tokens")


def _check_imagine(model):
    g, action = model.g, model.actions("imagine.in.action")
    noise = model.noise(g["imagine.logit"], g["imagine.in.gumbel"], g["imagine.stoch"])
    start = RSSMState(g["observe.carry.deter"], g["observe.carry.stoch"])

    def rollout(params, state, action):
        states = []
        for t in range(action.shape[1]):
            state = model.functions.imagine_step(params, state, action[:, t], noise[:, t])
            states.append(state)
        states = jax.tree.map(lambda *x: jnp.stack(x, 1), *states)
        return {**states._asdict(), "logit": model.raw.prior(params, states).logits}

    cotangents = {key: g[f"imagine.in.cot.{key}"] for key in ("deter", "stoch", "logit")}
    got, gradients = differentiate(rollout)(cotangents, model.params, start, action)
    for key, value in got.items():
        check = assert_exact if key == "stoch" else assert_values
        check(value, g[f"imagine.{key}"], f"imagine.{key}")
    model.check_gradients(gradients[0], "imagine")
    model.check_input_gradients(*gradients[1:], "imagine.in.action", "imagine")
