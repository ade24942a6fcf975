"""Whole updates and acting of Dreamer against DreamerV2's numbers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.dynamics.rssm import RSSMState
from common.model.memory import LatentMemory
from dreamer.acting import ActNoise
from dreamer.agent import Noise
from tests import golden_data, golden_weights
from tests.golden_checks import (
    batch_of,
    behavior_noise,
    blank_state,
    check_behavior,
    check_gradients,
    check_losses,
    check_metrics,
    check_weights,
    latent_noise,
    record_gradients,
    specs_of,
    updates,
)
from tests.golden_data import assert_exact, assert_values, uniforms_for

FILE = "agent_step"
GOLDEN = golden_data.load(FILE)
MODES = sorted({name.split(".")[1] for name in GOLDEN if name.startswith("policy.")} - {"in"})


def _scope(*prefixes):
    """The arrays under some prefixes, weights and configuration."""
    prefixes = ("w.", "cfg.", *prefixes)
    return golden_data.Arrays({k: x for k, x in GOLDEN.items() if k.startswith(prefixes)})


def _dreamer(g):
    """Dreamer of the golden configuration, and a first state with the initial weights."""
    batch = batch_of(GOLDEN, "s0.in")
    discrete = "w.actor.std.bias" not in g
    actions = golden_weights.action_spec(batch["action"].shape[-1], discrete)
    dreamer = record_gradients(golden_weights.agent(g, specs_of(batch), actions))
    return dreamer, _with_weights(g, blank_state(dreamer), golden_weights.weights(g, "w"))


def _with_weights(g, state, golden):
    parts = golden_weights.components(state.params)
    assert golden_weights.flatten(parts).keys() == golden.keys()
    parts = golden_weights.load(golden, parts, golden_weights.vector_order(g))
    return state._replace(params=golden_weights.agent_params(parts))


def test_two_updates():
    with golden_data.every_array(_scope("s")) as g:
        dreamer, state = _dreamer(g)
        order = golden_weights.vector_order(g)
        update = jax.jit(dreamer.update_with_noise)
        golden = golden_weights.weights(g, "w")
        start = None
        for step in updates(g):
            prefix = f"s{step}."
            batch = batch_of(g, f"{prefix}in")
            if start is None:
                start = dreamer.model.initial(len(batch["reward"]))
            before = _with_weights(g, state, golden)
            posterior = "post_stoch", "post_logit", "post_gumbel"
            noise = Noise(
                latent_noise(g, f"{prefix}wm.", *posterior),
                behavior_noise(g, f"{prefix}ac.", dreamer, before.params),
            )
            state, metrics, (losses, behavior) = update(before, noise, batch, start)
            _check_update(g, prefix, dreamer, (before, state), (metrics, losses, behavior), order)
            golden = golden | golden_weights.weights(g, f"{prefix}wm.w_after")
            golden = golden | golden_weights.weights(g, f"{prefix}ac.w_after")
            start = RSSMState(g[f"{prefix}wm.deter"][:, -1], g[f"{prefix}wm.post_stoch"][:, -1])


def _check_update(g, prefix, dreamer, states, results, order):
    before, after = states
    metrics, losses, behavior = results
    check_gradients(g, f"{prefix}wm.grad.", metrics["world_model/gradients"], order)
    gradients = {name: metrics[f"{name}/gradients"] for name in ("actor", "critic")}
    check_gradients(g, f"{prefix}ac.grad.", gradients)
    check_losses(g, f"{prefix}wm.", dreamer, before.params["world_model"], losses)
    # Imagination uses the new world model.
    check_behavior(g, f"{prefix}ac.", dreamer, after.params, behavior)
    check_metrics(g, f"{prefix}wm.", metrics)
    check_metrics(g, f"{prefix}ac.", metrics, dreamer.behavior.mix(before.updates))
    parts = golden_weights.components(after.params)
    check_weights(g, f"{prefix}wm.w_after", parts, order)
    check_weights(g, f"{prefix}ac.w_after", parts, order)


@pytest.mark.parametrize("mode", MODES)
def test_acting(mode):
    with golden_data.every_array(_scope(f"policy.{mode}.", "policy.in.")) as g:
        dreamer, state = _dreamer(g)
        params = state.params
        rows = golden_weights.weights(g, "policy.in")
        calls = golden_weights.weights(g, f"policy.{mode}")
        carry = dreamer.acting.initial_carry(rows["is_first"].shape[1])
        act = jax.jit(dreamer.acting.act_with_noise, static_argnames="mode")
        infer = jax.jit(dreamer.model.losses)
        for call in range(len(rows["is_first"])):
            observation = {key: x[call] for key, x in rows.items()}
            want = {key: x[call] for key, x in calls.items()}
            noise = _act_noise(want)
            action, new = act(params, noise, carry, observation, mode=mode)
            assert_values(new.state.deter, want["deter"], f"deter {call}")
            _compare_action(action, want)
            got = _distributions(dreamer, params, infer, carry, observation, noise, new.state)
            for name, value in got.items():
                assert_values(value, want[name], f"{name} {call}")
            carry = LatentMemory(RSSMState(want["deter"], want["post_stoch"]), want["action"])


def _act_noise(want):
    """Noise that reproduces the recorded sample and action of one call."""
    latent = latent_noise(want, "", "post_stoch", "post_logit", "post_gumbel")
    # The prior's sample is drawn by the reference but takes no part in acting.
    assert np.isfinite(want.get("prior_gumbel", want.get("prior_eps"))).all()
    action = want["action"]
    if "action_gumbel" in want:
        winner = (want["action_logits"] + want["action_gumbel"]).argmax(-1)
        assert_exact(winner, action.argmax(-1), "action")
        action = uniforms_for(action, want["action_logits"])[..., None]
    elif "action_u" in want:
        action = want["action_u"]
    return ActNoise(latent, action, np.zeros_like(action))


def _compare_action(action, want):
    discrete = "action_logits" in want
    (assert_exact if discrete else assert_values)(action, want["action"], "action")


def _distributions(dreamer, params, infer, carry, observation, noise, state):
    """Statistics of the latent and of the policy at one call, by golden name."""
    rows = {**observation, "action": carry.action}
    zeros = jnp.zeros(len(carry.action))
    rows |= {"reward": zeros, "is_terminal": zeros, "is_last": zeros}
    rows = jax.tree.map(lambda x: x[:, None], rows)
    losses = infer(params["world_model"], noise.latent[:, None], rows, carry.state)
    policy = dreamer.networks.policy(
        params["actor"], dreamer.model.feature(params["world_model"], state)
    ).parts[0]
    logits = jax.tree.map(lambda x: x[:, 0], losses.observed.posterior)
    return {"post_logit": logits.logits, "action_logits": policy.logits,
            "post_stoch": state.stoch}  # fmt: skip
