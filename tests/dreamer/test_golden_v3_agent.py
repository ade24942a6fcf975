"""Whole updates of DreamerV3 against the numbers of the public code, three one after the other.

Each begins with the recorded weights, moments and statistics, as the golden vectors' README says,
and an optimizer's step is compared from the recorded gradient.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from common.dynamics.rssm import RSSMState
from common.learning.normalize import Spread
from common.learning.optimizers import gradient_transformation
from dreamer import behavior as imagination
from dreamer.learn import slow_copy
from dreamer.losses import replay_returns
from tests import golden_weights
from tests.golden_data import (
    FOLDER_V3,
    assert_elementwise,
    assert_exact,
    assert_gradients,
    assert_values,
    every_array,
    load,
)
from tests.golden_v3_agent import Agent, flat_actions, play_back
from tests.golden_v3_weights import flat_rows, images_first

FILES = ("train_continuous", "train_discrete", "train_variant")
NORMS = {"return": "retnorm", "value": "valnorm", "advantage": "advnorm"}
TERMS = {
    "rew": "reward", "con": "discount", "policy": "actor", "value": "critic",
    "repval": "replay_value",
}  # fmt: skip

REPORTED = (
    "adv", "con", "ent.", "rand.", "ret", "slowval", "tar", "val", "weight",
    "opt.grad_rms", "opt.param_", "opt.update_rms", "opt.updates",
)  # fmt: skip
"""Means of what is compared here entry by entry, or in tests of the losses and the optimizer."""


class Update:
    """One recorded update: its inputs as the agent takes them."""

    def __init__(self, agent, g, before, context):
        self.agent, self.g = agent, g
        given = "in.carry" if before is None else "carry_after"
        self.carry = golden_weights.weights(g if before is None else before, given)
        data = golden_weights.weights(self.g, "in.data")
        actions = agent.actions
        self.keys = [part.path[0] for part in actions.parts]
        rows = flat_rows(agent.specs, data)
        rows |= {key: data[key] for key in ("reward", "is_first", "is_last", "is_terminal")}
        self.batch = {key: x[:, context:] for key, x in rows.items()}
        previous = golden_weights.weights(self.g, "prevact")
        self.batch["action"] = flat_actions(actions, previous)
        self.start = RSSMState(self.g["start.deter"], self.g["start.stoch"])
        self._check_start(data, context)
        amount = len(self.g["in.gumbel_img"])
        gumbel = self.g["in.gumbel_img"]
        noise = {key: self.g[f"in.act_noise.{key}"] for key in self.keys}
        normal = np.concatenate([noise[key] for key in self.keys], -1)
        assert gumbel.shape[:2] == (amount, normal.shape[1] - 1)
        self.imagination = imagination.Noise(
            np.swapaxes(gumbel, 0, 1), np.swapaxes(normal[:, :-1], 0, 1)
        )
        self.last_noise = normal[:, -1]

    def _check_start(self, data, context):
        """Windows that go on from another one begin with its state, others with the stored one."""
        g, carry = self.g, self.carry
        goes_on = data["consec"][:, 0] > 0
        for name in ("deter", "stoch"):
            want = carry[name]
            if context:
                stored = data[f"dyn.{name}"][:, context - 1]
                want = np.where(goes_on.reshape(-1, *[1] * (want.ndim - 1)), want, stored)
            assert_exact(want, g[f"start.{name}"], f"start.{name}")
        for key in self.keys:
            before = data[key][:, context - 1] if context else carry[f"prevact.{key}"]
            shifted = np.concatenate([before[:, None], data[key][:, context:-1]], 1)
            assert_exact(shifted, g[f"prevact.{key}"], key)
            assert_exact(data[key][:, -1], g[f"carry_after.prevact.{key}"], key)
        if context:
            assert_exact(data["stepid"][:, context:], g["replay.stepid"], "stepid")


def _normalisers(agent, arrays):
    """Running statistics by their golden names; zeros where there are none yet."""
    found = agent.dreamer.behavior.initial_normalisers()
    for name, theirs in NORMS.items():
        if name in found and arrays is not None:
            kind = "percentiles" if f"state_after.{theirs}.lo" in arrays else "mean_std"
            parts = ("lo", "hi") if kind == "percentiles" else ("mean", "sqrs")
            values = [
                jnp.asarray(arrays.get(f"state_after.{theirs}.{part}", 0.0), jnp.float32)
                for part in (*parts, "corr")
            ]
            found[name] = Spread(*values)
    return found | {"vectors": {}}


@pytest.mark.parametrize("file", FILES)
def test_three_updates(file, monkeypatch):
    play_back(monkeypatch)
    g = load(file, FOLDER_V3)
    rows = golden_weights.weights(g, "s0.in.data")
    agent = Agent(g, rows, g["s0.in.carry.stoch"])
    context = int(g["cfg.replay_context"])
    function = _compiled(agent)
    weights, before = golden_weights.weights(g, "w"), None
    for number in range(3):
        with every_array(g.case(f"s{number}")) as case:
            update = Update(agent, case, before, context)
            arguments = (
                agent.load(weights), _normalisers(agent, before), jnp.int32(number),
                (case["in.gumbel_post"], None), update.imagination, update.batch,
                update.start,
            )  # fmt: skip
            terms, found, jacobian, embed = function(*arguments)
            _check_model(agent, case, found, embed)
            _check_imagined(agent, update, arguments[0], found)
            _check_terms(agent, case, terms, jacobian)
            _check_counted(case, found.imagined.normalisers)
            weights = _check_step(agent, case, weights, before, number)
            _check_metrics(case, terms, found)
        before = case


def _compiled(agent):
    """``(...) -> loss terms, what was found, the terms' gradients, embedding``, compiled."""
    dreamer = agent.dreamer
    names = ("world_model", "actor", "critic")

    def function(params, *rest):
        def terms(trained):
            total, found = dreamer.joint_loss(trained, params, *rest)
            return found.terms | {"total": total}, found

        values, backward, found = jax.vjp(
            terms, {name: params[name] for name in names}, has_aux=True
        )
        # One after the other: XLA 0.10.2 on a CPU gets the gradient of a norm wrong where it is
        # compiled for several cotangents at once, as by jax.jacrev.
        units = dict(zip(values, jnp.eye(len(values)), strict=True))
        each = jax.lax.map(lambda unit: backward(unit)[0], units)
        jacobian = {name: jax.tree.map(lambda x, i=i: x[i], each) for i, name in enumerate(values)}
        return values, found, jacobian, found.losses.embed

    return jax.jit(function)


