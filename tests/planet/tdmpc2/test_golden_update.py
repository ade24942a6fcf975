"""Whole updates of TD-MPC2 against the numbers of the public code, some one after the other.

Each begins with the recorded weights, and an optimizer's steps are compared from the recorded
gradients too.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planet.tdmpc2.losses import make_window
from tests import golden_tdmpc2_agent as agents
from tests.golden_checks import record_gradients, updates
from tests.golden_data import (
    FOLDER_TDMPC2,
    assert_gradients,
    assert_values,
    every_array,
    load,
)
from tests.golden_weights import weights

FILES = ("update", "update_clip", "update_episodic", "update_pixels", "update_multitask")
ZERO_GRADIENT = "encoder.conv3.bias"
"""What moves whole groups of SimNorm: its gradient is rounding, of which Adam makes steps."""
METRICS = {
    "total_loss": "model/loss",
    "consistency_loss": "model/consistency_loss",
    "reward_loss": "model/reward_loss",
    "value_loss": "model/value_loss",
    "termination_loss": "model/termination_loss",
    "termination_rate": "model/termination_rate",
    "termination_f1": "model/termination_f1",
    "grad_norm": "model/grad_norm",
    "pi.loss": "policy/loss",
    "pi.grad_norm": "policy/grad_norm",
}
"""Our metrics by golden name."""


def check_weights(got, want, limit):
    for name, value in got.items():
        allowed = 2e-4 if name == ZERO_GRADIENT else limit
        difference = np.abs(value - want[name]).max()
        assert difference <= allowed, f"{name}: differs by {difference:.3g}"


def after(state):
    target = {f"target_{name}": x for name, x in agents.named({"q": state.target_q}).items()}
    return agents.named(state.params) | target


def check_found(g, found, latent):
    """Everything on the way of an update, by golden name."""
    model, (draw, value, scale) = found.model, found.policy
    column = lambda x: x[..., None]  # noqa: E731
    got = {
        "next_z": found.next_z[..., :latent],
        "td_targets": column(found.target),
        "zs": model.states[..., :latent],
        "q_logits": model.value.logits,
        "reward_logits": model.reward.logits,
        "pi.action": draw.action,
        "pi.mean": draw.mean,
        "pi.log_std": draw.log_std,
        "pi.scaled_entropy": column(draw.scaled_entropy),
        "pi.q": column(value),
        "pi.q_scaled": column(value / scale),
        "pi.scale": scale[None],
    }
    got |= {} if model.termination is None else {"termination_logits": column(model.termination)}
    for name, value in got.items():
        assert_values(value, g[name], name)
    # Some actions are near 1, where float32 knows little of the slope of the tanh.
    entropy = g["pi.entropy"]
    limit = 2e-4 * np.abs(entropy).max() + 1e-6
    np.testing.assert_allclose(column(-draw.log_prob), entropy, rtol=0, atol=limit)


def check_gradients(g, metrics):
    got = agents.named(metrics["model/gradients"])
    got |= agents.named({"policy": metrics["policy/gradients"]})
    for name, value in got.items():
        if name == ZERO_GRADIENT:
            assert max(np.abs(value).max(), np.abs(g[f"grad.{name}"]).max()) < 1e-6
        else:
            assert_gradients(value, g[f"grad.{name}"], name)


@pytest.mark.parametrize("name", FILES)
def test_updates(name):
    g = load(name, FOLDER_TDMPC2)
    golden = agents.Golden.of_file(g, "s0.in.obs")
    learner = record_gradients(agents.learner(golden))
    update, begin = jax.jit(learner.update_with_noise), jax.jit(learner.init)
    params, target_q = golden.load("w")
    state = begin(jax.random.key(0))
    state = state._replace(params=params, target_q=target_q, scale=jnp.asarray(g["in.scale"][0]))
    for step in updates(g):
        with every_array(g.case(f"s{step}")) as now:
            state, metrics, found = update(
                state, agents.noise(now, "in."), agents.rows(now, "in.", golden.tasks)
            )
            check_found(now, found, golden.config.latent)
            if not golden.config.terminations:
                metrics["model/termination_loss"] = 0
            for theirs in METRICS.keys() & now.keys():
                assert_values(metrics[METRICS[theirs]], now[theirs], theirs)
            check_gradients(now, metrics)
            check_weights(after(state), weights(now, "w_after"), 2e-6)
            mark_term_gradients(now)
        params, target_q = golden.load(f"s{step}.w_after")
        state = state._replace(params=params, target_q=target_q)


def mark_term_gradients(now):
    """The gradients of single terms are for ``test_gradients_of_single_losses``."""
    now.used |= {name for name in now if name.startswith("term_grad.")}


@pytest.mark.parametrize("name", FILES)
def test_optimizers_alone(name):
    """Two Adams with an epsilon of their own, clipping, and the rate of the encoder."""
    g = load(name, FOLDER_TDMPC2)
    golden = agents.Golden.of_file(g, "s0.in.obs")
    optimizers = agents.learner(golden).optimizers
    params, _ = golden.load("w")

    def split(tree):
        return {"model": {k: x for k, x in tree.items() if k != "policy"}, "policy": tree["policy"]}

    states = {part: optimizers[part].init(x) for part, x in split(params).items()}
    steps = {part: jax.jit(optimizer.update) for part, optimizer in optimizers.items()}
    for step in updates(g):
        grads, result = split(golden.load(f"s{step}.grad")[0]), {}
        rows = agents.rows(g, f"s{step}.in.", golden.tasks)
        for part, before in split(golden.networks.limit(params, rows)).items():
            after, states[part], metrics = steps[part](grads[part], states[part], before)
            norm = g[f"s{step}.{'pi.' if part == 'policy' else ''}grad_norm"]
            assert_values(metrics["grad_norm"], norm, part)
            result |= after if part == "model" else {"policy": after}
        result = golden.networks.limit(result, rows)
        check_weights(agents.named(result), weights(g, f"s{step}.w_after"), 3e-7)
        params, _ = golden.load(f"s{step}.w_after")


def test_gradients_of_single_losses():
    g = load("update_episodic", FOLDER_TDMPC2)
    golden = agents.Golden.of_file(g, "s0.in.obs")
    losses, params = agents.learner(golden).losses, golden.load("w")[0]
    window = make_window(agents.rows(g, "s0.in."), golden.config.horizon)
    noise = agents.noise(g, "s0.in.")

    def terms(params):
        next_z, target = g["s0.next_z"], g["s0.td_targets"][..., 0]
        return losses.model(params, window, next_z, target, noise)[1].terms

    terms = jax.jit(jax.jacrev(terms))(params)
    assert {f"{name}_loss" for name in terms} == {
        name.split(".")[2] for name in g if name.startswith("s0.term_grad.")
    }
    for term, grads in terms.items():
        want = weights(g, f"s0.term_grad.{term}_loss")
        for name, value in agents.named(grads).items():
            if name in want:
                assert_gradients(value, want[name], f"{term} {name}")
            else:
                assert not value.any(), f"{term} {name} is zero in the reference"
