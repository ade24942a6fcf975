"""The recurrent state-space model against DreamerV2's numbers."""

from __future__ import annotations

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import pytest

from common.dynamics import rssm
from common.dynamics.rssm import RSSMState
from common.nets.cells import make_cell
from tests import golden_data, golden_weights
from tests.golden_data import assert_exact, assert_gradients, assert_values

FILES = ("rssm_discrete", "rssm_gaussian")
CASES = [
    (file, case)
    for file in FILES
    for case in golden_data.first_parts(file)
    if case not in ("in", "cfg")
]
ROLLOUTS = [(file, case) for file, case in CASES if f"{case}.bptt.loss" in golden_data.load(file)]
CELLS = [(file, case) for file, case in CASES if f"{case}.gru_out" in golden_data.load(file)]


def _arrays(file, case, cell):
    """The arrays of one case with the inputs that it takes: of the cell or of roll-outs."""
    every = golden_data.load(file)
    prefixes = ("cfg.", "in.gru_") if cell else ("cfg.", "in.")
    names = [name for name in every if name.startswith(prefixes)]
    names = [name for name in names if cell or not name.startswith("in.gru_")]
    own = every.case(case)
    own = {name: x for name, x in own.items() if cell == (name == "gru_out") or name[:2] == "w."}
    if f"{case}.w.gru.kernel" not in every:
        shared = every.case("ln" if case.startswith("ln") else "plain")
        own |= {name: x for name, x in shared.items() if name.startswith("w.")}
    return golden_data.Arrays({name: every[name] for name in names} | own)


class Model:
    """The functions of one case, compiled, with their weights."""

    def __init__(self, g, case):
        given = {"norm": "layer" if "w.img_in_norm.scale" in g else "none"}
        if not g["cfg.discrete"]:
            given["std"] = case.split("_")[-1]
        self.config = golden_weights.rssm_config(g, **given)
        sizes = g["in.action"].shape[-1], g["in.embed"].shape[-1]
        self.categorical = self.config.latent == "categorical"
        self.functions = rssm.functions(self.config, *sizes)
        like = {"rssm": jax.eval_shape(self.functions.init, jax.random.key(0))}
        golden = {f"rssm.{name}": x for name, x in golden_weights.weights(g, "w").items()}
        assert golden_weights.flatten(like).keys() == golden.keys()
        self.params = golden_weights.load(golden, like)["rssm"]

    def statistics(self, distribution, prefix):
        """Statistics of a latent by their golden names."""
        if self.categorical:
            return {f"{prefix}logit": distribution.logits}
        return {f"{prefix}mean": distribution.loc, f"{prefix}std": distribution.std}

    def outputs(self, params, states):
        """What can be computed from states alone."""
        return {"deter": states.deter, "feat": self.functions.feature(params, states)}

    def noise(self, g, prefix, sample):
        """Noise that reproduces a recorded sample."""
        if self.categorical:
            return golden_data.uniforms_for(sample, g[f"{prefix}logit"])
        return g[f"{prefix}eps"]


def _check(model, g, got):
    """Compares values by name, and samples of categorical latents exactly."""
    for name, value in got.items():
        exact = model.categorical and name.endswith("stoch")
        (assert_exact if exact else assert_values)(value, g[name], name)


def _check_gumbel(model, g, prefix):
    """Checks that the recorded noise gave the recorded sample."""
    if model.categorical:
        winner = (g[f"{prefix}logit"] + g[f"{prefix}gumbel"]).argmax(-1)
        assert_exact(winner, g[f"{prefix}stoch"].argmax(-1), prefix)