def _check_model(agent, g, found, embed):
    states = found.losses.observed.states
    both = len({spec.kind for spec in agent.specs.values()}) == 2
    units = agent.config.world_model.encoder.units if both else 0
    assert_values(embed, images_first(g["tokens"], units), "tokens")
    for name in ("deter", "stoch"):
        got = getattr(states, name)
        check = assert_exact if name == "stoch" else assert_values
        check(got, g[f"repfeat.{name}"], f"repfeat.{name}")
        if f"replay.dyn.{name}" in g:
            check(got, g[f"replay.dyn.{name}"], f"replay.dyn.{name}")
        check(got[:, -1], g[f"carry_after.{name}"], f"carry_after.{name}")
    unimix = agent.config.world_model.rssm.unimix
    probs = jax.nn.softmax(g["repfeat.logit"])
    mixed = (1 - unimix) * probs + unimix / probs.shape[-1]
    assert_values(jax.nn.softmax(found.losses.observed.posterior.logits), mixed, "posterior")
    for name, term in found.losses.terms.items():
        theirs = {ours: theirs for theirs, ours in TERMS.items()}.get(name, name)
        assert_values(term, g[f"losses.{theirs}"], f"losses.{theirs}")


def _check_imagined(agent, update, params, found):
    """Trajectories ``[N, H + 1]``: features, actions, predictions, policies and returns."""
    g, dreamer, imagined = update.g, agent.dreamer, found.imagined
    swap = lambda x: np.swapaxes(np.asarray(x), 0, 1)  # noqa: E731
    features = swap(imagined.trajectory.features)
    deter, stoch = np.split(g["img.feat"], [agent.deter], -1)
    assert_values(features, np.concatenate([stoch, deter], -1), "img.feat")
    features = jnp.asarray(features)
    policy = dreamer.networks.policy(params["actor"], features)
    actions = swap(imagined.trajectory.actions[1:])
    want = flat_actions(agent.actions, golden_weights.weights(g, "img.act"))
    assert_values(actions, want[:, :-1], "img.act")
    last = jax.tree.map(lambda x: x[:, -1], policy).sample(update.last_noise)
    assert_values(last, want[:, -1], "img.act, the last")
    for part, spec in zip(policy.parts, agent.actions.parts, strict=True):
        key = spec.path[0]
        if spec.kind == "categorical":
            assert_values(part.logits, g[f"img.policy.{key}.logits"], key)
        else:
            assert_values(part.loc, g[f"img.policy.{key}.mean"], key)
            assert_values(part.std, g[f"img.policy.{key}.std"], key)
    assert_values(swap(imagined.reward), g["img.rew"], "img.rew")
    model = agent.config.world_model
    factor = 1.0 if model.soft_discount else model.discount_factor
    assert_values(swap(imagined.discount) / factor, g["img.con"], "img.con")
    assert_values(swap(imagined.target), g["img.ret"], "img.ret")
    for name, theirs in (("critic", "value"), ("slow_critic", "slow_value")):
        got = dreamer.networks.value(params[name], features).mean()
        assert_values(got, g[f"img.{theirs}"], theirs)
    _check_replayed(agent, update, params, found)


