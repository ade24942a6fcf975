"""Successive updates of the world model against DreamerV2's numbers."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from common.dynamics.rssm import RSSMState
from common.model.losses import targets
from dreamer.agent import Noise
from tests import golden_data, golden_weights
from tests.golden_checks import (
    batch_of,
    blank_state,
    check_gradients,
    check_losses,
    check_metrics,
    check_weights,
    latent_noise,
    record_gradients,
    specs_of,
    updates,
)
from tests.golden_data import assert_values

FILES = ("wm_step_discrete", "wm_step_gaussian")


@pytest.mark.parametrize("file", FILES)
def test_three_updates(file):
    with golden_data.every_array(golden_data.load(file)) as g:
        batch = batch_of(g, "in")
        order = golden_weights.vector_order(g)
        discrete = bool(np.isin(batch["action"], (0, 1)).all())
        actions = golden_weights.action_spec(batch["action"].shape[-1], discrete)
        dreamer = record_gradients(golden_weights.agent(g, specs_of(batch), actions))
        _check_targets(g, dreamer.model.config, batch)
        state = blank_state(dreamer)
        golden = golden_weights.weights(g, "w")
        like = state.params["world_model"]
        assert golden_weights.flatten(like).keys() == golden.keys()
        update = jax.jit(dreamer.update_model)
        start = dreamer.model.initial(len(batch["reward"]))
        for step in updates(g):
            prefix = f"s{step}."
            params = golden_weights.load(golden, like, order)
            state = state._replace(params=state.params | {"world_model": params})
            noise = latent_noise(g, prefix, "post_stoch", "post_logit", "post_gumbel")
            after, metrics, losses = update(state, Noise(noise, None), batch, start)
            check_gradients(g, f"{prefix}grad.", metrics["world_model/gradients"], order)
            check_losses(g, prefix, dreamer, params, losses)
            check_metrics(g, prefix, metrics)
            check_weights(g, f"{prefix}w_after", after.params["world_model"], order)
            _check_terms(g, prefix, dreamer.model, (params, noise, batch, start), order)
            _check_heads(g, prefix, dreamer.model, params, losses)
            state = state._replace(optimizers=after.optimizers)
            golden = golden_weights.weights(g, f"{prefix}w_after")
            start = RSSMState(g[f"{prefix}deter"][:, -1], g[f"{prefix}post_stoch"][:, -1])


def _check_targets(g, config, batch):
    got = targets(config, batch)
    for name, want in golden_weights.weights(g, "pre").items():
        key = name.removesuffix("_first")
        assert_values(got[key] if key == name else got[key][0, 0], want, f"pre.{name}")


def _means(losses):
    return {name: term.mean() for name, term in losses.terms.items()}


def _check_terms(g, prefix, model, arguments, order):
    """Compares the gradient of every unscaled loss term alone, where they are recorded."""
    if not golden_weights.weights(g, f"{prefix}term_grad"):
        return
    terms = jax.jit(jax.jacrev(lambda *a: _means(model.losses(*a))))(*arguments)
    for term, gradient in terms.items():
        check_gradients(g, f"{prefix}term_grad.{term}.", gradient, order)


def _check_heads(g, prefix, model, params, losses):
    """Compares the heads' means, where they are recorded."""
    if f"{prefix}reward_mean" not in g:
        return
    states = losses.observed.states
    feature = model.feature(params, states)
    assert_values(model.reward(params, feature).mean(), g[f"{prefix}reward_mean"], "reward_mean")
    if f"{prefix}discount_mean" in g:
        discount = model.discount(params, feature).mean()
        assert_values(discount, g[f"{prefix}discount_mean"], "discount_mean")
    for key, mean in jax.jit(model.decode)(params, states).items():
        name = f"{prefix}decoder_mean_{key}"
        if model.observations[key].kind == "image":
            assert_values(mean[0, 0] - 0.5, g[f"{name}_first"], name)
        else:
            assert_values(mean, g[name], name)