@pytest.mark.parametrize(("file", "case"), ROLLOUTS)
def test_rollouts(file, case):
    with golden_data.every_array(_arrays(file, case, cell=False)) as g:
        model = Model(g, case)
        start = RSSMState(g["in.init_deter"], g["in.init_stoch"])
        zeros = rssm.initial(model.config, len(g["in.embed"]))
        rows = g["in.embed"], g["in.action"], g["in.is_first"]
        observe = jax.jit(functools.partial(_observe, model))
        for name, first in (("sampled", start), ("noinit", zeros), ("mode", start)):
            noise = (None, None)
            if name != "mode":
                noise = [
                    model.noise(g, f"{name}.{part}_", g[f"{name}.{part}_stoch"])
                    for part in ("post", "prior")
                ]
            got = observe(model.params, first, *rows, *noise)
            _check(model, g, {f"{name}.{key}": value for key, value in got.items()})
        for prefix in ("sampled.prior_", "sampled.post_", "noinit.prior_", "noinit.post_"):
            _check_gumbel(model, g, prefix)
        _check(model, g, jax.jit(functools.partial(_imagine, model, g))(model.params))
        _check_gumbel(model, g, "imagine.")
        _check_bptt(model, g, start)


def _observe(model, params, start, embed, action, is_first, noise, prior_noise):
    rows = embed, action, is_first
    states, posterior, prior = model.functions.observe(params, start, *rows, noise)
    got = model.outputs(params, states) | {"post_stoch": states.stoch}
    got |= {"post_ent": posterior.entropy(), "prior_ent": prior.entropy()}
    got |= model.statistics(posterior, "post_") | model.statistics(prior, "prior_")
    prior_sample = prior.mode() if prior_noise is None else prior.sample(prior_noise)
    return got | {"prior_stoch": prior_sample}


def _imagine(model, g, params):
    state = RSSMState(g["sampled.deter"][:, -1], g["sampled.post_stoch"][:, -1])
    noise = model.noise(g, "imagine.", g["imagine.stoch"])
    rollout = []
    for t in range(g["in.img_action"].shape[1]):
        action = g["in.img_action"][:, t]
        state = model.functions.imagine_step(params, state, action, noise[:, t])
        rollout.append(state)
    states = jax.tree.map(lambda *x: jnp.stack(x, 1), *rollout)
    prior = model.functions.prior(params, states)
    got = model.outputs(params, states) | model.statistics(prior, "")
    got = {f"imagine.{key}": value for key, value in got.items()}
    return got | {"imagine.stoch": states.stoch}


def _check_bptt(model, g, start):
    noise = model.noise(g, "sampled.post_", g["sampled.post_stoch"])

    def loss(params, inputs):
        first = RSSMState(inputs["init_deter"], inputs["init_stoch"])
        states, _, prior = model.functions.observe(
            params, first, inputs["embed"], inputs["action"], g["in.is_first"], noise
        )
        outputs = model.outputs(params, states) | model.statistics(prior, "prior_")
        del outputs["deter"]
        return sum((g[f"in.cot_{name}"] * x).sum() for name, x in outputs.items())

    inputs = {"embed": g["in.embed"], "action": g["in.action"]}
    inputs |= {f"init_{name}": x for name, x in start._asdict().items()}
    value, (by_weight, by_input) = jax.jit(jax.value_and_grad(loss, (0, 1)))(model.params, inputs)
    assert_values(value, g["bptt.loss"], "bptt.loss")
    gradients = golden_weights.dump({"w": by_weight}) | by_input
    for name, gradient in gradients.items():
        assert_gradients(gradient, g[f"bptt.grad.{name}"], f"bptt.grad.{name}")


@pytest.mark.parametrize(("file", "case"), CELLS)
def test_layer_norm_gru(file, case):
    with golden_data.every_array(_arrays(file, case, cell=True)) as g:
        x, h = g["in.gru_x"], g["in.gru_state"]
        params = {}
        for name, value in golden_weights.weights(g, "w").items():
            layer, leaf = name.split(".")
            params.setdefault(layer, {})[leaf] = value
        sizes = x.shape[-1], h.shape[-1]
        cell = hk.transform(lambda x, h: make_cell("layer_norm_gru", *sizes)(x, h))
        got = jax.jit(hk.without_apply_rng(cell).apply)(params, x, h)
        assert_values(got, g["gru_out"], "gru_out")


def test_every_array_belongs_to_a_case():
    assert set(CASES) == set(ROLLOUTS + CELLS)