def _check_replayed(agent, update, params, found):
    g, model = update.g, agent.config.world_model
    shape = g["rep.boot"].shape
    rows = {key: np.swapaxes(x[:, -shape[1] :], 0, 1) for key, x in update.batch.items()}
    returns = replay_returns(
        rows["reward"], g["rep.boot"].T, rows["is_last"], rows["is_terminal"],
        discount_factor=model.discount_factor, lambda_=agent.config.behavior.lambda_,
    )  # fmt: skip
    assert_values(returns.target.T, g["rep.ret"], "rep.ret")
    assert_values(found.imagined.target[0].reshape(shape), g["rep.boot"], "rep.boot")
    states = jax.tree.map(lambda x: x[:, -shape[1] :], found.losses.observed.states)
    features = agent.dreamer.model.feature(params["world_model"], states)
    value = agent.dreamer.networks.value(params["critic"], features).mean()
    assert_values(value, g["rep.value"], "rep.value")


def _check_terms(agent, g, terms, jacobian):
    """Every loss by name, and the gradients of each, where they are recorded, and of the sum."""
    assert_values(terms["total"], g["loss"], "loss")
    wanted = {name.split(".")[1] for name in g if name.startswith("losses.")}
    assert {TERMS.get(name, name) for name in wanted} == set(terms) - {"total"}
    for name in wanted:
        assert_values(terms[TERMS.get(name, name)], g[f"losses.{name}"].mean(), name)
    for prefix in ("grad", *(f"term_grad.{name}" for name in sorted(wanted))):
        golden = golden_weights.weights(g, prefix)
        if not golden:
            assert not any(name.startswith("term_grad") for name in g)
            continue
        key = "total" if prefix == "grad" else TERMS.get(prefix[10:], prefix[10:])
        parts = jacobian[key]
        got = golden_weights.flatten(
            {**parts["world_model"], "actor": parts["actor"], "critic": parts["critic"]}
        )
        want = agent.ours(golden)
        assert want.keys() <= got.keys()
        for name, gradient in got.items():
            assert_gradients(gradient, want.get(name, np.zeros_like(gradient)), f"{key} {name}")


def _check_counted(g, normalisers):
    for name, theirs in NORMS.items():
        if name in normalisers:
            for parts in (("lo", "hi", "corr"), ("mean", "sqrs", "corr")):
                for part, got in zip(parts, normalisers[name], strict=True):
                    if f"state_after.{theirs}.{part}" in g:
                        assert_elementwise(got, g[f"state_after.{theirs}.{part}"], part)


def _check_step(agent, g, weights, before, number):
    """The optimizer's step from the recorded gradient, and the slow critic; returns the weights."""
    slow = {name: x for name, x in weights.items() if name.startswith("slowval.")}
    params = {name: x for name, x in weights.items() if name not in slow}
    chain = gradient_transformation(agent.config.model_opt)
    state = chain.init(params)
    if before is not None:
        moments = {k: golden_weights.weights(before, f"opt_after.{k}") for k in ("nu", "mu")}
        state = optax.tree.set(state, count=jnp.int32(number), **moments)
    grads = golden_weights.weights(g, "grad")
    grads = {name: grads.get(name, np.zeros_like(x)) for name, x in params.items()}
    steps, state = jax.jit(chain.update)(grads, state, params)
    after = golden_weights.weights(g, "w_after")
    for name, step in steps.items():
        error = np.abs(params[name] + step - after[name])
        assert (error <= 2e-6 + 3e-7 * np.abs(after[name])).all(), f"{name} after {number}"
    for kind in ("nu", "mu"):
        moments = optax.tree.get(state, kind)
        for name, want in golden_weights.weights(g, f"opt_after.{kind}").items():
            error = np.abs(moments[name] - want).max()
            assert error <= 5e-4 * np.abs(want).max() + 1e-12, f"{kind} {name}"
    critic = {name.removeprefix("val."): after[name] for name in after if name[:4] == "val."}
    slow = {name.removeprefix("slowval."): x for name, x in slow.items()}
    copied = slow_copy(slow, critic, jnp.int32(number), agent.config.behavior)
    for name, want in copied.items():
        np.testing.assert_allclose(want, after[f"slowval.{name}"], rtol=3e-7, atol=2e-6)
    return after


def _check_metrics(g, terms, found):
    """Means that the reference reports of what was compared above."""
    observed = found.losses.observed
    means = {f"loss.{name}": terms[TERMS.get(name, name)] for name in _reported(g)}
    means |= {
        "opt.loss": terms["total"], "dyn_ent": observed.prior.entropy().mean(),
        "rep_ent": observed.posterior.entropy().mean(), "rew": found.imagined.reward.mean(),
    }  # fmt: skip
    grads = golden_weights.weights(g, "grad")
    if "metrics.opt.grad_norm" in g:
        means["opt.grad_norm"] = optax.tree.norm(grads)
    g.used |= {name for name in g if name.startswith(tuple(f"metrics.{x}" for x in REPORTED))}
    for name, got in means.items():
        assert_values(got, g[f"metrics.{name}"], f"metrics.{name}")


def _reported(g):
    """Losses whose means are recorded."""
    return [name[13:] for name in g if name.startswith("metrics.loss.")]
